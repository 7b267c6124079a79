"""Weights that do not fit, files that are broken, and names that are spelt in another way."""

import json
import logging
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from constructors import Tricky, TrickyConfig
from safetensors.torch import load_file, save_file
from torch import nn

from maquette import CheckpointError, FileFormatError, MissingFileError, UnsafePathError
from maquette.checkpoint import ExpectedParameters, LoadReport, match, plan_shards
from maquette.modeling.common import check_ties


class Body(Tricky):
    base_model_prefix = "body"

    def __init__(self, config: TrickyConfig) -> None:
        super().__init__(config)
        self.embed = nn.Embedding(5, config.dim)
        self.norm = nn.LayerNorm(config.dim)


class WithHead(Tricky):
    base_model_prefix = "body"

    def __init__(self, config: TrickyConfig) -> None:
        super().__init__(config)
        self.body = Body(config)
        self.head = nn.Linear(config.dim, 3)


class WithOtherHead(Tricky):
    base_model_prefix = "body"

    def __init__(self, config: TrickyConfig) -> None:
        super().__init__(config)
        self.body = Body(config)
        self.scores = nn.Linear(config.dim, 2)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    WithHead(TrickyConfig()).save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def rewrite(folder: Path, change) -> None:
    """Save a folder's weights again, changed."""
    tensors = load_file(folder / "model.safetensors")
    save_file(change(tensors), folder / "model.safetensors", {"format": "pt"})


# Heads and prefixes ----------------------------------------------------------------------------------------------


def test_a_base_models_checkpoint_gets_a_new_head_and_says_so_once(tmp_path: Path, caplog) -> None:
    body = Body(TrickyConfig())
    body.save_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING, logger="maquette"):
        model, info = WithHead.from_pretrained(tmp_path, output_loading_info=True)
    assert torch.equal(model.body.embed.weight, body.embed.weight)
    assert info == {
        "missing_keys": ["head.weight", "head.bias"],
        "unexpected_keys": [],
        "mismatched_keys": [],
        "error_msgs": [],
    }
    assert len(caplog.records) == 1
    table = caplog.records[0].getMessage()
    assert "new     head.weight  (3, 6)" in table
    assert "not trained yet" in table


def test_a_headed_checkpoint_fills_the_base_model(saved: Path, caplog) -> None:
    with caplog.at_level(logging.WARNING, logger="maquette"):
        body = Body.from_pretrained(saved)
    assert torch.equal(body.norm.weight, load_file(saved / "model.safetensors")["body.norm.weight"])
    assert "unused  head.weight" in caplog.records[0].getMessage()


def test_one_head_is_exchanged_for_another(saved: Path, caplog) -> None:
    model, info = WithOtherHead.from_pretrained(saved, output_loading_info=True)
    assert info["missing_keys"] == ["scores.weight", "scores.bias"]
    assert info["unexpected_keys"] == ["head.bias", "head.weight"]
    assert torch.equal(model.body.embed.weight, load_file(saved / "model.safetensors")["body.embed.weight"])
    with pytest.raises(CheckpointError, match=r"(?s)scores.weight: not in the file.*head.weight: not in the model"):
        WithOtherHead.from_pretrained(saved, strict=True)


def test_half_a_head_is_an_error(saved: Path) -> None:
    rewrite(saved, lambda tensors: {k: v for k, v in tensors.items() if k != "head.bias"})
    with pytest.raises(CheckpointError) as error:
        WithHead.from_pretrained(saved)
    assert str(error.value) == (
        f"The weights of {str(saved)!r} do not fit WithHead:\n"
        "  - head.bias: not in the file\n"
        'If that is meant, pass allow_missing=["head.*"] to have these initialised anew.'
    )
    assert WithHead.from_pretrained(saved, allow_missing=["head.*"]).head.bias.shape == (3,)


