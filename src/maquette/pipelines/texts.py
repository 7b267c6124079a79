"""What pipelines of texts share: rows of ids, made for many texts at once."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from maquette.pipelines.base import Pipeline, Row


class TextPipeline(Pipeline):
    """A pipeline whose rows are a tokenizer's."""

    needs: ClassVar[tuple[str, ...]] = ("tokenizer",)
    ahead: ClassVar[int] = 512

    def encode(self, texts: Sequence[Any], seconds: Sequence[str] | None = None, **options: Any) -> list[Row]:
        """Give the row of each text, or pair of texts."""
        encoded = self.tokenizer(list(texts), None if seconds is None else list(seconds), **options)
        names = [name for name in encoded if len(encoded[name]) == len(texts)]
        return [Row({name: encoded[name][index] for name in names}) for index in range(len(texts))]

    def pad(self, rows: list[dict[str, Any]]) -> Mapping[str, Any]:
        """Bring rows of ids to one length; on the right, so that every token keeps its position."""
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        padded: Mapping[str, Any] = self.tokenizer.pad(columns, padding_side="right", return_tensors="pt")
        return padded

    def trim(self, values: torch.Tensor, rows: list[Row]) -> list[torch.Tensor]:
        """Take the padding off: gives each row's own places, `(length, …)`."""
        return [value[: row.shape[0]] for value, row in zip(values, rows, strict=True)]
