"""What was wrong with the inputs of a call, looked for after torch failed: a call that works pays nothing for it."""

import inspect
import types
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from maquette.errors import InputError, did_you_mean

Given = Mapping[str, Any]

# The functions of torch that read by index, what they call their indices, and the axis of what is read.
_READERS = {"embedding": ("input", "weight"), "cross_entropy": ("target", "input"), "nll_loss": ("target", "input")}
# The fields of a configuration that such sizes come from, for tables and for scores.
_TABLES, _SCORES = ("vocab_size", "max_position_embeddings", "type_vocab_size"), ("num_labels", "vocab_size")
_ASSERT = (
    "CUDA stopped at an assertion, usually for an id outside of the vocabulary or a label outside of num_labels, and "
    "answers nothing more in this process. The same call in a fresh process on the CPU names the value."
)


def explain(model: nn.Module, error: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]) -> InputError | None:
    """Find out which input made a call fail; None where it was something else.

    Args:
        model: what was called.
        error: how it failed.
        args, kwargs: what it was called with.
    """
    cause = getattr(error, "_cause", error)  # of a model inside this one, which has explained it already
    name, said = type(model).__name__, str(cause)
    given = dict(zip(inspect.signature(model.forward).parameters, args, strict=False)) | kwargs
    if "device-side assert" in said:
        found: str | None = f"{name}: {_ASSERT}"
    elif found := _find_unknown(model, said, kwargs):
        found = f"{name} takes no argument {found}"
    else:
        found = _find_unfit(given, said) or _find_foreign(given, cause) or _find_index(model, given, cause)
        found = found or _find_device(model, given, said) or _find_type(model, given, said)
        found = found and f"{name}: {found}"
    if found is None:
        return None
    explained = InputError(found)
    explained._cause = cause  # type: ignore[attr-defined]
    return explained


def _find_unknown(model: nn.Module, said: str, kwargs: Given) -> str | None:
    """Look for a keyword that neither the model nor its base model takes."""
    wrong = said.rpartition("unexpected keyword argument ")[2].split("'")[1:2] if "keyword argument" in said else []
    if not wrong or wrong[0] not in kwargs:
        return None
    models = [model, base] if (base := getattr(model, "base_model", model)) is not model else [model]
    names = {type(m).__name__: _named(m) for m in models}
    if any(wrong[0] in known for known in names.values()):
        return None
    nearest = did_you_mean(wrong[0], {known for own in names.values() for known in own})
    listed = " ".join(f"{kind} takes {', '.join(known)}." for kind, known in names.items())
    return f"{wrong[0]!r}.{nearest} {listed}"


def _named(model: nn.Module) -> list[str]:
    parameters = inspect.signature(model.forward).parameters.values()
    return [p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]


def _find_unfit(given: Given, said: str) -> str | None:
    """Name the input whose shape is not that of the batch."""
    if not (said.startswith("The batch is (batch, length)") and said.endswith("does not fit.")):
        return None
    shape = said.rpartition("a tensor of ")[2].removesuffix(" does not fit.")
    name = next((n for n, v in given.items() if isinstance(v, Tensor) and str(tuple(v.shape)) == shape), None)
    return name and f"{name} has the shape {shape}, but the batch {said.removeprefix('The batch ').partition(';')[0]}."


def _find_foreign(given: Given, error: Exception) -> str | None:
    """Look for lists, arrays and whole batches where torch wanted a tensor."""
    if not isinstance(error, TypeError | AttributeError):
        return None
    for name, value in given.items():
        kind = type(value).__name__
        if isinstance(value, Mapping):
            return f"{name} is a {kind}; a model takes what is in it, by name: model(**batch)."
        if isinstance(value, Tensor | bool | int | float | None) or kind not in str(error):
            continue
        if isinstance(value, str):
            return f"{name} is text; a tokenizer makes tensors of it: model(**tokenizer(text, return_tensors='pt'))."
        if isinstance(value, list | tuple) and any(isinstance(item, Tensor) for item in value):
            return f"{name} is a {kind} of tensors; make one of them: torch.stack({name})."
        return f"{name} is a {kind}, not a tensor: give torch.tensor({name}), or ask for return_tensors='pt'."
    return None


