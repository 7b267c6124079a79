"""What preprocessing classes give back: arrays by name, made tensors of, moved and copied."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch

from maquette.batch.features import BatchFeature
from maquette.errors import InputError, UnknownNameError


def test_values_are_items_and_attributes() -> None:
    batch = BatchFeature({"pixel_values": [1.0], "mask": [1]})
    assert batch["mask"] == batch.mask == [1]
    assert dict(**batch) == batch.data
    with pytest.raises(KeyError, match="Did you mean 'mask'"):
        batch["masks"]
    with pytest.raises(AttributeError, match="Did you mean 'pixel_values'"):
        _ = batch.pixel_value


def test_arrays_keep_their_type_and_lists_become_float32() -> None:
    rows = [np.ones(3, np.float64), np.zeros(3, np.float64)]
    batch = BatchFeature({"a": rows, "b": [[0.5], [1.5]], "c": [1, 2], "d": torch.ones(2)}, "np")
    assert [batch[name].dtype.name for name in "abcd"] == ["float64", "float32", "int64", "float32"]
    assert isinstance(batch.d, np.ndarray)
    assert (batch.a == np.stack(rows)).all()


@pytest.mark.parametrize("value", [[[1, 2], [3]], ["a"], [np.ones(2), np.ones(3)], [None]])
def test_what_is_no_tensor_is_named(value: Any) -> None:
    with pytest.raises(InputError, match="'rows' cannot become one tensor"):
        BatchFeature({"rows": value}, "np")
    with pytest.raises(UnknownNameError, match="'np'"):
        BatchFeature({"rows": [1]}, "numpie")


def test_to_changes_real_numbers_alone() -> None:
    batch = BatchFeature({"values": [[0.5]], "ids": [[1]], "names": ["x"]})
    del batch["names"]
    moved = batch.convert_to_tensors("pt").to("cpu", torch.float16)
    assert moved is batch
    assert batch["values"].dtype == torch.float16
    assert batch.ids.dtype == torch.int64
    assert batch.to(torch.float64)["values"].dtype == torch.float64


def test_copies_are_of_their_own() -> None:
    batch = BatchFeature({"ids": [1]})
    for other in (copy.copy(batch), pickle.loads(pickle.dumps(batch))):
        other["more"] = 2
        assert "more" not in batch
        assert other.ids == [1]
