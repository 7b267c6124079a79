"""`maquette ship --to transformers`: folders that load, compute and generate there, without maquette."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch
from headed_models import GlanceConfig, GlanceForSequenceClassification

import maquette
from maquette import InputError, MissingPackageError
from maquette.cli.main import main
from maquette.workshop import ship
from maquette.workshop.ship.peer_code import Folder

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def imported(monkeypatch):
    """Import a module of an example, and forget it afterwards."""

    def get(example: str, module: str):
        monkeypatch.syspath_prepend(str(EXAMPLES / example))
        monkeypatch.setitem(sys.modules, module, None)
        del sys.modules[module]
        return importlib.import_module(module)

    yield get


@pytest.fixture(scope="module")
def echo(tmp_path_factory, peer_python):
    """The decoder of the example, which keeps a state beside its cache, as a folder; and the model."""
    sys.path.insert(0, str(EXAMPLES / "tiny_decoder"))
    try:
        code = importlib.import_module("modeling_echo")
    finally:
        sys.path.pop(0)
    torch.manual_seed(0)
    model = code.EchoForCausalLM(code.EchoConfig(vocab_size=30, dim=16, heads=2, depth=2, window=4)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8)  # so that the best token stands out
    folder = tmp_path_factory.mktemp("ship") / "echo"
    found = model.ship(folder, to="transformers", python=peer_python)
    assert not found.differs and len(found.compared) == 4  # two sizes, greedily, and with beams
    return folder, model


GENERATE = """
import json, sys
import torch, transformers
assert not any(name.partition(".")[0] == "maquette" for name in sys.modules)
sys.modules["maquette"] = None
folder = sys.argv[1]
model = transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True).eval()
ids = torch.tensor([[4, 5, 6, 4, 5], [7, 8, 9, 7, 8]])
mask = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]])
settings = dict(max_new_tokens=9, eos_token_id=None, pad_token_id=0, do_sample=False)
found = {"greedy": model.generate(ids, attention_mask=mask, **settings).tolist()}
found["slow"] = model.generate(ids, attention_mask=mask, use_cache=False, **settings).tolist()
found["beams"] = model.generate(ids, attention_mask=mask, num_beams=3, **settings).tolist()
from tokenizers import Tokenizer, models, pre_tokenizers
inner = Tokenizer(models.WordLevel({f"w{n}": n for n in range(30)}, unk_token="w0"))
inner.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="w0")
pipe = transformers.pipeline("text-generation", model=model, tokenizer=tokenizer)
found["text"] = pipe("w4 w5 w6 w4 w5", **settings)[0]["generated_text"]
model.save_pretrained(sys.argv[2])
print(json.dumps(found))
"""


def test_a_decoder_generates_with_the_loops_of_transformers(echo, run_peer, tmp_path) -> None:
    folder, model = echo
    found = json.loads(run_peer(GENERATE, folder, tmp_path / "again").splitlines()[-1])
    ids = torch.tensor([[4, 5, 6, 4, 5], [7, 8, 9, 7, 8]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]])
    settings = {"max_new_tokens": 9, "eos_token_id": None, "pad_token_id": 0, "do_sample": False}
    expected = model.generate(ids, attention_mask=mask, **settings).tolist()
    assert found["greedy"] == found["slow"] == expected
    assert found["beams"] == model.generate(ids, attention_mask=mask, num_beams=3, **settings).tolist()
    assert found["text"].replace("w", " w").split() == [f"w{number}" for number in expected[0]]
    assert (tmp_path / "again" / "model.safetensors").exists()


def test_the_folder_is_whole(echo) -> None:
    folder, _ = echo
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "modeling_echo.py", "maquette_modeling_attention.py"} <= names
    code = [path.read_text() for path in folder.glob("*.py")]
    assert not [text for text in code if "\nfrom maquette" in text or "\nimport maquette" in text]


def test_a_saved_classifier_by_the_command(imported, peer_python, tmp_path, monkeypatch, capsys) -> None:
    """Modules of a package, as they came with a save."""
    code = imported("custom_resnet", "resnet_model.modeling_resnet")
    config = imported("custom_resnet", "resnet_model.configuration_resnet").ResnetConfig(layers=[1, 1])
    type(config).register_for_auto_class()
    code.ResnetModelForImageClassification.register_for_auto_class("AutoModelForImageClassification")
    torch.manual_seed(0)
    code.ResnetModelForImageClassification(config).eval().save_pretrained(tmp_path / "model")
    command = ["maquette", "ship", str(tmp_path / "model"), str(tmp_path / "out"), "--to", "transformers"]
    command += ["--python", peer_python, "--trust-remote-code"]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert not ended.value.code, said.err
    assert "ResnetModelForImageClassification for transformers" in said.out
    assert (tmp_path / "out" / "maquette_base.py").exists()


def test_an_encoder_with_a_head_of_ours(peer_python, tmp_path) -> None:
    torch.manual_seed(0)
    model = GlanceForSequenceClassification(GlanceConfig())
    found = model.ship(tmp_path / "out", to="transformers", python=peer_python)
    assert not found.differs and found.about["auto_class"] == "AutoModelForSequenceClassification"


def test_bad_calls(imported, tmp_path) -> None:
    model = maquette.BertModel(maquette.BertConfig(num_hidden_layers=1, hidden_size=8, num_attention_heads=2))
    with pytest.raises(InputError, match="BertModel is built in: the folder that save_pretrained writes loads"):
        ship(model, tmp_path / "out", to="transformers")
    code = imported("tiny_decoder", "modeling_echo")
    small = code.EchoForCausalLM(code.EchoConfig(vocab_size=30, dim=16, heads=2, depth=1))
    with pytest.raises(MissingPackageError, match="Transformers is not installed there"):
        ship(small, tmp_path / "out", to="transformers", python=sys.executable)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("import maquette", "modeling_x, line 1: import maquette: write from maquette import"),
        (
            "from maquette import Trainer",
            r"Trainer \(maquette.training.trainer\) is of maquette",
        ),
        ("from maquette.modeling import packing", "a module is imported by name, maquette.modeling.packing"),
    ],
)
def test_code_that_cannot_go_along(line, says) -> None:
    with pytest.raises(InputError, match=says):
        Folder({"modeling_x.py": line.encode()}, generates=False).write()
