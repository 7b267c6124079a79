"""`maquette ship --to onnx`: every family in ONNX Runtime, in a process that has neither torch nor maquette."""

import itertools
import json

import numpy as np
import pytest
import torch
from rounding import bound
from safetensors.torch import load_file
from sample_models import WaveConfig, WaveModel
from torch import nn

import maquette
from maquette import (
    ConfigurationError,
    InputError,
    MissingPackageError,
    PretrainedConfig,
    PreTrainedModel,
    SaveError,
    UnknownNameError,
)
from maquette.cli.main import main
from maquette.testing import cases
from maquette.workshop import ship
from maquette.workshop.ship import comparing
from maquette.workshop.ship import onnx as onnx_engine
from maquette.workshop.ship.comparing import compare

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

FAMILIES = [next(some) for _, some in itertools.groupby(cases(), key=lambda case: case.card.package)]
FIXED = {"llava", "clip", "siglip", "vit", "vision-text-dual-encoder"}  # images have the size of the configuration
BERT = maquette.BertConfig(
    num_hidden_layers=2, hidden_size=16, num_attention_heads=2, intermediate_size=24, vocab_size=30
)


@pytest.mark.parametrize("case", FAMILIES, ids=str)
def test_every_family_gives_the_same_in_onnx_runtime(case, tmp_path) -> None:
    torch.manual_seed(0)
    model = case.model_class(case.config())
    model.train()
    found = model.ship(tmp_path / "out", to="onnx")
    assert model.training and not found.differs
    kind = case.card.model_type
    assert {*found.about["fixed"]} == ({"height", "width"} if kind in FIXED else set())
    assert len(found.compared) == 2 and all(each.outputs for each in found.compared)
    rows = [next(iter(each.inputs.values()))[0] for each in found.compared]
    assert len({2, *rows}) == 3  # another number than in the example, twice
    report = json.loads((tmp_path / "out" / "ship.json").read_text())
    assert report["compared"][0]["apart"] <= report["compared"][0]["bound"]
    assert all("batch" in shape for name, shape in report["inputs"].items())
    assert not [*tmp_path.glob(".out*")]


def test_a_folder_goes_with_its_tokenizer_and_runs_at_other_sizes(tmp_path, capsys, monkeypatch) -> None:
    """The command; what it writes is compared here once more, by numbers of our own."""
    torch.manual_seed(0)
    model = maquette.BertForTokenClassification(BERT).eval()
    model.save_pretrained(tmp_path / "model")
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh"]))
    maquette.BertTokenizer(tmp_path / "vocab.txt").save_pretrained(tmp_path / "model")
    command = ["maquette", "ship", str(tmp_path / "model"), str(tmp_path / "out"), "--to", "onnx"]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code, capsys.readouterr()
    assert "Written to" in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"model.onnx", "ship.json", "config.json", "vocab.txt", "tokenizer_config.json"} <= names
    assert "model.safetensors" not in names
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    ids = torch.arange(45).view(3, 15) % 30
    mask = torch.ones_like(ids)
    mask[0, :4], mask[1, 9:] = 0, 0
    given = {"input_ids": ids.numpy(), "attention_mask": mask.numpy()}
    (logits,) = session.run(["logits"], given)
    expected = model(ids, mask).logits.detach()
    assert np.abs(logits - expected.numpy()).max() <= bound([expected])


