"""Single tokens of texts: those behind masks, and their features."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from maquette.errors import InputError
from maquette.pipelines.base import Row
from maquette.pipelines.scores import check_count
from maquette.pipelines.texts import TextPipeline

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class FillMaskOptions:
    """Options of `fill-mask`: how many tokens for each mask, and which alone to choose from."""

    top_k: int | None = None
    targets: str | list[str] | None = None
    tokenizer_kwargs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_count(self.top_k)


class FillMaskPipeline(TextPipeline):
    """Gives the likeliest tokens for a mask: `[{"score": …, "token": …, "token_str": …, "sequence": …}]`.

    A text with several masks has a list for each.
    """

    task = "fill-mask"
    auto_classes = ("AutoModelForMaskedLM",)
    options_class = FillMaskOptions

    def prepare(self, items: list[Any], options: FillMaskOptions) -> list[list[Row]]:
        """Encode texts, and find their masks."""
        mask = self.tokenizer.mask_token_id
        if mask is None:
            raise InputError(f"{type(self.tokenizer).__name__} has no mask_token, and fill-mask needs one.")
        rows = self.encode(items, **options.tokenizer_kwargs)
        for row, text in zip(rows, items, strict=True):
            row.notes["masks"] = [place for place, index in enumerate(row.inputs["input_ids"]) if index == mask]
            if not row.notes["masks"]:
                raise InputError(f"{text!r:.80} has no {self.tokenizer.mask_token}, the token to be filled in.")
        return [[row] for row in rows]

    def read(self, outputs: Any, rows: list[Row], options: FillMaskOptions) -> list[Any]:
        """Keep the logits of the masks alone, as probabilities, (masks, vocabulary)."""
        logits = self.trim(outputs["logits"], rows)
        kept = [own[row.notes["masks"]] for own, row in zip(logits, rows, strict=True)]
        return [one.float().softmax(-1).cpu() for one in kept]

    def answer(self, rows: list[Row], outputs: list[torch.Tensor], options: FillMaskOptions) -> Any:
        """Put the likeliest tokens in the masks' place."""
        probabilities, count = outputs[0], options.top_k or 5
        targets = self._targets(options.targets) if options.targets is not None else None
        if targets is not None:
            probabilities, count = probabilities[:, targets], min(count, len(targets))
        values, places = probabilities.topk(min(count, probabilities.shape[1]))
        filled = []
        for mask, scores, chosen in zip(rows[0].notes["masks"], values.tolist(), places.tolist(), strict=True):
            tokens = chosen if targets is None else [targets[place] for place in chosen]
            single = len(rows[0].notes["masks"]) == 1
            filled.append([self._fill(rows[0], mask, *pair, single) for pair in zip(tokens, scores, strict=True)])
        return filled[0] if len(filled) == 1 else filled

    def _fill(self, row: Row, place: int, token: int, score: float, single: bool) -> dict[str, Any]:
        ids = list(row.inputs["input_ids"])
        ids[place] = token
        kept = [index for index in ids if index != self.tokenizer.pad_token_id]
        text = self.tokenizer.decode(kept, skip_special_tokens=single)  # other masks stay in sight
        return {"score": score, "token": token, "token_str": self.tokenizer.decode([token]), "sequence": text}

    def _targets(self, targets: str | list[str]) -> list[int]:
        """Give the ids of the tokens to choose from; a text that is no token stands for its first one."""
        vocabulary = self.tokenizer.get_vocab()
        found = []
        for target in [targets] if isinstance(targets, str) else targets:
            index = vocabulary.get(target)
            if index is None:
                ids = self.tokenizer(target, add_special_tokens=False)["input_ids"]
                index = ids[0] if ids else None
                name = None if index is None else self.tokenizer.convert_ids_to_tokens(index)
                logger.warning("The vocabulary has no %r; %r stands for it.", target, name)
            if index is not None:
                found.append(int(index))
        if not found:
            raise InputError("targets: none of them is in the vocabulary.")
        return sorted(set(found))

    def finish(self, answers: Any, inputs: Any, options: Mapping[str, Any]) -> Any:
        """Give the answer itself for a list of one text."""
        return answers[0] if isinstance(inputs, list) and len(inputs) == 1 else answers


@dataclass(kw_only=True)
class FeatureOptions:
    """Options of `feature-extraction`: truncation and other options of the tokenizer, and tensors instead of lists."""

    truncation: bool | str | None = None
    tokenize_kwargs: dict[str, Any] = field(default_factory=dict)
    return_tensors: bool | str = False

    def __post_init__(self) -> None:
        if self.truncation is not None and "truncation" in self.tokenize_kwargs:
            raise InputError("truncation is given twice: alone and in tokenize_kwargs.")
        if self.truncation is not None:
            self.tokenize_kwargs = {**self.tokenize_kwargs, "truncation": self.truncation}


class FeatureExtractionPipeline(TextPipeline):
    """Gives what a model without a head makes of a text: a list (1, tokens, width), or a tensor."""

    task = "feature-extraction"
    auto_classes = ("AutoModel",)
    options_class = FeatureOptions

    def prepare(self, items: list[Any], options: FeatureOptions) -> list[list[Row]]:
        """Encode texts."""
        return [[row] for row in self.encode(items, **options.tokenize_kwargs)]

    def read(self, outputs: Any, rows: list[Row], options: FeatureOptions) -> list[Any]:
        """Keep the first of the outputs, without padding."""
        return [one[None].cpu() for one in self.trim(outputs[0], rows)]

    def answer(self, rows: list[Row], outputs: list[torch.Tensor], options: FeatureOptions) -> Any:
        """Give the features."""
        return outputs[0] if options.return_tensors else outputs[0].float().tolist()
