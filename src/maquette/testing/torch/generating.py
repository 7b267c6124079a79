"""Checks of decoders: what `docs/generation.md` lets them rely on, and what it asks of them."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from maquette.generation.cache import Cache
from maquette.modeling.interface import Interface
from maquette.registry import registered_classes
from maquette.testing.comparison import compare, in_words
from maquette.testing.report import Fault, NotApplicableError, Unchecked, describe
from maquette.testing.torch.subject import Subject

ROWS = (7, 4, 1)  # tokens of the rows that are tried together
LOOK = "run the encoder unless knows_source(cache, rows); look_at(layout, states, states_layout); cross_attention(…)"
CONTRACT = "docs/generation.md says what a decoder may rely on"


def _require_decoder(subject: Subject) -> int:
    """Give the size of the vocabulary.

    Raises:
        NotApplicableError: the model does not score a vocabulary from left to right.
    """
    cls, size = subject.model_class, getattr(subject.config, "vocab_size", None)
    names = [name for name in ("CausalLM", "Seq2SeqLM") if _is_head(cls, name)]
    if not (cls.can_generate() or names):
        raise NotApplicableError("the model is no causal language model")
    if not isinstance(size, int) or "logits" not in subject.outputs or subject.outputs["logits"].ndim != 3:
        raise NotApplicableError("no logits (batch, length, vocabulary), or no config.vocab_size")
    return size


def _is_head(cls: Any, name: str) -> bool:
    return name in str(getattr(cls, "_auto_class", "")) or cls in registered_classes(f"AutoModelFor{name}")


def _has_encoder(subject: Subject) -> bool:
    return bool(getattr(subject.model.config, "is_encoder_decoder", False))


def _source(subject: Subject, rows: Sequence[int]) -> dict[str, Tensor]:
    """Give what the encoder reads for rows of these numbers: those of the dummy inputs, every second one shorter."""
    if not _has_encoder(subject):
        return {}
    given = {n: v for n, v in subject.inputs.items() if isinstance(v, Tensor) and v.ndim > 1 and "decoder_" not in n}
    found = {name: value[[row % len(value) for row in rows]] for name, value in given.items() if "label" not in name}
    if "input_ids" in found and _takes(subject, "attention_mask"):
        mask = torch.ones_like(found["input_ids"])
        mask[[place for place, row in enumerate(rows) if row % 2], -2:] = 0
        found["attention_mask"] = mask
    return found


def _begin(subject: Subject) -> list[int]:
    """Give what a decoder begins with."""
    if not _has_encoder(subject):
        return []
    config = subject.model.config
    ids = (getattr(config, name, None) for name in ("decoder_start_token_id", "bos_token_id"))
    return [next((each for each in ids if isinstance(each, int)), 0)]


def _takes(subject: Subject, name: str) -> bool:
    """Tell whether `forward` takes an argument, itself or for the model inside."""
    return name in Interface.of(subject.model, ["labels"]).names


def _rows(size: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(size, (length,), generator=generator) for length in ROWS]


@torch.no_grad()
def _score(
    subject: Subject,
    ids: Tensor,
    mask: Tensor | None = None,
    cache: Cache | None = None,
    *,
    rows: Sequence[int] | None = None,
) -> Tensor:
    """Give logits `(batch, length, vocabulary)`.

    Args:
        ids, mask: of the decoder's tokens.
        cache: of earlier ones; once it is begun, the encoder gets nothing.
        rows: which of the encoder's inputs the rows look at; 0, 1, … unless given.
    """
    prefix = "decoder_" if _has_encoder(subject) else ""
    given: dict[str, Any] = {prefix + "input_ids": ids}
    if mask is not None:
        given[prefix + "attention_mask"] = mask
    if cache is not None:
        given["past_key_values"] = cache
    if cache is None or not cache.is_begun:
        given |= _source(subject, range(len(ids)) if rows is None else rows)
    logits: Tensor = subject.model(**given).logits
    return logits


def _parting(expected: Tensor, found: Tensor, tolerance: float) -> str:
    wrong = compare({"logits": expected}, {"logits": found}, tolerance)
    return in_words(wrong) if wrong else ""


def check_causality(subject: Subject) -> Iterator[Fault]:
    """Later tokens change nothing for earlier ones."""
    row = _rows(_require_decoder(subject))[0][None]
    other = row.clone()
    other[:, -1] = (row[:, -1] + 1) % subject.config.vocab_size
    if wrong := _parting(_score(subject, row)[:, :-1], _score(subject, other)[:, :-1], subject.tolerance):
        yield Fault(f"the last token changes the logits before it: {wrong}", "call attention(…, causal=True)")


def check_cache(subject: Subject) -> Iterator[Fault | Unchecked]:
    """Tokens that come step by step get the logits of the whole text; rows change places, and go back."""
    size = _require_decoder(subject)
    if not _takes(subject, "past_key_values"):
        raise NotApplicableError("forward takes no past_key_values; generate computes whole texts for every token")
    row, other = _rows(size)[0], _rows(size)[0].flip(0)
    both = torch.stack([row, other])
    whole, cache = _score(subject, both), Cache()
    parts = [both[:, :3], both[:, 3:4], both[:, 4:6], both[:, 6:]]
    try:
        found = torch.cat([_score(subject, part, cache=cache) for part in parts], dim=1)
    except ValueError as error:
        if not _has_encoder(subject):
            raise
        yield Fault(f"once the cache has read a text, forward needs the encoder's input again, {describe(error)}", LOOK)
        return
    if not cache.is_begun:
        yield Fault(
            "forward takes past_key_values and does not use it", f"lay_out(…, cache=past_key_values); {CONTRACT}"
        )
        return
    if wrong := _parting(whole, found, subject.tolerance):
        fix = "take positions from layout.positions, rotate keys before `attention`, keep every state with state.keep"
        yield Fault(f"step by step the logits are others than at once: {wrong}", fix)
        return
    cache.reorder([1, 0])
    expected = _score(subject, torch.stack([other, row]), rows=[1, 0])
    if cache.can_rewind:
        cache.crop(len(row) - 1)
        if wrong := _parting(
            expected[:, -1:], _score(subject, _last_tokens(other, row), cache=cache), subject.tolerance
        ):
            yield Fault(f"after rows changed places and went back, logits differ: {wrong}", CONTRACT)
    else:
        yield Unchecked("going back", "a recurrent layer carries a state")


def _last_tokens(*rows: Tensor) -> Tensor:
    """Give the last token of each row, `(rows, 1)`."""
    return torch.stack([row[-1:] for row in rows])


def check_ragged(subject: Subject) -> Iterator[Fault]:
    """Rows of different lengths get the logits that each gets alone, on either side of padding, and with a cache."""
    rows = _rows(_require_decoder(subject))
    if not (_takes(subject, "attention_mask") and _takes(subject, "past_key_values")):
        raise NotApplicableError("without a mask and past_key_values, generate puts rows of one length together")
    alone = [_score(subject, row[None], rows=[number])[0] for number, row in enumerate(rows)]
    for side in ("left", "right"):
        cache = Cache()
        ids, mask = _pad(rows, side)
        found = _score(subject, ids, mask, cache)
        for number, row in enumerate(rows):
            if wrong := _parting(alone[number], found[number][mask[number].bool()], subject.tolerance):
                yield Fault(
                    f"a row of {len(row)} tokens, padded on the {side}, gets other logits than alone: {wrong}",
                    "give the mask to lay_out, with count_padding=False, and attend with its layout",
                )
                return
        if not cache.is_begun:
            continue
        last = torch.stack([row[:1] for row in rows])
        after = _score(subject, last, cache=cache)
        for number, row in enumerate(rows):
            expected = _score(subject, torch.cat([row, row[:1]])[None], rows=[number])[0, -1:]
            if wrong := _parting(expected, after[number], subject.tolerance):
                yield Fault(f"the token after a row that was padded on the {side} gets other logits: {wrong}", CONTRACT)
                return


def _pad(rows: Sequence[Tensor], side: str) -> tuple[Tensor, Tensor]:
    ids = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_side=side)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True, padding_side=side)
    return ids, mask


def check_generation(subject: Subject) -> Iterator[Fault]:
    """`generate` gives the tokens that the logits of whole texts name, for rows of different lengths together."""
    rows = [
        torch.cat([torch.tensor(_begin(subject), dtype=torch.long), row]) for row in _rows(_require_decoder(subject))
    ]
    prompts = [row.tolist() for row in rows]
    given: dict[str, Any] = {"inputs": prompts}
    if _has_encoder(subject):
        given = {"decoder_input_ids": prompts, **_source(subject, range(len(rows)))}
    try:
        found = subject.model.generate(**given, max_new_tokens=4, do_sample=False, max_rows=2)
    except Exception as error:
        yield Fault(f"generate fails, {describe(error)}", CONTRACT)
        return
    config = subject.model.generation_config
    ends = {*config.end_tokens(subject.config)}
    forced = {config.forced_eos_token_id, config.forced_bos_token_id}
    for number, (row, tokens) in enumerate(zip(rows, found[:, len(rows[0]) :].tolist(), strict=True)):
        ids = row
        for token in tokens:
            logits = _score(subject, ids[None], rows=[number])[0, -1].float()
            if token not in forced and logits[token] < logits.max() - subject.tolerance * max(1.0, _size(logits)):
                yield Fault(
                    f"generate gives a row of {len(row)} tokens the token {token}, where the logits of its whole text "
                    f"name {int(logits.argmax())}",
                    CONTRACT,
                )
                return
            if token in ends:
                break
            ids = torch.cat([ids, torch.tensor([token])])


def _size(logits: Tensor) -> float:
    return float(logits.abs().max())