def test_a_missing_weight_of_the_base_is_an_error_unless_allowed(saved: Path) -> None:
    rewrite(saved, lambda tensors: {k: v for k, v in tensors.items() if k != "body.norm.weight"})
    with pytest.raises(CheckpointError, match=r"body\.norm\.weight: not in the file"):
        WithHead.from_pretrained(saved)
    model, info = WithHead.from_pretrained(saved, strict=False, output_loading_info=True)
    assert info["missing_keys"] == ["body.norm.weight"]
    assert torch.equal(model.body.norm.weight, torch.ones(6))


def test_old_layer_norms_are_respelt(saved: Path) -> None:
    values = load_file(saved / "model.safetensors")
    values["body.norm.weight"] += 0.5

    def old(tensors):
        tensors["body.norm.gamma"] = tensors.pop("body.norm.weight") + 0.5
        tensors["body.norm.beta"] = tensors.pop("body.norm.bias")
        return tensors

    rewrite(saved, old)
    model, info = WithHead.from_pretrained(saved, output_loading_info=True)
    assert torch.equal(model.body.norm.weight, values["body.norm.weight"])
    assert info["missing_keys"] == info["unexpected_keys"] == []


class OldWeightNorm(Tricky):
    def __init__(self, config: TrickyConfig) -> None:
        super().__init__(config)
        self.conv = nn.Conv1d(4, 4, 3)
        self.register_parameter("norm", None)
        self.conv.register_parameter("weight_g", nn.Parameter(torch.rand(1, 1, 3)))
        self.conv.register_parameter("weight_v", nn.Parameter(self.conv.weight.detach().clone()))
        del self.conv.weight


class NewWeightNorm(Tricky):
    def __init__(self, config: TrickyConfig) -> None:
        super().__init__(config)
        self.conv = nn.utils.parametrizations.weight_norm(nn.Conv1d(4, 4, 3), dim=2)


def test_weight_norm_is_respelt_both_ways(tmp_path: Path) -> None:
    new = NewWeightNorm(TrickyConfig())
    new.save_pretrained(tmp_path / "new")
    old = OldWeightNorm.from_pretrained(tmp_path / "new")
    assert torch.equal(old.conv.weight_g, new.conv.parametrizations.weight.original0)
    assert torch.equal(old.conv.weight_v, new.conv.parametrizations.weight.original1)
    old.save_pretrained(tmp_path / "old")
    again = NewWeightNorm.from_pretrained(tmp_path / "old")
    assert torch.equal(again.conv.weight, new.conv.weight)


# Shapes, ties, types ---------------------------------------------------------------------------------------------


def test_all_wrong_shapes_are_listed_with_the_way_through(saved: Path, caplog) -> None:
    with pytest.raises(CheckpointError) as error:
        WithHead.from_pretrained(saved, dim=8)
    text = str(error.value)
    for name in ("body.embed.weight: (5, 6) in the file, (5, 8) in the model", "body.norm.bias: (6,)", "head.weight"):
        assert name in text
    assert text.endswith("If that is meant, pass ignore_mismatched_sizes=True to have these initialised anew.")
    model, info = WithHead.from_pretrained(saved, dim=8, ignore_mismatched_sizes=True, output_loading_info=True)
    assert model.body.embed.weight.shape == (5, 8)
    assert ("head.weight", (3, 6), (3, 8)) in info["mismatched_keys"]
    assert torch.equal(model.head.bias, load_file(saved / "model.safetensors")["head.bias"])
    assert torch.equal(model.body.norm.weight, torch.ones(8))


class Tied(Tricky):
    def __init__(self, config: TrickyConfig) -> None:
        super().__init__(config)
        self.embed = nn.Embedding(5, config.dim)
        self.score = nn.Linear(config.dim, 5, bias=False)
        if config.tie_word_embeddings:
            self.score.weight = self.embed.weight


