"""From rows to a batch of torch tensors: padded by the tokenizer or feature extractor, labels with -100."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maquette.batch.padding import column_array
from maquette.errors import ConfigurationError, InputError
from maquette.modeling.problems import IGNORED

Row = Mapping[str, Any]
Inputs = dict[str, Any]
# How data sets call the labels that models call `labels`.
LABEL_SPELLINGS = ("label", "label_ids")


def default_data_collator(features: Sequence[Row], return_tensors: str = "pt") -> Inputs:
    """Stack rows of equal shapes; `label` and `label_ids` become `labels`. Texts stay lists.

    Args:
        features: rows as dictionaries of numbers, lists, arrays or tensors, all with the same keys.
        return_tensors: "pt", as models here are torch's.

    Raises:
        InputError: rows that have different keys, or lengths.
    """
    return {name: _stack(name, values) for name, values in _columns(features).items()}


class DataCollatorWithPadding:
    """Pad rows of different lengths to the longest of the batch, as the tokenizer or feature extractor does.

    Labels that are sequences (one for each token, or the letters of a transcript) are padded with -100.

    Args:
        tokenizer: has a method `pad`: a tokenizer, a feature extractor or a processor.
        padding, max_length, pad_to_multiple_of: as `pad` takes them.
        return_tensors: "pt", as models here are torch's.
    """

    def __init__(
        self,
        tokenizer: Any,
        padding: bool | str = True,
        *,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        return_tensors: str = "pt",
    ) -> None:
        self.tokenizer = tokenizer
        self.options: dict[str, Any] = {"padding": padding, "return_tensors": return_tensors}
        self.options |= {"max_length": max_length, "pad_to_multiple_of": pad_to_multiple_of}

    def __call__(self, features: Sequence[Row]) -> Inputs:
        columns = _columns(features)
        names = [name for name in self.tokenizer.model_input_names if name in columns and name != "labels"]
        if not names:
            wanted = ", ".join(self.tokenizer.model_input_names)
            raise InputError(
                f"There is nothing that {type(self.tokenizer).__name__} pads in rows with {', '.join(columns)}: it "
                f"pads {wanted}. Tokenize the texts first, or pass a data_collator of your own."
            )
        lengths = _lengths(columns[names[0]])
        batch = dict(self.tokenizer.pad({name: columns.pop(name) for name in names}, **self.options))
        width, side = batch[names[0]].shape[-1], getattr(self.tokenizer, "padding_side", "right")
        for name, values in columns.items():
            if (own := _lengths(values)) and own == lengths:
                batch[name] = _pad(name, values, width, side)
            else:
                batch[name] = _pad(name, values, max(own), "right") if len({*own}) > 1 else _stack(name, values)
        return batch


class DataCollatorForSeq2Seq(DataCollatorWithPadding):
    """Pad what an encoder reads as the tokenizer does, and labels by themselves, on the same side.

    Args:
        tokenizer: as for `DataCollatorWithPadding`.
        model: one that makes `decoder_input_ids` of labels; then the batch has them.
        padding, max_length, pad_to_multiple_of: as `pad` takes them; they hold for labels, too.
        label_pad_token_id: what pads labels.
        return_tensors: "pt", as models here are torch's.
    """

    def __init__(
        self,
        tokenizer: Any,
        model: Any = None,
        padding: bool | str = True,
        *,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        label_pad_token_id: int = IGNORED,
        return_tensors: str = "pt",
    ) -> None:
        more: dict[str, Any] = {"max_length": max_length, "pad_to_multiple_of": pad_to_multiple_of}
        super().__init__(tokenizer, padding, return_tensors=return_tensors, **more)
        self.model, self.label_pad_token_id = model, label_pad_token_id

    def __call__(self, features: Sequence[Row]) -> Inputs:
        columns = _columns(features)
        labels = columns.pop("labels", None)
        batch = super().__call__([dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)])
        if labels is None or all(each is None for each in labels):
            return batch
        longest, multiple = max(map(len, labels)), self.options["pad_to_multiple_of"] or 1
        if self.options["padding"] == "max_length" and self.options["max_length"] is not None:
            longest = self.options["max_length"]
        rows = [list(map(int, row)) for row in labels]
        side = getattr(self.tokenizer, "padding_side", "right")
        width = -(-longest // multiple) * multiple
        batch["labels"] = torch.from_numpy(column_array("labels", rows, self.label_pad_token_id, width, side))
        if hasattr(self.model, "prepare_decoder_input_ids_from_labels"):
            batch["decoder_input_ids"] = self.model.prepare_decoder_input_ids_from_labels(labels=batch["labels"])
        return batch


def _columns(features: Sequence[Row]) -> dict[str, list[Any]]:
    """Give rows as columns, the labels under the name that models have for them."""
    first = features[0]
    for number, row in enumerate(features):
        if row.keys() != first.keys():
            raise InputError(
                f"The rows of a batch differ in their columns: row {number} has {', '.join(sorted(row))}, row 0 "
                f"{', '.join(sorted(first))}."
            )
    spelled = {name: "labels" if name in LABEL_SPELLINGS and "labels" not in first else name for name in first}
    return {spelled[name]: [row[name] for row in features] for name in first}


def _lengths(values: list[Any]) -> list[int]:
    """Give the lengths of sequences of numbers; empty for anything else."""
    if isinstance(values[0], str) or np.ndim(values[0]) != 1:
        return []
    return [len(value) for value in values]


def _pad(name: str, values: list[Any], width: int, side: str) -> Tensor:
    """Bring rows of whole numbers to one length: labels with -100, others with 0."""
    rows = [value if isinstance(value, list) else np.asarray(value).tolist() for value in values]
    return torch.from_numpy(column_array(name, rows, IGNORED if "label" in name else 0, width, side))


def _stack(name: str, values: list[Any]) -> Any:
    """Put values of equal shapes into one tensor; texts stay a list."""
    first = values[0]
    if isinstance(first, str):
        if name != "labels":
            return values
        raise ConfigurationError(
            f"The column of the labels, 'label' or 'labels', holds texts ({first!r}). Models take the numbers of "
            "classes: map the texts to numbers, as config.label2id does, or call class_encode_column on the data set."
        )
    try:
        if isinstance(first, Tensor):
            return torch.stack(values)
        array = np.asarray(values)
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"The column {name!r} has values of different shapes, which cannot become one tensor ({error}). Pass the "
            "tokenizer or feature extractor that pads them as processing_class, or a data_collator."
        ) from None
    if array.dtype.kind not in "biuf":
        raise InputError(
            f"The column {name!r} has values of type {type(first).__name__}, which cannot become a tensor. Turn them "
            "into numbers, or pass a data_collator."
        )
    return torch.from_numpy(array.astype(np.float32) if array.dtype == np.float64 else array)
