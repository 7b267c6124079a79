"""Functions on logits: their base class, lists of them, and how those written for padded batches see ragged rows."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from maquette.errors import InputError
from maquette.generation.ragged_ids import RaggedIds

Foreign = Callable[..., Tensor]


class LogitsProcessor:
    """A function on logits of one's own: override `__call__`, or `process`.

    `__call__(input_ids, scores)` gets rows of one length, without padding, and gives scores of the same shape: where
    rows differ in length, it is called once for each length. `process(rows, scores)` gets all of them at once.
    """

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Give the scores, `(rows, vocabulary)`, of the tokens that could follow `input_ids`, `(rows, length)`."""
        if type(self).process is LogitsProcessor.process:
            raise NotImplementedError(f"{type(self).__name__} has neither __call__ nor process: write one of them.")
        return self.process(RaggedIds.of_batch(input_ids), scores)

    def process(self, rows: RaggedIds, scores: Tensor) -> Tensor:
        """Give the scores, `(rows, vocabulary)`, of what could follow `rows`."""
        return call_by_length(self, rows, scores)


LogitsWarper = LogitsProcessor  # the name that older code knows


class LogitsProcessorList(list[Any]):
    """Functions on logits, applied one after the other: ours, and any `f(input_ids, scores)`."""

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        """Apply them to rows of one length; `kwargs` go to those that name them.

        Raises:
            InputError: one needs an argument that is not given.
        """
        for processor in self:
            scores = processor(input_ids, scores, **_wanted(processor, kwargs))
        return scores

    def process(self, rows: RaggedIds, scores: Tensor) -> Tensor:
        """Apply them to ragged rows."""
        for processor in self:
            scores = (
                processor.process(rows, scores) if is_ragged(processor) else call_by_length(processor, rows, scores)
            )
        return scores


def is_ragged(processor: Any) -> bool:
    """Tell whether a function on logits takes ragged rows."""
    return isinstance(processor, LogitsProcessor | LogitsProcessorList)


def call_by_length(processor: Foreign, rows: RaggedIds, scores: Tensor) -> Tensor:
    """Call a function that knows batches only, once for each length that rows have.

    Raises:
        InputError: it gives something else than scores of the same shape.
    """
    groups = rows.by_length()
    if len(groups) == 1:
        return _check(processor, processor(rows.ids[:, : rows.width], scores), scores)
    found = torch.empty_like(scores)
    for group in groups:
        index = torch.tensor(group, device=scores.device)
        part = scores[index]
        found[index] = _check(processor, processor(rows.ids[index, : rows.lengths[group[0]]], part), part)
    return found


def _check(processor: Foreign, found: Any, scores: Tensor) -> Tensor:
    if not isinstance(found, Tensor) or found.shape != scores.shape:
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        name = getattr(processor, "__name__", type(processor).__name__)
        raise InputError(f"The logits processor {name} gave {shape}, where scores of {tuple(scores.shape)} belong.")
    return found.to(scores.dtype)


def _wanted(processor: Foreign, given: dict[str, Any]) -> dict[str, Any]:
    if not given:
        return {}
    parameters = [*inspect.signature(processor).parameters.values()][2:]
    missing = [p.name for p in parameters if p.name not in given and p.default is p.empty and p.kind != p.VAR_KEYWORD]
    if missing:
        raise InputError(f"{type(processor).__name__} needs {', '.join(missing)}: pass it to the list.")
    return {p.name: given[p.name] for p in parameters if p.name in given}


def token_mask(tokens: tuple[int, ...], scores: Tensor) -> Tensor:
    """Tell which tokens of the vocabulary are among some, `(vocabulary,)`; ids beyond it are passed over."""
    return _make_mask(tokens, scores.shape[-1], scores.device)


@functools.lru_cache(maxsize=16)
def _make_mask(tokens: tuple[int, ...], size: int, device: torch.device) -> Tensor:
    mask = torch.zeros(size, dtype=torch.bool, device=device)
    mask[[token for token in tokens if token < size]] = True
    return mask
