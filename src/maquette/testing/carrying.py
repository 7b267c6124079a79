"""State that a caller carries from one call to the next: two calls give what one call gives."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from maquette.testing.comparison import Value, compare, flatten, in_words, list_names
from maquette.testing.report import Fault, NotApplicableError, describe
from maquette.testing.subject import Subject

STATE = re.compile(r"(.+_)?(state|states|cache|caches|carry|hidden|mems|memory|past_key_values|cache_params)")
NOT_STATE = {"hidden_states", "encoder_hidden_states", "decoder_hidden_states"}
MASKS = {"attention_mask", "decoder_attention_mask"}
Arrays = dict[str, "np.ndarray[Any, Any]"]


def check_state(subject: Subject) -> Iterator[Fault]:
    """A sequence in two calls, the state of the first handed to the second, gives what it gives in one."""
    tokens, given, whole = _run_whole(subject)
    names = [name for name in _state_names(subject) if isinstance(whole, Mapping) and whole.get(name) is not None]
    if not names:
        raise NotApplicableError(
            f"{subject.method} returns no state under the name of an argument that takes it (state, cache, memory, "
            "past_key_values, …)"
        )
    length, split = tokens.shape[1], tokens.shape[1] // 2
    expected, halves = _arrays(whole), list[Arrays]()
    carried: dict[str, Any] = {}
    for part in (slice(split), slice(split, None)):
        try:
            output = subject.call(subject.model, {**_part(given, part, length), **carried})
        except Exception as error:
            yield Fault(f"{subject.method} fails on a part of the sequence, {describe(error)}", _mend(names))
            return
        halves.append(_arrays(output))
        carried = {name: output[name] for name in names if output.get(name) is not None}
    states = tuple(names)
    joined = {name: _join(name, array, halves, split=split, states=states) for name, array in expected.items()}
    found = {name: array for name, array in joined.items() if array is not None}
    if wrong := compare({name: expected[name] for name in found}, found, subject.tolerance):
        yield Fault(f"in two calls instead of one, with {list_names(names)} handed on, {in_words(wrong)}", _mend(names))


def _mend(names: list[str]) -> str:
    return f"start from {list_names(names)} where given, positions included, and return it as it is after the last step"


def _state_names(subject: Subject) -> list[str]:
    free = [name for name in subject.parameters if name not in subject.inputs and name not in NOT_STATE]
    return [name for name in free if STATE.fullmatch(name)]


def _run_whole(subject: Subject) -> tuple[Any, dict[str, Any], Any]:
    """Give the main input, all inputs, and what the model returns for them at once."""
    given = {name: value for name, value in subject.inputs.items() if name not in MASKS}  # which would not fit
    if "use_cache" in subject.parameters:
        given["use_cache"] = True
    main = given.get(subject.model_class.main_input_name, next(iter(given.values()), None))
    tokens: Any = given.get("decoder_input_ids", main)
    if not _state_names(subject) or getattr(tokens, "ndim", 0) < 2 or tokens.shape[1] < 2:
        return tokens, given, None
    return tokens, given, subject.call(subject.model, given)


def _part(given: Mapping[str, Any], part: slice, length: int) -> dict[str, Any]:
    """Cut what has an entry for every step; beside a decoder's input, that of the encoder is no sequence of steps."""
    read = [name for name in given if name.startswith("decoder_")] or [*given]
    return {
        name: value[:, part] if name in read and getattr(value, "ndim", 0) > 1 and value.shape[1] == length else value
        for name, value in given.items()
    }


def _arrays(output: Any) -> Arrays:
    return {name: np.array(Value.of(tensor).array) for name, tensor in flatten(output).items()}


def _join(
    name: str, whole: Any, halves: list[Arrays], *, split: int, states: tuple[str, ...]
) -> "np.ndarray[Any, Any] | None":
    """Give what the two calls say of an output: the last state, or step after step; None for what they cannot tell."""
    first, second = (half.get(name) for half in halves)
    if name.split(".")[0] in states:
        return second
    steps = [array.shape[1] if array is not None and array.ndim > 1 else 0 for array in (whole, first, second)]
    if first is None or second is None or steps[0] != sum(steps[1:]) or steps[1] != split:
        return None
    return np.concatenate([first, second], axis=1)
