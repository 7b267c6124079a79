"""Promise 2: what you load is what was saved, whatever the constructor does."""

from pathlib import Path

import constructors
import pytest
import torch
from constructors import KINDS, LateBuffers, OwnInitialisation, RawParameters, Tricky, TrickyConfig, snapshot
from safetensors.torch import load_file, save_file
from torch import nn

from maquette import CheckpointError

SUPPORT = str(Path(__file__).parents[1] / "support")


def train_a_bit(model: nn.Module) -> None:
    """Change every parameter and every saved buffer, so that nothing passes by being what the constructor gives."""
    with torch.no_grad():
        for number, tensor in enumerate(model.parameters()):
            tensor += number + 1
        for name, buffer in model.named_buffers():
            if name.rpartition(".")[2] not in model.get_submodule(name.rpartition(".")[0])._non_persistent_buffers_set:
                buffer += 3


def make(kind: type[Tricky], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tricky:
    torch.manual_seed(11)
    config = TrickyConfig()
    if kind is constructors.NestedLoad:
        RawParameters(config).save_pretrained(tmp_path / "backbone")
        monkeypatch.setenv("BACKBONE", str(tmp_path / "backbone"))
    model = kind(config)
    if kind in (LateBuffers, OwnInitialisation):
        model(torch.randn(5, config.dim))
    train_a_bit(model)
    return model


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_reloads_bit_exact(kind: type[Tricky], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make(kind, tmp_path, monkeypatch)
    model.save_pretrained(tmp_path / "saved")
    torch.manual_seed(5)  # another random stream than the one the model was made under
    loaded = kind.from_pretrained(tmp_path / "saved")
    expected, found = snapshot(model), snapshot(loaded)
    assert found.keys() == expected.keys()
    different = [name for name in expected if not torch.equal(found[name], expected[name])]
    assert different == []
    assert {n: p.requires_grad for n, p in loaded.named_parameters()} == {
        n: p.requires_grad for n, p in model.named_parameters()
    }
    assert not loaded.training


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_reloads_bit_exact_in_a_fresh_process(kind, tmp_path, monkeypatch, run_fresh) -> None:
    model = make(kind, tmp_path, monkeypatch)
    model.save_pretrained(tmp_path / "saved")
    save_file({k: v.contiguous() for k, v in snapshot(model).items()}, tmp_path / "expected.safetensors")
    run_fresh(f"""
import sys; sys.path.insert(0, {SUPPORT!r})
import torch
from safetensors.torch import load_file
from constructors import {kind.__name__} as Kind, snapshot
found, expected = snapshot(Kind.from_pretrained("saved")), load_file("expected.safetensors")
assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
assert [k for k in found if not torch.equal(found[k], expected[k])] == []
""")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_saves_what_torch_saves(kind, tmp_path, monkeypatch) -> None:
    """The file holds the tensors of `state_dict()`, tied ones once: torch is the oracle."""
    model = make(kind, tmp_path, monkeypatch)
    model.save_pretrained(tmp_path / "saved")
    file, state = load_file(tmp_path / "saved" / "model.safetensors"), model.state_dict()
    assert file.keys() <= state.keys()
    assert all(torch.equal(file[name], state[name]) for name in file)
    held = {file[name].flatten().tolist().__repr__() for name in file}
    assert all(state[name].flatten().tolist().__repr__() in held for name in state)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_missing_weights_are_initialised_as_in_plain_torch(kind, tmp_path, monkeypatch) -> None:
    """Without any weights in the file, a load under a seed gives what the constructor gives under that seed."""
    make(kind, tmp_path, monkeypatch).config.save_pretrained(tmp_path / "empty")
    save_file({}, tmp_path / "empty" / "model.safetensors", {"format": "pt"})
    torch.manual_seed(3)
    expected = kind(TrickyConfig())
    torch.manual_seed(3)
    loaded = kind.from_pretrained(tmp_path / "empty", strict=False)
    lazy = {n for n, p in expected.named_parameters() if nn.parameter.is_lazy(p)}
    for name, value in expected.named_parameters():
        if name not in lazy and not (kind is constructors.DrawsItsOwn and name.startswith("third")):
            assert torch.equal(value, loaded.get_parameter(name)), name


@pytest.mark.parametrize("kept", ["first", "second", "left", "right"])
def test_a_part_of_a_memory_that_the_file_fills_only_in_part_is_initialised(kept: str, tmp_path: Path) -> None:
    model = constructors.PartsOfOne(TrickyConfig())
    model.save_pretrained(tmp_path)
    save_file({kept: torch.full_like(model.get_parameter(kept), 7.0)}, tmp_path / "model.safetensors")
    loaded = constructors.PartsOfOne.from_pretrained(tmp_path, strict=False)
    for name, value in snapshot(model).items():
        assert torch.equal(snapshot(loaded)[name], torch.full_like(value, 7.0) if name == kept else value), name


def test_ties_stay_ties(tmp_path: Path) -> None:
    model = constructors.TiedByAssignment(TrickyConfig())
    model.save_pretrained(tmp_path)
    loaded = constructors.TiedByAssignment.from_pretrained(tmp_path)
    assert loaded.score.weight is loaded.embed.weight
    assert loaded.again is loaded.embed.weight
    assert loaded.same_block is loaded.block
    assert sorted(load_file(tmp_path / "model.safetensors")) == [
        "again",
        "block.bias",
        "block.weight",
        "score.bias",
    ]


def test_a_never_initialised_parameter_is_refused(tmp_path: Path) -> None:
    class Forgets(Tricky):
        def __init__(self, config: TrickyConfig) -> None:
            super().__init__(config)
            self.line = nn.Linear(2, 2)
            self.forgotten = nn.Parameter(torch.empty(2, 3))

    model = Forgets(TrickyConfig())
    model.save_pretrained(tmp_path)
    save_file(dict(model.line.state_dict(prefix="line.")), tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"(?s)neither in the file.*forgotten.*_init_weights"):
        Forgets.from_pretrained(tmp_path, strict=False)


def test_global_state_is_left_alone(tmp_path: Path) -> None:
    RawParameters(TrickyConfig()).to(torch.bfloat16).save_pretrained(tmp_path)
    before = torch.get_default_dtype(), torch.is_grad_enabled(), nn.Linear.__init__, nn.init.normal_
    loaded = RawParameters.from_pretrained(tmp_path)
    assert loaded.token.dtype == torch.bfloat16
    assert (torch.get_default_dtype(), torch.is_grad_enabled(), nn.Linear.__init__, nn.init.normal_) == before


@pytest.mark.parametrize(
    "kind",
    [constructors.TiedByAssignment, constructors.ComputedBuffers, constructors.GammaAndBeta],
    ids=lambda k: k.__name__,
)
def test_a_load_that_needs_no_random_numbers_draws_none(kind: type[Tricky], tmp_path: Path) -> None:
    kind(TrickyConfig()).save_pretrained(tmp_path)
    state = torch.get_rng_state()
    kind.from_pretrained(tmp_path)
    assert torch.equal(state, torch.get_rng_state()) is (kind is not constructors.GammaAndBeta)  # it draws two itself


def test_loaded_weights_can_be_trained_without_touching_the_file(tmp_path: Path) -> None:
    model = constructors.ComputedBuffers(TrickyConfig())
    model.save_pretrained(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    loaded = constructors.ComputedBuffers.from_pretrained(tmp_path)
    optimizer = torch.optim.SGD(loaded.parameters(), lr=1.0)
    loaded.line(torch.randn(3, 6)).sum().backward()
    optimizer.step()
    assert not torch.equal(loaded.line.weight, model.line.weight)
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_the_meta_device_is_refused(tmp_path: Path) -> None:
    constructors.CopiedLayers(TrickyConfig()).save_pretrained(tmp_path)
    with torch.device("meta"), pytest.raises(CheckpointError, match="meta device"):
        constructors.CopiedLayers.from_pretrained(tmp_path)


def test_buffers_that_are_not_saved_keep_their_type(tmp_path: Path) -> None:
    """`.to(bfloat16)` reaches them too, so a model that ran before the save runs after it."""
    model = constructors.ComputedBuffers(TrickyConfig()).to(torch.bfloat16)
    model.save_pretrained(tmp_path / "cast")
    loaded = constructors.ComputedBuffers.from_pretrained(tmp_path / "cast")
    assert {n: b.dtype for n, b in loaded.named_buffers()} == {n: b.dtype for n, b in model.named_buffers()}
    assert torch.equal(loaded.frequencies, model.frequencies)
    constructors.ComputedBuffers(TrickyConfig()).save_pretrained(tmp_path / "plain")
    asked = constructors.ComputedBuffers.from_pretrained(tmp_path / "plain", dtype=torch.bfloat16)
    assert (asked.line.weight.dtype, asked.frequencies.dtype) == (torch.bfloat16, torch.float32)
