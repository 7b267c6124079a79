"""Losses that are NaN or infinite: noticed at once."""

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from maquette.errors import NonFiniteError

logger = logging.getLogger(__name__)

CAUSES = (
    "Most often the learning rate is too high, a batch holds NaN or infinite values, or the model takes a logarithm, a "
    "root or a quotient at 0; torch.autograd.set_detect_anomaly(True) finds the operation."
)


class LossWatch:
    """Looks at the loss of every step.

    Args:
        action: `"warn"` once, `"stop"` the run before the weights change, or `"ignore"`.
        lags: whether a warning may come a step later, so that a device need not be waited for.
    """

    def __init__(self, action: str, *, lags: bool) -> None:
        self.action, self.lags = action, lags
        self._last: tuple[int, Tensor] | None = None

    def check(self, loss: Tensor, norm: Any, *, step: int, add_up: Callable[[Tensor], Tensor]) -> None:
        """Look at the loss of a step, and with `"stop"` at the norm of its gradient.

        Args:
            loss: this process's share.
            norm: of the gradient, or None where it is not known.
            step: its number.
            add_up: gives the sum over all processes.

        Raises:
            NonFiniteError: with `"stop"`.
        """
        if self.action == "stop":
            self._stop(loss, norm, step, add_up)
        elif self.action == "warn":
            seen, self._last = (self._last if self.lags else (step, loss)), (step, loss)
            if seen and not torch.isfinite(seen[1]):
                self.action = "ignore"
                logger.warning(
                    "The loss is %s at step %d. %s TrainingArguments(on_nan='stop') ends a run before its weights are "
                    "spoilt.",
                    float(seen[1]),
                    seen[0],
                    CAUSES,
                )

    def _stop(self, loss: Tensor, norm: Any, step: int, add_up: Callable[[Tensor], Tensor]) -> None:
        values = {"loss": float(add_up(loss.double()))}
        if norm is not None:
            values["gradient's norm"] = float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
        for name, value in values.items():
            if not abs(value) < float("inf"):
                raise NonFiniteError(
                    f"The {name} is {value} at step {step}, and on_nan='stop' ends the run. The weights are those "
                    f"of step {step - 1} still. {CAUSES}"
                )