def test_a_tie_over_two_different_values_is_an_error(tmp_path: Path) -> None:
    untied = Tied(TrickyConfig(tie_word_embeddings=False))
    untied.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"(?s)embed.weight and score.weight.*tie_word_embeddings=False"):
        Tied.from_pretrained(tmp_path, tie_word_embeddings=True)
    assert torch.equal(Tied.from_pretrained(tmp_path).score.weight, untied.score.weight)
    rewrite(tmp_path, lambda tensors: {**tensors, "score.weight": tensors["embed.weight"].clone()})
    tied = Tied.from_pretrained(tmp_path, tie_word_embeddings=True)
    assert tied.score.weight is tied.embed.weight


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_the_files_type_is_kept_unless_another_is_asked_for(tmp_path: Path, dtype: torch.dtype) -> None:
    model = WithHead(TrickyConfig()).to(dtype)
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == str(dtype).removeprefix("torch.")
    kept = WithHead.from_pretrained(tmp_path)
    assert {p.dtype for p in kept.parameters()} == {dtype}
    assert torch.equal(kept.head.weight, model.head.weight)
    for asked in (torch.float32, "float32", "torch.float32"):
        assert {p.dtype for p in WithHead.from_pretrained(tmp_path, dtype=asked).parameters()} == {torch.float32}
    assert WithHead.from_pretrained(tmp_path, torch_dtype=torch.float32).dtype == torch.float32
    assert WithHead.from_pretrained(tmp_path, dtype="auto").dtype == dtype


def test_a_mixed_file_stays_mixed_and_a_new_head_follows_the_majority(tmp_path: Path) -> None:
    body = Body(TrickyConfig()).to(torch.bfloat16)
    body.norm.float()
    body.save_pretrained(tmp_path)
    model = WithHead.from_pretrained(tmp_path)
    assert model.body.embed.weight.dtype == torch.bfloat16
    assert model.body.norm.weight.dtype == torch.float32
    assert model.head.weight.dtype == torch.bfloat16


def test_a_type_that_is_none(saved: Path) -> None:
    for wrong in ("float17", "int8", 3):
        with pytest.raises(ValueError, match="no floating-point type"):
            WithHead.from_pretrained(saved, dtype=wrong)


# Broken and hostile files ----------------------------------------------------------------------------------------


def test_an_unknown_option_names_the_nearest(saved: Path) -> None:
    with pytest.raises(TypeError, match=r"'ignore_mismatched_size'. Did you mean 'ignore_mismatched_sizes'\?"):
        WithHead.from_pretrained(saved, ignore_mismatched_size=True)
    with pytest.raises(TypeError, match=r"no option 'depht'. Did you mean 'depth'\?"):
        WithHead.from_pretrained(saved, depht=4)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_truncated_file(saved: Path, keep: int) -> None:
    content = (saved / "model.safetensors").read_bytes()
    (saved / "model.safetensors").write_bytes(content[:keep])
    with pytest.raises(FileFormatError, match=r"model\.safetensors of .* is truncated or damaged .* bytes"):
        WithHead.from_pretrained(saved)


