"""What `diff` says of two models: each difference that is made here is found, and nothing else."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from loopback_hub import LoopbackHub
from safetensors.torch import save_file
from torch import nn

from maquette import (
    DistilBertConfig,
    DistilBertForMaskedLM,
    DistilBertModel,
    DistilBertTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
)
from maquette.errors import FileFormatError, InputError, MissingFileError
from maquette.workshop.diff import diff, find_divergence
from maquette.workshop.diff.terminal import show_lines

TINY = {"vocab_size": 40, "dim": 16, "n_heads": 4, "n_layers": 2, "hidden_dim": 24, "max_position_embeddings": 16}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world", "the", "##s", ",", "!", "."]


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two saves of one model, with tokenizers."""
    torch.manual_seed(0)
    model = DistilBertForMaskedLM(DistilBertConfig(**TINY))
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    for name in ("one", "other"):
        model.save_pretrained(tmp_path / name)
        DistilBertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / name)
    return tmp_path / "one", tmp_path / "other"


def change(folder: Path, name: str, by: float) -> None:
    model = DistilBertForMaskedLM.from_pretrained(folder)
    with torch.no_grad():
        model.get_parameter(name).flatten()[3] += by
    model.save_pretrained(folder)


def texts(found: object) -> str:
    return "\n".join(text for _, text in show_lines(found))  # type: ignore[arg-type]


def test_equal_models_do_not_differ(pair: tuple[Path, Path]) -> None:
    found = diff(*pair, inputs={"input_ids": torch.tensor([[2, 5, 6, 3]])})
    assert not found.differs and not found.notes
    assert found.weights is not None and found.weights.compared == 41  # a tied weight is stored once
    assert found.outputs is not None and found.outputs.first is None and found.outputs.last == 0
    assert texts(found).endswith("No difference was found.")


def test_one_number_is_found_and_the_module_it_changes_first(pair: tuple[Path, Path]) -> None:
    change(pair[1], "distilbert.transformer.layer.1.ffn.lin1.bias", 0.5)
    found = diff(*pair, inputs={"input_ids": torch.tensor([[2, 5, 6, 3]])})
    assert found.weights is not None and found.outputs is not None
    [apart] = found.weights.apart
    assert apart.name == "distilbert.transformer.layer.1.ffn.lin1.bias" and apart.most == pytest.approx(0.5)
    assert found.outputs.first == "transformer.layer.1.ffn.lin1" and found.outputs.inputs_equal
    assert found.outputs.most == pytest.approx(0.5, rel=1e-5) and found.outputs.last > 0
    assert "in the layers 1" in texts(found) and "(Linear) is the first of" in texts(found)


def test_configurations_names_shapes_and_types(tmp_path: Path) -> None:
    DistilBertForMaskedLM(DistilBertConfig(**TINY)).save_pretrained(tmp_path / "one")
    other = DistilBertModel(DistilBertConfig(**TINY | {"hidden_dim": 20}, dropout=0.3)).half()
    other.save_pretrained(tmp_path / "other")
    found = diff(tmp_path / "one", tmp_path / "other")
    assert (
        {"hidden_dim", "dropout", "architectures"}
        <= {*found.configuration}
        <= {"hidden_dim", "dropout", "architectures", "dtype"}
    )
    assert found.configuration["dropout"] == (0.1, 0.3)
    assert found.weights is not None
    assert "vocab_transform.weight" in found.weights.only_first and found.weights.compared == 0
    assert "embeddings.word_embeddings.weight" in found.weights.only_second


def test_a_longer_table_is_a_shape(pair: tuple[Path, Path]) -> None:
    model = DistilBertForMaskedLM.from_pretrained(pair[1])
    model.resize_token_embeddings(44)
    model.bfloat16().save_pretrained(pair[1])
    found = diff(*pair).weights
    assert found is not None
    assert found.shapes["distilbert.embeddings.word_embeddings.weight"] == ((40, 16), (44, 16))
    assert set(found.types.values()) == {("F32", "BF16")}


def test_tokenizers(pair: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join([*WORDS[:5], "world", "hello", *WORDS[7:], "lazy"]))
    DistilBertTokenizer(str(tmp_path / "vocab.txt"), mask_token="[UNK]").save_pretrained(pair[1])
    found = "\n".join(diff(*pair).tokenizers)
    assert "mask_token: '[MASK]' and '[UNK]'" in found and "1 tokens are in the second only: 'lazy'" in found
    assert "2 tokens have other ids" in found and "'Hello, world!' has other ids" in found
    for path in pair[1].glob("*token*"):
        path.unlink()
    (pair[1] / "vocab.txt").unlink(missing_ok=True)
    assert diff(*pair).tokenizers == ["Only the first has a tokenizer."]


