"""What the commands share: what a target is, what they exit with, and JSON."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from maquette import (
    ConfigurationError,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    DistilBertModel,
    InputError,
    MissingFileError,
    UnknownNameError,
    UntrustedCodeError,
)
from maquette.cli.main import main
from maquette.workshop import open_target

TINY = {"vocab_size": 40, "dim": 16, "n_heads": 4, "n_layers": 1, "hidden_dim": 24, "max_position_embeddings": 16}
SKETCH = """
import torch
from torch import nn
from maquette import PretrainedConfig, PreTrainedModel

class SketchConfig(PretrainedConfig):
    model_type = "sketch-of-a-target"
    dim: int = 4

class Sketch(PreTrainedModel):
    config_class = SketchConfig

    def __init__(self, config):
        super().__init__(config)
        self.layer = nn.Linear(config.dim, config.dim)
        {flaw}

    @property
    def dummy_inputs(self):
        return {{"x": torch.linspace(-1, 1, 3 * self.config.dim).reshape(3, -1)}}

    def forward(self, x):
        return {{"states": self.layer(x)}}

def helper():
    pass
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a module of the user's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "sketch_of_mine.py").write_text(SKETCH.format(flaw=""))
    (tmp_path / "broken_of_mine.py").write_text("import no_such_package_at_all\n")
    (tmp_path / "failing_of_mine.py").write_text("1 / 0\n")
    for name in ("sketch_of_mine", "broken_of_mine", "failing_of_mine"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run a command in this process; gives its exit code."""
    monkeypatch.setattr(sys, "argv", ["maquette", *arguments])
    with pytest.raises(SystemExit) as done:
        main()
    return int(done.value.code or 0)


def test_a_class_is_found_in_the_working_directory(project: Path) -> None:
    target = open_target("sketch_of_mine:Sketch", settings={"dim": 6})
    assert (target.kind, target.model_class.__name__, target.config.dim) == ("class", "Sketch", 6)
    assert target.place is None and not target.has_weights and target.build().layer.weight.shape == (6, 6)
    assert open_target(target.model_class).name == "sketch_of_mine:Sketch"


def test_a_class_of_a_card_has_its_smallest_configuration() -> None:
    target = open_target("maquette.models.distilbert.modeling:DistilBertForMaskedLM", settings={"n_layers": 1})
    assert (target.config.dim, target.config.n_layers) == (16, 1)


def test_a_folder_is_the_class_that_it_was_saved_from(tmp_path: Path) -> None:
    model = DistilBertForSequenceClassification(DistilBertConfig(**TINY, num_labels=3))
    model.save_pretrained(tmp_path / "labels")
    target = open_target(tmp_path / "labels")
    assert (target.kind, target.model_class, target.has_weights) == (
        "folder",
        DistilBertForSequenceClassification,
        True,
    )
    assert target.load().classifier.weight.equal(model.classifier.weight)
    assert open_target(tmp_path / "labels", auto_class="AutoModel").model_class is DistilBertModel
    DistilBertConfig(**TINY).save_pretrained(tmp_path / "plain")
    with pytest.raises(UnknownNameError, match=r"does not say which of its classes is meant.*\n.*ForMaskedLM"):
        open_target(tmp_path / "plain")
    chosen = open_target(tmp_path / "plain", auto_class="AutoModelForSequenceClassification")
    assert not chosen.has_weights and type(chosen.load()) is DistilBertForSequenceClassification
    with pytest.raises(ConfigurationError, match="Did you mean 'n_layers'"):
        open_target(tmp_path / "labels", settings={"n_layer": 1})
    with pytest.raises(UnknownNameError, match="Did you mean 'AutoModelForCTC'"):
        open_target(tmp_path / "labels", auto_class="AutoModelForCT")


WRONG = {
    "sketch_of_mine:Sketsh": (MissingFileError, "has no class 'Sketsh'. Did you mean 'Sketch'"),
    "sketch_of_min:Sketch": (MissingFileError, "no module 'sketch_of_min'.* Did you mean 'sketch_of_mine'"),
    "sketch_of_mine:SketchConfig": (InputError, "is a configuration, and no model class.*same module: Sketch"),
    "sketch_of_mine:helper": (InputError, "and no model class"),
    "sketch_of_mine.py:Sketch": (InputError, "by its module, not by a file: sketch_of_mine:Sketch"),
    "broken_of_mine:Model": (InputError, "imports 'no_such_package_at_all', which is not installed"),
    "failing_of_mine:Model": (InputError, "cannot be imported: ZeroDivisionError"),
    "./nothing": (MissingFileError, "A target is a folder with a config.json, a repository of the Hub, or a class"),
    ".": (MissingFileError, "has no file 'config.json'.*\n.*module:Class"),
    "nobody/nothing": (MissingFileError, "A target is a folder"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_target_is_said(name: str, project: Path) -> None:
    kind, message = WRONG[name]
    with pytest.raises(kind, match=f"(?s){message}"):
        open_target(name)


def test_code_that_nobody_approved_does_not_run(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code is 2, nothing of it ran, and JSON says why, too."""
    folder = project / "theirs"
    folder.mkdir()
    mark = f"import pathlib\npathlib.Path({str(project / 'ran')!r}).touch()\n"
    (folder / "modeling.py").write_text(mark + SKETCH.format(flaw=""))
    auto_map = {"AutoConfig": "modeling.SketchConfig", "AutoModel": "modeling.Sketch"}
    (folder / "config.json").write_text(json.dumps({"model_type": "sketch-of-a-target", "auto_map": auto_map}))
    with pytest.raises(UntrustedCodeError):
        open_target(folder)
    assert run(monkeypatch, "check", "theirs", "--only", "forward", "--json") == 2
    said = json.loads(capsys.readouterr().out)["error"]
    assert said["kind"] == "UntrustedCodeError" and "maquette trust" in said["message"]
    assert not (project / "ran").exists()
    assert run(monkeypatch, "check", "theirs", "--only", "forward", "--trust-remote-code", "--json") == 0
    assert json.loads(capsys.readouterr().out)["passed"] == ["forward"]
    assert (project / "ran").exists()


def test_exit_codes(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """0 where all is well, 1 where the answer is no, 2 where there is none."""
    assert run(monkeypatch, "check", "sketch_of_mine:Sketch", "--only", "forward") == 0
    assert "1 hold, 0 fail" in capsys.readouterr().out
    (project / "flawed_of_mine.py").write_text(SKETCH.format(flaw="self.noise = torch.rand(2)"))
    assert run(monkeypatch, "check", "flawed_of_mine:Sketch", "--only", "buffers", "--only", "forward") == 1
    output = capsys.readouterr().out
    assert "buffers" in output and "fails" in output and "→" in output and "noise" in output
    assert run(monkeypatch, "check", "flawed_of_mine:Sketch", "--skip", "buffers=it may", "--only", "buffers") == 0
    assert "it may" in capsys.readouterr().out
    for wrong in (
        ["check", "sketch_of_mine:Nothing"],
        ["check", "sketch_of_mine:Sketch", "--only", "fordward"],
        ["check", "sketch_of_mine:Sketch", "--for", "exports"],
        ["check", "sketch_of_mine:Sketch", "--set", "dim"],
        ["check", "sketch_of_mine:Sketch", "--skip", "forward"],
        ["check", "sketch_of_mine:Sketch", "--no-such-option"],
        ["check"],
    ):
        assert run(monkeypatch, *wrong) == 2, wrong
        captured = capsys.readouterr()
        assert captured.err and not captured.out


def test_check_for_a_purpose_asks_what_it_needs(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "check", "sketch_of_mine:Sketch", "--for", "compile", "--set", "dim=3", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert {"forward", "compile"} <= {*found["passed"]} and found["config"]["dim"] == 3
    assert "export" not in found["passed"] and not found["failed"]


def test_python_m_maquette_is_the_command(project: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "maquette", "check", "./nothing", "--json"], capture_output=True, text=True
    )
    assert done.returncode == 2 and json.loads(done.stdout)["error"]["kind"] == "MissingFileError"
    assert "There is no file or folder" in done.stderr