class Cell(nn.Module):
    """Reads a text one token after the other."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mix, self.decay = nn.Linear(dim, dim), nn.Parameter(torch.linspace(0.1, 0.9, dim))

    def forward(self, x):
        places = torch.arange(x.shape[1])
        ago = (places[:, None] - places).clamp(min=0)
        weights = (self.decay.sigmoid() ** ago[..., None]) * (places[:, None] >= places)[..., None]
        return torch.einsum("tsd,bsd->btd", weights, self.mix(x))


class CustomConfig(PretrainedConfig):
    model_type = "ship_custom"
    vocab_size: int = 20
    dim: int = 8
    trouble: str = ""


class CustomModel(PreTrainedModel):
    config_class = CustomConfig

    def __init__(self, config):
        super().__init__(config)
        self.embed, self.cell = nn.Embedding(config.vocab_size, config.dim), Cell(config.dim)
        self.sorter = Sorter(config.trouble)

    def forward(self, input_ids):
        x = self.sorter(self.cell(self.embed(input_ids)))
        return {"states": x, "pair": (x.float().mean(1), x.amax(1) > 0)}


class Silent(CustomModel):
    dummy_inputs = None


class Sorter(nn.Module):
    def __init__(self, trouble):
        super().__init__()
        self.trouble = trouble

    def forward(self, x):
        if self.trouble == "operator":
            return x.cummax(1).values
        if self.trouble == "types":
            return (x > 0).masked_fill(x > 1, False)
        if self.trouble == "random":
            return x + torch.rand_like(x)
        if self.trouble == "value" and x.sum() > 0:
            return x * 2
        return x


def test_a_state_space_of_ones_own(tmp_path) -> None:
    found = CustomModel(CustomConfig()).ship(tmp_path / "out", to="onnx")
    assert not found.differs and found.about["inputs"] == {"input_ids": ["batch", "length"]}
    assert found.about["outputs"] == ["states", "pair.0", "pair.1"]


def test_inputs_that_are_given(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = WaveModel(WaveConfig()).ship("out", to="onnx", inputs={"times": torch.randn(2, 5)})
    assert not found.differs and found.about["inputs"]["times"][0] == "batch"


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        ("operator", r"torch's aten\.cummax\.default, which is used in sorter \(Sorter, test_ship.py, line \d+\)"),
        ("types", "has no implementation of Where for these types of numbers, at 'node_masked_fill"),
        ("random", r"other states, pair\.0.* each time for the same inputs"),
        ("value", r"cannot follow CustomModel \(test_ship.py, line \d+\)"),
    ],
)
def test_what_cannot_be_exported_is_said(trouble, says, tmp_path) -> None:
    with pytest.raises(InputError, match=says):
        CustomModel(CustomConfig(trouble=trouble)).ship(tmp_path / "out", to="onnx")
    assert not [*tmp_path.iterdir()]


def test_bad_calls(tmp_path, monkeypatch) -> None:
    model = CustomModel(CustomConfig())
    with pytest.raises(UnknownNameError, match="Did you mean 'onnx'"):
        ship(model, tmp_path / "out", to="onx")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(SaveError, match="has something in it"):
        ship(model, tmp_path / "full", to="onnx")
    monkeypatch.setattr(onnx_engine, "find_spec", lambda name: None if name == "onnxruntime" else True)
    with pytest.raises(MissingPackageError, match=r"onnxruntime, which is not installed: pip install"):
        ship(model, tmp_path / "out", to="onnx")
    with pytest.raises(ConfigurationError, match="write a property `dummy_inputs`"):
        monkeypatch.setattr(onnx_engine, "find_spec", lambda name: True)
        ship(Silent(CustomConfig()), tmp_path / "out", to="onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_nothing_is_written_where_outputs_differ(tmp_path, monkeypatch) -> None:
    """An engine that computes something else is seen: here, what it gives is changed on the way."""

    def read(file):
        return {name: x + 1e-3 if x.is_floating_point() else x for name, x in load_file(file).items()}

    monkeypatch.setattr(comparing, "load_file", read)
    found = CustomModel(CustomConfig()).ship(tmp_path / "out", to="onnx")
    assert found.differs and found.folder is None and not [*tmp_path.iterdir()]
    assert found.apart == pytest.approx(1e-3, rel=0.01)


def test_what_counts_as_different() -> None:
    x = torch.tensor([1.0, 200.0])
    call = {"ids": torch.ones(2, 3)}
    assert compare(call, {"x": x}, {"x": x + 1e-3}).is_equal  # at the size of 200
    for other in ({}, {"x": x[:1]}, {"x": x + 1e-2}, {"x": torch.tensor([1.0, torch.nan])}):
        assert not compare(call, {"x": x}, other).is_equal
    assert not compare(call, {"x": x > 1}, {"x": x > 0}).is_equal