def test_code_is_compared_and_does_not_run(pair: tuple[Path, Path]) -> None:
    for folder, text in zip(pair, ("raise SystemExit\nx = 1\n", "raise SystemExit\nx = 2\ny = 3\n"), strict=True):
        (folder / "code.py").write_text(text)
        config = json.loads((folder / "config.json").read_text())
        config |= {"model_type": "theirs", "auto_map": {"AutoConfig": "code.C", "AutoTokenizer": ["code.T", None]}}
        (folder / "config.json").write_text(json.dumps(config))
    found = diff(*pair)
    assert found.code == {"code.py": "1 lines are 2 others in the second"} and found.differs
    assert found.weights is not None and not found.weights.differs


def test_repositories_are_compared_by_headers(pair: tuple[Path, Path], tmp_path: Path) -> None:
    with LoopbackHub() as hub:
        for name, folder in zip(("ada/one", "ada/other"), pair, strict=True):
            hub.add_commit(name, {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()})
        script = """
from maquette.workshop.diff import diff
found = diff("ada/one", "ada/other")
print(found.differs, found.weights.compared, found.notes)
"""
        env = {**hub.environ(tmp_path / "hub"), "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
        done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("False 0 ['The values of weights were not compared")
        asked = [r for r in hub.requests if r.path.endswith(".safetensors") and r.method == "GET"]
        assert asked and all(r.status in (206, 302, 307) for r in asked)


class Block(nn.Module):
    """What somebody else might have written: the same names, a sum in another order, and one thing wrong."""

    def __init__(self, theirs: nn.Module, flaw: float) -> None:
        super().__init__()
        self.transformer, self.lm_head, self.flaw = theirs.transformer, theirs.lm_head, flaw

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        states = self.transformer(input_ids).last_hidden_state
        return self.lm_head(states) + self.flaw


@pytest.mark.parametrize("flaw", [0.0, 0.25])
def test_models_of_other_people_are_compared_by_their_modules(flaw: float) -> None:
    torch.manual_seed(0)
    ours = GPT2LMHeadModel(GPT2Config(n_embd=16, n_head=2, n_layer=2, vocab_size=30, n_positions=16))
    found = find_divergence(ours, Block(ours, flaw), {"input_ids": torch.arange(8)[None]})
    assert found.first is (None if flaw == 0 else found.first) and found.last == pytest.approx(flaw, abs=1e-6)
    if flaw:  # all modules agree, and the models do not
        assert found.first == "" and found.most == pytest.approx(0.25, rel=1e-5)


PEER = """
import torch, transformers, maquette
from maquette.workshop.diff import find_divergence
sizes = {"n_embd": 16, "n_head": 2, "n_layer": 2, "vocab_size": 30, "n_positions": 16}
sizes |= {"bos_token_id": 0, "eos_token_id": 0}
torch.manual_seed(0)
theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes))
ours = maquette.GPT2LMHeadModel(maquette.GPT2Config(**sizes))
ours.load_state_dict({name: value for name, value in theirs.state_dict().items() if name in ours.state_dict()})
ids = {"input_ids": torch.arange(8)[None]}
found = find_divergence(ours, theirs, ids)
assert found.first is None and found.compared > 20, found
with torch.no_grad():
    theirs.transformer.h[1].mlp.c_fc.bias[0] += 0.5
found = find_divergence(ours, theirs, ids)
assert found.first == "h.1.mlp.c_fc" and abs(found.most - 0.5) < 1e-5 and found.inputs_equal, found
"""


def test_a_model_of_ours_and_one_of_transformers(peer_python: str) -> None:
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([peer_python, "-c", PEER], env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_fields_of_ones_own_that_end_like_bookkeeping_count(pair: tuple[Path, Path]) -> None:
    for folder, version in zip(pair, (1, 2), strict=True):
        config = json.loads((folder / "config.json").read_text())
        config |= {"rope_version": version, "transformers_version": f"4.{version}", "_name_or_path": folder.name}
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "generation_config.json").write_text(json.dumps({"top_k": version, "transformers_version": "4"}))
    assert diff(*pair).configuration == {"rope_version": (1, 2), "generation_config.top_k": (1, 2)}


def test_settings_of_tokenizers(pair: tuple[Path, Path]) -> None:
    path = pair[1] / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"padding_side": "left", "model_max_length": 700}))
    assert diff(*pair).tokenizers == ["model_max_length: 512 and 700", "padding_side: 'right' and 'left'"]