class _Read(NamedTuple):
    """An operation that read by index, and failed."""

    indices: Tensor
    size: int
    ignored: int | None
    frame: types.FrameType


def _find_index(model: nn.Module, given: Given, error: Exception) -> str | None:
    """Look for ids and labels that are out of range, or no whole numbers."""
    read = next(_reads(error), None)
    if read is None or read.indices.is_meta:
        return None
    if read.indices.is_floating_point():
        name = next((n for n, value in given.items() if _is_like(value, read.indices)), None)
        return name and f"{name} is {_type(read.indices)}; these are whole numbers: give {name}.long()."
    wrong = _outside(read.indices, read)
    if not len(wrong):
        return None
    bad, size = read.indices[tuple(wrong[0])], read.size
    whole = {n: v for n, v in given.items() if isinstance(v, Tensor) and not v.is_floating_point() and bad in v}
    if not whole:
        return f"index {bad.item()} was asked for where there are {size}{_origin(model, read)}."
    name = next((n for n, v in whole.items() if torch.equal(v, read.indices)), next(iter(whole)))
    places = _outside(whole[name], read)
    more = f" (and {len(places) - 1} more)" if len(places) > 1 else ""
    place, value = ", ".join(map(str, places[0].tolist())), whole[name][tuple(places[0])].item()
    return f"{name}[{place}] is {value}{more}; it has to be from 0 to {size - 1}{_origin(model, read)}."


def _reads(error: Exception) -> Iterator[_Read]:
    """Give the operation in which torch failed, if it is one that reads by index."""
    trace = error.__traceback__
    while trace is not None:
        frame, trace = trace.tb_frame, trace.tb_next
        code, held = frame.f_code, frame.f_locals
        if code.co_name not in _READERS or not code.co_filename.endswith("functional.py"):
            continue
        indices, table = (held.get(name) for name in _READERS[code.co_name])
        if isinstance(indices, Tensor) and isinstance(table, Tensor):
            axis = 1 if code.co_name != "embedding" and table.ndim > 1 else 0
            yield _Read(indices, table.shape[axis], held.get("ignore_index"), frame)


def _outside(values: Tensor, read: _Read) -> Tensor:
    """Give the places of the values that are out of range, `(count, axes)`."""
    outside = (values < 0) | (values >= read.size)
    return (outside & (values != read.ignored) if read.ignored is not None else outside).nonzero()


def _origin(model: nn.Module, read: _Read) -> str:
    """Say where a size comes from: a field of the configuration, a module."""
    config, table = getattr(model, "config", None), read.frame.f_locals.get("weight")
    modules = [n for n, m in model.named_modules() if isinstance(m, nn.Embedding) and m.weight is table]
    known = _TABLES if modules else _SCORES
    field = next((f" (config.{name})" for name in known if getattr(config, name, None) == read.size), "")
    return f", the rows of {modules[0]}{field}" if modules else field


def _find_device(model: nn.Module, given: Given, said: str) -> str | None:
    """Look for an input that lies somewhere else than the model."""
    if "same device" not in said and "expected device" not in said:
        return None
    place = next((p.device for p in model.parameters()), None)
    apart = [(name, v.device) for name, v in given.items() if isinstance(v, Tensor) and place and v.device != place]
    return (
        f"{apart[0][0]} is on {apart[0][1]}, the model on {place}: give {apart[0][0]}.to(model.device)."
        if apart
        else None
    )


def _find_type(model: nn.Module, given: Given, said: str) -> str | None:
    """Look for an input of another floating-point type than the weights."""
    if not any(words in said for words in ("same dtype", "same datatype", "should be the same", "scalar type")):
        return None
    kinds = {p.dtype for p in model.parameters() if p.is_floating_point()}
    for name, value in given.items():
        if isinstance(value, Tensor) and value.is_floating_point() and len(kinds) == 1 and value.dtype not in kinds:
            own = str(*kinds).removeprefix("torch.")
            return (
                f"{name} is {_type(value)}, but the weights are {own}: give {name}.to(model.dtype), or call the model "
                f"under torch.autocast."
            )
    return None


def _is_like(value: Any, tensor: Tensor) -> bool:
    return isinstance(value, Tensor) and value.dtype == tensor.dtype and value.numel() >= tensor.numel()


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
