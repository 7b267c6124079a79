"""Checks of decoders: what `docs/generation.md` lets them rely on, and what it asks of them."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from maquette.generation.cache import Cache
from maquette.modeling.interface import Interface
from maquette.registry import registered_classes
from maquette.testing.comparison import compare, in_words
from maquette.testing.report import Fault, NotApplicableError, Unchecked, describe
from maquette.testing.torch.subject import Subject

ROWS = (7, 4, 1)  # tokens of the rows that are tried together
CONTRACT = "docs/generation.md says what a decoder may rely on"


def _require_decoder(subject: Subject) -> int:
    """Give the size of the vocabulary.

    Raises:
        NotApplicableError: the model does not score a vocabulary from left to right.
    """
    cls, size = subject.model_class, getattr(subject.config, "vocab_size", None)
    if cls.config_class is not None and getattr(subject.config, "is_encoder_decoder", False):
        raise NotApplicableError("the model has an encoder")
    is_named = "CausalLM" in str(getattr(cls, "_auto_class", "")) or cls in registered_classes("AutoModelForCausalLM")
    if not (cls.can_generate() or is_named):
        raise NotApplicableError("the model is no causal language model")
    if not isinstance(size, int) or "logits" not in subject.outputs or subject.outputs["logits"].ndim != 3:
        raise NotApplicableError("no logits (batch, length, vocabulary), or no config.vocab_size")
    return size


def _takes(subject: Subject, name: str) -> bool:
    """Tell whether `forward` takes an argument, itself or for the model inside."""
    return name in Interface.of(subject.model, ["labels"]).names


def _rows(size: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(size, (length,), generator=generator) for length in ROWS]


@torch.no_grad()
def _score(subject: Subject, ids: Tensor, mask: Tensor | None = None, cache: Cache | None = None) -> Tensor:
    """Give logits `(batch, length, vocabulary)`."""
    more = {} if mask is None else {"attention_mask": mask}
    if cache is not None:
        more["past_key_values"] = cache  # type: ignore[assignment]
    logits: Tensor = subject.model(input_ids=ids, **more).logits
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
    found = torch.cat([_score(subject, part, cache=cache) for part in parts], dim=1)
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
    expected = _score(subject, torch.stack([other, row]))
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
    alone = [_score(subject, row[None])[0] for row in rows]
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
            expected = _score(subject, torch.cat([row, row[:1]])[None])[0, -1:]
            if wrong := _parting(expected, after[number], subject.tolerance):
                yield Fault(f"the token after a row that was padded on the {side} gets other logits: {wrong}", CONTRACT)
                return


def _pad(rows: Sequence[Tensor], side: str) -> tuple[Tensor, Tensor]:
    ids = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_side=side)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True, padding_side=side)
    return ids, mask


def check_generation(subject: Subject) -> Iterator[Fault]:
    """`generate` gives the tokens that the logits of whole texts name, for rows of different lengths together."""
    rows = _rows(_require_decoder(subject))
    try:
        found = subject.model.generate([row.tolist() for row in rows], max_new_tokens=4, do_sample=False, max_rows=2)
    except Exception as error:
        yield Fault(f"generate fails, {describe(error)}", CONTRACT)
        return
    ends = {*subject.model.generation_config.end_tokens(subject.config)}
    for row, tokens in zip(rows, found[:, len(rows[0]) :].tolist(), strict=True):
        ids = row
        for token in tokens:
            logits = _score(subject, ids[None])[0, -1].float()
            if logits[token] < logits.max() - subject.tolerance * max(1.0, float(logits.abs().max())):
                yield Fault(
                    f"generate gives a row of {len(row)} tokens the token {token}, where the logits of its whole text "
                    f"name {int(logits.argmax())}",
                    CONTRACT,
                )
                return
            if token in ends:
                break
            ids = torch.cat([ids, torch.tensor([token])])
