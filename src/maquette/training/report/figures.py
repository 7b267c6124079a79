"""The figures of a run as people read them: numbers, durations, and which are results at all."""

import re
from collections.abc import Mapping
from numbers import Real
from typing import Any

EVALUATION = "eval_"
# What an entry tells besides results: where the run was, and how the computing went. Transformers' names.
POSITION = {"step", "epoch", "num_input_tokens_seen", "total_flos"}
COMPUTING = re.compile(r"_(runtime|samples_per_second|steps_per_second|compilation_time|preparation_time)$")


def read_results(entry: Mapping[str, Any]) -> dict[str, float]:
    """Pick the results of one entry of a log; none are in the one that sums up the whole training."""
    return {
        name: float(value)
        for name, value in entry.items()
        if isinstance(value, Real) and name not in POSITION and not COMPUTING.search(name)
        if "train_runtime" not in entry
    }


def show_number(value: Any) -> str:
    """Write a number with at least four significant digits, such as `0.01235`, `5e-5` or `12,346`."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return str(value)
    number = float(value)
    if (number.is_integer() and abs(number) < 1e9) or 1000 <= abs(number) < 1e9:
        return f"{number:,.0f}"
    text = f"{number:.4g}"
    return {"nan": "NaN", "inf": "∞", "-inf": "-∞"}.get(text) or re.sub(r"e([+-])0*", _exponent, text)


def show_duration(seconds: float) -> str:
    """Write seconds as hours, minutes and seconds, such as `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _exponent(found: re.Match[str]) -> str:
    return "e-" if found[1] == "-" else "e"
