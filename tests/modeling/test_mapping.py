"""Tensors read through one map of the file: what safetensors itself reads, and nothing that reaches the file."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from maquette.checkpoint import Checkpoint
from maquette.hub.sources import open_source
from maquette.modeling.mapping import TYPES, map_tensors


def read(folder: Path) -> dict[str, torch.Tensor]:
    with open_source(folder) as source:
        return map_tensors(Checkpoint.open(source))


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return found.keys() == expected.keys() and all(
        found[name].dtype == value.dtype
        and found[name].shape == value.shape
        and bytes(found[name].contiguous().view(-1).view(torch.uint8).numpy())
        == bytes(value.view(-1).view(torch.uint8).numpy())
        for name, value in expected.items()
    )


def draw(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    numbers = torch.randn(shape) * 100
    return (numbers > 0) if dtype == torch.bool else numbers.to(dtype)


def test_every_type_and_shape(tmp_path: Path) -> None:
    types = [dtype for _, dtype in TYPES.values()]
    tensors = {f"{dtype}.{len(shape)}": draw(dtype, *shape) for dtype in types for shape in [(), (3,), (2, 1, 5)]}
    tensors |= {"empty": torch.empty(0, 4), "a": draw(torch.uint8, 1), "z": draw(torch.float64, 1)}
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    found = read(tmp_path)
    assert same(found, load_file(tmp_path / "model.safetensors")) and same(found, tensors)
    places = {tensor.untyped_storage().data_ptr() for tensor in found.values() if tensor.numel()}
    assert len(places) == len(tensors) - 1  # a storage of its own for each


def test_types_that_are_not_mapped_are_read(tmp_path: Path) -> None:
    tensors = {"eight": draw(torch.float8_e4m3fn, 4), "line": draw(torch.float32, 2, 2)}
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    assert same(read(tmp_path), tensors)


@pytest.mark.parametrize("odd", range(4))
def test_a_header_of_any_length(odd: int, tmp_path: Path) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}}) + " " * odd
    values = torch.tensor([1.0, -2.0, 3.5])
    content = len(header).to_bytes(8, "little") + header.encode() + values.numpy().tobytes()
    (tmp_path / "model.safetensors").write_bytes(content)
    assert (read(tmp_path)["w"] * 2).tolist() == [2.0, -4.0, 7.0]


def test_no_write_reaches_the_file(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"w": torch.ones(5)}, path, {"format": "pt"})
    before = path.read_bytes()
    tensor = read(tmp_path)["w"]
    tensor.fill_(3)
    assert tensor.tolist() == [3.0] * 5 and path.read_bytes() == before


def test_a_file_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"w": torch.ones(5)}, path, {"format": "pt"})
    with open_source(tmp_path) as source:
        checkpoint = Checkpoint.open(source)
    save_file({"v": torch.zeros(2), "w": torch.full((5,), 2.0)}, tmp_path / "new", {"format": "pt"})
    os.replace(tmp_path / "new", path)
    assert map_tensors(checkpoint)["w"].tolist() == [2.0] * 5
