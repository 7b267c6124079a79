"""Variants of weights beside each other in one folder: their file names, and that the last save is what loads."""

import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from maquette import PretrainedConfig, PreTrainedModel
from maquette.checkpoint import with_variant

SHARDS = {"max_shard_size": "200B"}


class LinesConfig(PretrainedConfig):
    model_type = "lines-variants"


class Lines(PreTrainedModel):
    config_class = LinesConfig

    def __init__(self, config: LinesConfig) -> None:
        super().__init__(config)
        self.norm = nn.LayerNorm(6)
        self.lines = nn.ModuleList(nn.Linear(6, 6) for _ in range(4))


def save(folder: Path, value: float, **options) -> None:
    model = Lines(LinesConfig())
    with torch.no_grad():
        model.norm.weight.fill_(value)
    model.save_pretrained(folder, **options)


def load(folder: Path, **options) -> float:
    return float(Lines.from_pretrained(folder, **options).norm.weight.detach()[0])


@pytest.mark.parametrize("variant", [None, "ema", "fp16.v2"])
@pytest.mark.parametrize(("first", "second"), [({}, SHARDS), (SHARDS, {}), (SHARDS, {"max_shard_size": "900B"})])
def test_the_last_save_of_a_variant_is_what_loads(tmp_path: Path, variant, first, second) -> None:
    others = {None, "ema", "fp16.v2"} - {variant}
    for number, other in enumerate(sorted(others, key=str)):
        save(tmp_path, 10 + number, variant=other, **(SHARDS if number else {}))
    save(tmp_path, 1, variant=variant, **first)
    save(tmp_path, 2, variant=variant, **second)
    assert load(tmp_path, variant=variant) == 2
    for number, other in enumerate(sorted(others, key=str)):
        assert load(tmp_path, variant=other) == 10 + number


def test_names_are_the_fields(tmp_path: Path) -> None:
    """As the peer names them: huggingface/transformers, `_add_variant` and the shards of `save_pretrained`."""
    save(tmp_path, 1, variant="fp16", **SHARDS)
    names = {path.name for path in tmp_path.iterdir()} - {"config.json"}
    count = len(names) - 1
    shards = {f"model.fp16-{n:05d}-of-{count:05d}.safetensors" for n in range(1, count + 1)}
    assert names == {"model.safetensors.index.fp16.json", *shards}


def test_names_of_earlier_versions_are_read_and_replaced(tmp_path: Path) -> None:
    save(tmp_path, 1, variant="ema", **SHARDS)
    index = tmp_path / "model.safetensors.index.ema.json"
    text = index.read_text(encoding="utf-8")
    for path in tmp_path.glob("model.ema-*"):
        older = path.name.replace("model.ema-", "model-").replace(".safetensors", ".ema.safetensors")
        text = text.replace(path.name, older)
        shutil.move(path, tmp_path / older)
    (tmp_path / "model.ema.safetensors.index.json").write_text(text, encoding="utf-8")
    index.unlink()
    assert load(tmp_path, variant="ema") == 1
    save(tmp_path, 2, variant="ema", **SHARDS)
    assert load(tmp_path, variant="ema") == 2
    assert not list(tmp_path.glob("model-*.ema.safetensors"))


@pytest.mark.parametrize("variant", ["../up", "a/b", "", "-x"])
def test_a_variant_is_part_of_a_name(variant: str) -> None:
    with pytest.raises(ValueError, match=r"variant="):
        with_variant("model.safetensors", variant)
