"""What stands for a value of a configuration: in a file, in print, in a comparison, and where it is made again."""

from typing import Any

from maquette.errors import SaveError
from maquette.storage.json_values import refuse, to_plain


def is_configuration(value: Any) -> bool:
    """Tell a nested configuration from other values."""
    return hasattr(value, "to_diff_dict") and not isinstance(value, type)


def saved(value: Any, name: str) -> Any:
    """Give what stands in a file for what is no plain data, or raise SaveError."""
    return value._nested(saved) if is_configuration(value) else refuse(value, name)


def shown(value: Any, name: str) -> Any:
    """Give what is printed for it."""
    return value._nested(shown) if is_configuration(value) else repr(value)


def as_read(value: Any, name: str) -> Any:
    """Give it as a file's content would have it, where JSON can hold it."""
    return value._nested(as_read) if is_configuration(value) else value


def compared(value: Any, name: str) -> Any:
    """Give what makes it equal to another."""
    return {"class": type(value).__qualname__, **value._content()} if is_configuration(value) else repr(value)


def is_plain(value: Any) -> bool:
    """Tell whether a file can hold a value."""
    try:
        to_plain(value, "", saved)
    except SaveError:
        return False
    return True
