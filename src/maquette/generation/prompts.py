"""What `generate` is given to continue, read and checked: padded batches, rows of any lengths, vectors."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maquette.errors import InputError
from maquette.generation.cache import Cache

logger = logging.getLogger(__name__)

WHOLE = (torch.int64, torch.int32, torch.int16, torch.uint8, torch.int8)


@dataclass(frozen=True, eq=False)
class Prompts:
    """Prompts without their padding.

    Attributes:
        columns: as they came, `(prompts, width)`; rows of a list are padded on the left, vectors have no columns.
        ids: the tokens of each, `(length,)`.
        vectors: in place of ids, or before further ones, what stands for the tokens: `(length, dim)` each.
    """

    columns: Tensor
    ids: list[Tensor]
    vectors: list[Tensor] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> list[int]:
        """How many tokens each prompt has."""
        return [len(row) for row in self.vectors or self.ids]

    def replace(self, ids: list[Tensor]) -> "Prompts":
        """Give prompts with other tokens, as many in each as there were."""
        columns = self.columns.clone()
        for row, (old, new) in enumerate(zip(self.ids, ids, strict=True)):
            places = (columns[row] == old[-1]).nonzero()
            columns[row, int(places[-1])] = new[-1]
        return Prompts(columns, ids, self.vectors)

    def unread(self, cache: Cache | None) -> list[Tensor]:
        """Give what is to be read of each: all but what a cache holds already, and the last token in any case.

        Raises:
            InputError: the cache holds other rows, or more than the prompts.
        """
        whole = self.vectors or self.ids
        if cache is None or not cache.rows:
            return whole
        if cache.rows != len(self):
            raise InputError(
                f"past_key_values holds {cache.rows} rows, and there are {len(self)} prompts. To continue one in "
                "several ways: cache.batch_repeat_interleave(n)."
            )
        for row, (read, tokens) in enumerate(zip(cache.lengths, whole, strict=True)):
            if read > len(tokens):
                raise InputError(
                    f"past_key_values has read {read} tokens of row {row}, and its prompt has {len(tokens)}: give the "
                    "whole prompt, with what was read; or take tokens back with cache.crop(length)."
                )
        cache.rewind([min(read, len(tokens) - 1) for read, tokens in zip(cache.lengths, whole, strict=True)])
        return [tokens[read:] for read, tokens in zip(cache.lengths, whole, strict=True)]


def read_prompts(
    ids: Any,
    mask: Tensor | None,
    vectors: Tensor | None,
    *,
    pad: int | None,
    begin: int | None,
    ends: Sequence[int],
    vocabulary: int | None,
    device: Any,
) -> Prompts:
    """Read what is to be continued.

    Args:
        ids: `(prompts, length)`, or rows of any lengths; None, and no vectors, begins with the `begin` token.
        mask: `(prompts, length)`, 0 at padding.
        vectors: `(prompts, length, dim)`.
        pad: the id of padding; without a mask, it is left out at both ends of a row unless it is an end token.
        begin: the id that begins a text.
        ends: the end tokens.
        vocabulary: how many ids there are, where that is known.
        device: where the prompts are to be.

    Raises:
        InputError: a prompt without tokens, ids that are none, or that the vocabulary does not have.
    """
    if ids is None and vectors is None:
        if begin is None:
            raise InputError("generate got no prompt, and the model has no token to begin with: give input_ids.")
        ids = torch.tensor([[begin]])
    if vectors is not None:
        return _read_vectors(ids, mask, vectors, device)
    if isinstance(ids, Tensor) and ids.ndim == 2:
        _check_ids(ids, vocabulary)
        ids = ids.to(device, torch.long)
        real = _find_real(ids, mask, pad, ends)
        return Prompts(ids, _checked([row[keep] for row, keep in zip(ids, real, strict=True)]))
    if mask is not None:
        raise InputError("attention_mask goes with ids in a tensor (prompts, length); rows of a list have no padding.")
    rows = [row.to(device, torch.long) for row in _as_rows(ids, vocabulary)]
    filler = next((each for each in (pad, *ends) if each is not None), 0)
    columns = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=filler, padding_side="left")
    return Prompts(columns, _checked(rows))


def _read_vectors(ids: Any, mask: Tensor | None, vectors: Tensor, device: Any) -> Prompts:
    if not isinstance(vectors, Tensor) or vectors.ndim != 3 or not vectors.is_floating_point():
        raise InputError(f"inputs_embeds has to be a tensor (prompts, length, dim), not {_describe(vectors)}.")
    if mask is not None and mask.shape != vectors.shape[:2]:
        raise InputError(
            f"attention_mask is {tuple(mask.shape)}, and inputs_embeds (prompts, length) = {tuple(vectors.shape[:2])}."
        )
    vectors = vectors.to(device)
    rows = list(vectors) if mask is None else [v[m] for v, m in zip(vectors, mask.to(device).bool(), strict=True)]
    columns = torch.zeros(len(vectors), 0, dtype=torch.long, device=device) if ids is None else ids.to(device)
    return Prompts(columns, list(columns), _checked(rows))


def _as_rows(ids: Any, vocabulary: int | None) -> list[Tensor]:
    """Take a list of rows, or one row."""
    if isinstance(ids, Mapping) or hasattr(ids, "keys"):
        raise InputError(f"The prompts are a {type(ids).__name__}: give what is in it, by name, generate(**batch).")
    if isinstance(ids, str) or (isinstance(ids, list | tuple) and ids and isinstance(ids[0], str)):
        raise InputError(
            "The prompts are texts: give ids, such as tokenizer(texts, padding=True, return_tensors='pt')."
        )
    if isinstance(ids, Tensor):
        rows = [ids]
    elif isinstance(ids, bytes) or not hasattr(ids, "__len__") or not len(ids):
        raise InputError(f"The prompts are {_describe(ids)}: give ids, (prompts, length) or a list of rows.")
    else:
        rows = [torch.as_tensor(ids)] if isinstance(ids[0], int) else [torch.as_tensor(row) for row in ids]
    for row in rows:
        if row.ndim != 1:
            raise InputError(f"A prompt is a row of ids, (length,), not {tuple(row.shape)}.")
        if len(row):
            _check_ids(row, vocabulary)
    return rows


def _check_ids(ids: Tensor, vocabulary: int | None) -> None:
    if ids.dtype not in WHOLE:
        raise InputError(f"Ids are whole numbers, and these are {ids.dtype}. Vectors are given as inputs_embeds.")
    if ids.numel() and vocabulary is not None:
        least, most = int(ids.min()), int(ids.max())
        if least < 0 or most >= vocabulary:
            wrong = least if least < 0 else most
            place = tuple((ids == wrong).nonzero()[0].tolist())
            raise InputError(
                f"The prompts have the id {wrong} (at {place}), and the vocabulary has the ids 0 to {vocabulary - 1}. "
                "Is the tokenizer another model's?"
            )


def _find_real(ids: Tensor, mask: Tensor | None, pad: int | None, ends: Sequence[int]) -> Tensor:
    """Tell which places of `(prompts, length)` hold tokens."""
    if mask is not None:
        if mask.shape != ids.shape:
            raise InputError(f"attention_mask is {tuple(mask.shape)}, and the ids are {tuple(ids.shape)}.")
        return mask.to(ids.device).bool()
    everything = torch.ones_like(ids, dtype=torch.bool)
    if pad is None or ids.shape[1] < 2:
        return everything
    inside = ids != pad
    edges = (inside.cumsum(1) == 0) | (inside.flip(1).cumsum(1).flip(1) == 0)
    if not bool(edges.any()):
        return everything
    if pad in ends:
        if bool(edges[:, 0].any()):
            logger.warning(
                "Rows begin with the id %d, which is both padding and an end token, and there is no attention_mask: it "
                "is read as text. Give the mask that the tokenizer made.",
                pad,
            )
        return everything
    return ~edges


def _checked(rows: list[Tensor]) -> list[Tensor]:
    if not rows:
        raise InputError("generate got no prompt: the batch has no rows.")
    if empty := [row for row, tokens in enumerate(rows) if not len(tokens)]:
        raise InputError(
            f"Row {empty[0]} has no tokens, or padding only ({len(empty)} of {len(rows)} rows): begin it with the "
            "model's first token, or leave it out."
        )
    return rows


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} of {value.dtype}"
    return f"an empty {type(value).__name__}" if hasattr(value, "__len__") and not len(value) else type(value).__name__
