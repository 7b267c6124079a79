"""The workshop's commands on every family, on folders with code of others, and on packages that `maquette new` made."""

import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from wild_models import WILD

from maquette.cli.main import main
from maquette.registry import built_in_cards, cards_of
from maquette.workshop.packages import KINDS
from maquette.workshop.xray import xray

CONVERTED = (
    "bert",
    "resnet",
    "whisper",
    "oriole-vision",
)  # each takes a process of its own, which the family is nothing to


class Shell:
    """Runs commands in this process; none may end with a traceback, in silence, or with what is no JSON."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def __call__(self, *words: object, code: int = 0) -> Any:
        """Give what was written: JSON read, where that was asked for, otherwise the text; of an error, that."""
        self.capsys.readouterr()
        self.monkeypatch.setattr("sys.argv", ["maquette", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        output, errors = self.capsys.readouterr()
        assert int(end.value.code or 0) == code, f"{words}: {end.value.code}\n{output[-2000:]}\n{errors[-2000:]}"
        assert "Traceback" not in output + errors
        if "--json" in words:
            return json.loads(output)
        assert errors.strip() if code == 2 else output.strip(), words
        return errors if code == 2 else output


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(monkeypatch, capsys)


def try_every_command(card: Any, root: Path, shell: Shell) -> None:
    """X-ray every class of a card, and give one of them, with its files, to each command."""
    sizes = {"length": 2000} if card.model_type.startswith(("wav2vec2", "speech")) else {}
    for reference in card.models_in("torch").values():
        cls = card.load(reference)
        seen = xray(cls.from_config(card.load(card.config)(**card.tiny)), batch=3, **sizes)
        assert seen.flops > 0 and not seen.notes and seen.parameters == seen.tree.parameters, cls.__name__
        assert all(shape[0] == 3 for shape in seen.tree.takes), cls.__name__
    made = []
    for seed, name in enumerate(("one", "other")):
        torch.manual_seed(seed)
        made.append(cls.from_config(card.load(card.config)(**card.tiny)))
        made[-1].save_pretrained(root / name)
    count = made[0].num_parameters()
    assert f"{count:,} in float32" in shell("xray", root / "one", "--html", root / "page.html", "--depth", "2")
    assert (root / "page.html").stat().st_size > 10_000
    told = shell("xray", root / "one", "--train", "--batch", "2", "--json")
    assert told["parameters"]["unique"] == count and told["flops"]["backward"] > told["flops"]["total"] / 2
    assert not any(told["misfit"].values())
    assert told["files"]["numbers"] >= count
    assert shell("check", root / "one", "--only", "forward", "--json")["passed"] == ["forward"]
    assert "No difference was found" in shell("diff", root / "one", root / "one")
    assert shell("diff", root / "one", root / "other", "--json", code=1)["weights"]["apart"]
    assert shell("graft", root / "one" / "model.safetensors", root / "other", root / "new", "--json")["is_whole"]
    assert shell("diff", root / "one", root / "new", "--json")["weights"]["apart"] == []
    if card.model_type in CONVERTED:
        torch.save(made[0].state_dict(), root / "weights.pt")
        assert "model.safetensors" in shell("convert", root / "weights.pt", root / "converted")
    said = shell("try", root / "one", code=2)  # it has no tokenizer, and no processor
    assert "\n" not in said.strip() and (str(root / "one") in said or "task" in said)


@pytest.mark.parametrize("model_type", built_in_cards())
def test_every_command_takes_every_family(model_type: str, tmp_path: Path, shell: Shell) -> None:
    try_every_command(built_in_cards()[model_type], tmp_path, shell)


@pytest.mark.parametrize("kind", KINDS)
def test_every_command_takes_what_new_makes(
    kind: str, tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"oriole-{kind}"
    shell("new", name, "--like", kind)
    monkeypatch.syspath_prepend(str(tmp_path / name / "src"))
    package = f"oriole_{kind}".replace("-", "_")
    for card in cards_of(importlib.import_module(package)):
        monkeypatch.setitem(built_in_cards(), card.model_type, card)  # as installed
        try_every_command(card, tmp_path, shell)
    for module in [each for each in sys.modules if re.match(rf"{package}\b", each)]:
        monkeypatch.delitem(sys.modules, module)


@pytest.mark.parametrize("name", WILD)
def test_code_of_others_is_taken_when_it_is_approved(name: str, tmp_path: Path, shell: Shell) -> None:
    """Before that, what needs none of it is told, and the rest is one error that names the way on."""
    folder = WILD[name].write(tmp_path / "wild")
    told = shell("xray", folder, "--json")
    assert told["tree"] is None and told["files"]["tensors"] and "was not approved" in told["notes"][0]
    assert "No difference was found" in shell("diff", folder, folder)
    for words in (["check", folder], ["try", folder]):
        said = shell(*words, code=2)
        assert "nothing of it was run" in said and "maquette trust" in said
    assert "has safetensors already" in shell("convert", folder, tmp_path / "converted", code=2)
    assert not (tmp_path / "converted").exists()
    approved = ("--trust-remote-code", "--json")
    told = shell("xray", folder, *approved)
    assert told["tree"] is not None and not told["misfit"]["mismatched"]
    assert (told["flops"] is None) == any("does not say what it takes" in note for note in told["notes"])
    assert "construction" in shell("check", folder, "--only", "construction", *approved)["passed"]
