"""What cannot be done is one clear error and exit code 2, as JSON too, and nothing is written."""

import json
import sys
from pathlib import Path

import pytest

from maquette import BertConfig, BertModel
from maquette.cli.main import main

TINY = {"num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 20}
WRONG = {
    "xray ./nothing": "no file or folder",
    "xray text.txt": "is no model: give a folder",
    "xray m --batch 0": "greater than or equal to 1",
    "xray m --batch many": "valid integer",
    "xray m --dtype bf17": "Did you mean 'bf16'",
    "xray m --dtype int8": "is no type of weights",
    "xray m --length 400": "400 tokens, 16 positions",
    "xray m --machine h1000": "Did you mean 'h100'",
    "xray m --html full": "is a folder: name the file",
    "xray m --set hidden_sise=3": "Did you mean 'hidden_size'",
    "xray m --set hidden_size": "is no NAME=VALUE",
    "xray m --as AutoModelForMaskedLMM": "Did you mean 'AutoModelForMaskedLM'",
    "xray m --as AutoModelForVision2Seq": "has no class for AutoModelForVision2Seq",
    "xray torch.nn:Linear": "and no model class",
    "xray": "Missing argument 'TARGET'",
    "xrya m": "Did you mean 'xray'",
    "check m --for exprot": "Did you mean 'export'",
    "check m --only forwad": "Did you mean 'forward'",
    "check m --jsn": "No such option",
    "check maquette.models.bert.encoder:BertModell": "Did you mean 'BertModel'",
    "diff m ./nothing": "no file or folder",
    "diff m m --input no.json": "no file 'no.json'",
    "graft m m full": "has something in it",
    "graft ./nothing m": "no file or folder",
    "graft text.txt m": "is no file of weights",
    "graft m m --map no.json": "no map 'no.json'",
    "graft m m --map half.json": "is not JSON",
    "graft m m --answer x=y": "no question 'x'",
    "graft m m --run nowhere:run": "no module 'nowhere'",
    "graft m m --input no.json": "no file 'no.json'",
    "convert m full": "has something in it",
    "convert m other": "nothing to convert",
    "new bert": "is taken",
    "new 9lives": "can be no name of a package",
    "new okay --like decodr": "Did you mean 'decoder'",
    "new okay --folder full": "has something in it",
    "try ./nothing": "A target is a folder",
    "try m hello --task fill-maks": "Did you mean 'fill-mask'",
}


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a folder with something in it, and files that are neither."""
    root = tmp_path_factory.mktemp("bad")
    BertModel(BertConfig(**TINY, max_position_embeddings=16)).save_pretrained(root / "m")
    (root / "full").mkdir()
    (root / "full" / "mine.txt").write_text("mine")
    (root / "half.json").write_text("{")
    (root / "text.txt").write_text("x")
    return root


@pytest.mark.parametrize("line", WRONG)
def test_one_error_says_what_is_wrong(
    line: str, there: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(there)
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr("sys.path", [*sys.path])
    before = {path: path.stat().st_mtime_ns for path in there.rglob("*")}
    for words in (line.split(), [*line.split(), "--json"]):
        monkeypatch.setattr("sys.argv", ["maquette", *words])
        with pytest.raises(SystemExit) as end:
            main()
        output, errors = capsys.readouterr()
        assert end.value.code == 2 and "Traceback" not in output + errors
        assert WRONG[line] in " ".join(errors.split())
        if "--json" in words:
            assert WRONG[line] in json.loads(output)["error"]["message"]
        else:
            assert not output
    assert {path: path.stat().st_mtime_ns for path in there.rglob("*")} == before


@pytest.mark.parametrize("words", [["xray", "m"], ["xray", "m", "--json"]])
def test_who_interrupts_gets_no_answer(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """And so neither of the exit codes of answers."""

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("maquette.workshop.xray.xray", interrupt)
    monkeypatch.setattr("sys.argv", ["maquette", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 130