def test_a_git_lfs_pointer(saved: Path) -> None:
    (saved / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(FileFormatError, match="Git LFS pointer"):
        WithHead.from_pretrained(saved)


def test_only_pickled_weights(saved: Path) -> None:
    torch.save(WithHead(TrickyConfig()).state_dict(), saved / "pytorch_model.bin")
    (saved / "model.safetensors").unlink()
    with pytest.raises(MissingFileError, match=r"(?s)not unpickle.*maquette convert ") as error:
        WithHead.from_pretrained(saved)
    # what the message says to do works as written
    _, *arguments = shlex.split(str(error.value).splitlines()[1])
    subprocess.run([sys.executable, "-m", "maquette", *arguments], cwd=saved.parent, check=True, capture_output=True)
    assert WithHead.from_pretrained(saved.parent / arguments[-1]).head.weight.shape == (3, 6)


def test_no_weights_at_all(tmp_path: Path) -> None:
    TrickyConfig().save_pretrained(tmp_path)
    with pytest.raises(MissingFileError, match=r"has no weights, model\.safetensors or"):
        WithHead.from_pretrained(tmp_path)


def test_a_variant_is_asked_for_by_name(tmp_path: Path) -> None:
    model = WithHead(TrickyConfig())
    model.save_pretrained(tmp_path, variant="fp16", max_shard_size=100)
    assert (tmp_path / "model.safetensors.index.fp16.json").is_file()
    with pytest.raises(MissingFileError, match="variant="):
        WithHead.from_pretrained(tmp_path)
    assert torch.equal(WithHead.from_pretrained(tmp_path, variant="fp16").head.weight, model.head.weight)


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    WithHead(TrickyConfig()).save_pretrained(tmp_path / "sharded", max_shard_size=130)
    return tmp_path / "sharded"


def change_index(folder: Path, change) -> None:
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    change(index["weight_map"])
    path.write_text(json.dumps(index))


def test_missing_shards_are_listed(sharded: Path) -> None:
    shards = sorted(path.name for path in sharded.glob("*.safetensors"))
    assert len(shards) > 2
    for shard in shards[:2]:
        (sharded / shard).unlink()
    with pytest.raises(MissingFileError) as error:
        WithHead.from_pretrained(sharded)
    assert all(shard in str(error.value) for shard in shards[:2])
    assert shards[2] not in str(error.value)


def test_an_index_that_names_the_wrong_shard(sharded: Path) -> None:
    def swap(weight_map) -> None:
        weight_map["head.weight"] = weight_map["body.embed.weight"]

    change_index(sharded, swap)
    with pytest.raises(FileFormatError, match=r"(?s)index of .*model-0000.*head\.weight"):
        WithHead.from_pretrained(sharded)


@pytest.mark.parametrize(
    "name",
    ["../outside.safetensors", "/etc/passwd", "a\\b", "..", ".", "", "C:/x.safetensors", "x\0y", "link.safetensors"],
)
def test_shard_names_stay_in_the_folder(sharded: Path, name: str) -> None:
    save_file({"head.weight": torch.zeros(3, 6)}, sharded.parent / "outside.safetensors")
    (sharded / "link.safetensors").symlink_to(sharded.parent / "outside.safetensors")
    change_index(sharded, lambda weight_map: weight_map.update({"head.weight": name}))
    with pytest.raises(UnsafePathError, match="refused"):
        WithHead.from_pretrained(sharded)


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 1}}', "{", '{"a": 1, "a": 2}']
)
def test_an_index_that_is_none(sharded: Path, content: str) -> None:
    (sharded / "model.safetensors.index.json").write_text(content)
    with pytest.raises(FileFormatError, match=r"model\.safetensors\.index\.json"):
        WithHead.from_pretrained(sharded)


# The parts -------------------------------------------------------------------------------------------------------


def test_shards_are_filled_in_order() -> None:
    assert plan_shards({"a": 3, "b": 3, "c": 9, "d": 1, "e": 1}, 6) == {
        "model-00001-of-00003.safetensors": ["a", "b"],
        "model-00002-of-00003.safetensors": ["c"],
        "model-00003-of-00003.safetensors": ["d", "e"],
    }
    assert plan_shards({"a": 3}, 6) == {"model.safetensors": ["a"]}
    assert plan_shards({}, 6) == {"model.safetensors": []}


def test_ignored_names_are_not_reported() -> None:
    report = match(
        {"w": (1,), "position_ids": (1, 5)}, ExpectedParameters({"w": (1,)}), prefix="", ignored=[r"position_ids"]
    )
    assert report.unexpected == []
    assert report.assigned == {"w": "w"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.0])
def test_tied_weights_of_equal_bits_are_equal(saved: Path, value: float) -> None:
    """Also where NaN is among them, which equals nothing by arithmetic."""
    table = torch.full((5, 4), value)
    report = LoadReport(conflicts=[("one", "two")])
    check_ties(report, {"one": table, "two": table.clone()})
    check_ties(report, {"one": table.numpy(), "two": table.numpy().copy()})
    with pytest.raises(CheckpointError, match="one and two"):
        check_ties(report, {"one": table, "two": torch.ones(5, 4)})