def test_weights_that_only_whole_numbers_or_nothing_tells_apart(pair: tuple[Path, Path]) -> None:
    values = {
        "large": torch.tensor([2**60]),
        "nan": torch.tensor([torch.nan, 0.0]),
        "inf": torch.tensor([torch.inf, 1.0]),
        "small": torch.tensor([2.0, -torch.inf]),
    }
    others = {**values, "large": torch.tensor([2**60 + 1]), "inf": torch.tensor([1.0, 1.0])}
    others |= {"nan": torch.tensor([torch.nan, -0.0]), "small": torch.tensor([1.0, -torch.inf])}
    for folder, tensors in zip(pair, (values, others), strict=True):
        save_file(tensors, folder / "model.safetensors")
    found = diff(*pair)
    assert found.weights is not None
    assert {each.name: (each.most, each.share) for each in found.weights.apart} == {
        "inf": (float("inf"), float("inf")),
        "large": (1.0, pytest.approx(2.0**-60, abs=1e-18)),
        "small": (1.0, 0.5),
    }
    assert "inf: infinite, or no number, in one of the two only" in texts(found)


def test_what_one_has_alone_is_a_difference_and_nothing_is_no_model(pair: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty' is no model: .*It holds no files at all"):
        diff(pair[0], tmp_path / "empty")
    (pair[1] / "model.safetensors").unlink()
    found = diff(*pair)
    assert found.weights is not None and len(found.weights.only_first) == 41 and found.differs
    with pytest.raises(InputError, match="has no weights in safetensors, so it cannot be run"):
        diff(*pair, inputs={"input_ids": torch.ones(1, 2, dtype=torch.long)})
    (pair[1] / "pytorch_model.bin").write_bytes(b"pickle")
    found = diff(*pair)
    assert not found.differs and "which only code can read" in found.notes[0]
    assert texts(found).endswith("No difference was found in what could be compared.")
    (pair[1] / "config.json").unlink()
    assert diff(*pair).configuration == {"config.json": ("(there)", "(absent)")}


def test_outputs_of_code_that_nobody_approved_are_not_compared(pair: tuple[Path, Path]) -> None:
    for folder in pair:
        (folder / "code.py").write_text("raise SystemExit\n")
        config = json.loads((folder / "config.json").read_text())
        config |= {"model_type": "theirs", "auto_map": {"AutoConfig": "code.C", "AutoModel": "code.M"}}
        (folder / "config.json").write_text(json.dumps(config))
    found = diff(*pair, inputs={"input_ids": torch.ones(1, 2, dtype=torch.long)})
    assert found.outputs is None and any(note.startswith("Outputs were not compared") for note in found.notes)


def test_what_cannot_be_compared(pair: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text('{"input_ids": [[1, 2], [3]]}')
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    (tmp_path / "wrong.json").write_text('{"pixels": [[1]]}')
    with pytest.raises(MissingFileError, match="no file or folder"):
        diff(pair[0], "./nowhere")
    with pytest.raises(MissingFileError, match="with inputs"):
        diff(*pair, inputs=tmp_path / "none.json")
    with pytest.raises(InputError, match="lists of numbers"):
        diff(*pair, inputs=tmp_path / "bad.json")
    with pytest.raises(FileFormatError, match="cannot be read"):
        diff(*pair, inputs=tmp_path / "bad.safetensors")
    with pytest.raises(InputError, match="does not run on these inputs"):
        diff(*pair, inputs=tmp_path / "wrong.json")
    with pytest.raises(InputError, match="same name"):
        find_divergence(nn.Sequential(nn.Linear(2, 2)), nn.Identity(), {"input": torch.zeros(2)})


@pytest.mark.parametrize("changed", [False, True])
def test_the_command(
    pair: tuple[Path, Path], changed: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from maquette.cli.main import main

    (pair[0].parent / "input.json").write_text('{"input_ids": [[2, 5, 3]]}')
    if changed:
        change(pair[1], "vocab_transform.weight", 1.0)
    arguments = ["maquette", "diff", *map(str, pair), "--input", str(pair[0].parent / "input.json"), "--json"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        main()
    answer = json.loads(capsys.readouterr().out)
    assert ended.value.code == int(changed) and answer["differs"] is changed
    assert answer["outputs"]["first"] == ("vocab_transform" if changed else None)
