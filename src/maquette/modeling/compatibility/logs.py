"""Logging by Transformers' names, over the standard library's."""

import functools
import logging
from logging import CRITICAL, DEBUG, ERROR, FATAL, INFO, NOTSET, WARN, WARNING
from typing import Any

__all__ = ["CRITICAL", "DEBUG", "ERROR", "FATAL", "INFO", "NOTSET", "WARN", "WARNING", "get_logger"]


class Logger(logging.LoggerAdapter[logging.Logger]):
    """A logger that can say a thing once."""

    @functools.cache  # noqa: B019 - what was said once is not said again while the process lives
    def warning_once(self, message: str, *args: Any) -> None:
        """Warn, unless the same was said before."""
        self.warning(message, *args)

    @functools.cache  # noqa: B019
    def info_once(self, message: str, *args: Any) -> None:
        """Inform, unless the same was said before."""
        self.info(message, *args)

    def warning_advice(self, message: str, *args: Any) -> None:
        """Warn."""
        self.warning(message, *args)


@functools.cache
def get_logger(name: str | None = None) -> Logger:
    """Give the logger of a module."""
    return Logger(logging.getLogger(name or "maquette"), {})


def set_verbosity(verbosity: int) -> None:
    """Set from which level on maquette logs."""
    logging.getLogger("maquette").setLevel(verbosity)


def get_verbosity() -> int:
    """Give the level from which on maquette logs."""
    return logging.getLogger("maquette").getEffectiveLevel()


def set_verbosity_error() -> None:
    """Log errors only."""
    set_verbosity(ERROR)


def set_verbosity_warning() -> None:
    """Log warnings and errors."""
    set_verbosity(WARNING)


def set_verbosity_info() -> None:
    """Log what happens, too."""
    set_verbosity(INFO)
