"""What the tests of Keras and of Flax share: torch's side of a comparison, made once, and the comparing."""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import maquette
from maquette.batch.tensors import to_tensor
from maquette.registry import PREFIXES
from maquette.testing import Case, cases

HERE = Path(__file__).parent
# What the torch half is allowed to differ by, in parts of the largest value or of one; sounds are sums of thousands.
TOLERANCE = {"wav2vec2": 1e-4}


def run_torch(verb: str, folder: Path) -> None:
    """Run one verb of `torch_side.py` in a process of its own."""
    done = subprocess.run(
        [sys.executable, str(HERE / "torch_side.py"), verb, str(folder)], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def from_torch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a save of every torch class, what it was called with, and what it gave."""
    folder = tmp_path_factory.mktemp("from-torch")
    run_torch("save", folder)
    return folder


def give_cases(metafunc: pytest.Metafunc, framework: str) -> None:
    """Have tests that ask for a `case` run for every class of a framework."""
    own = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    if "case" in metafunc.fixturenames and "case" not in own:
        metafunc.parametrize("case", cases(framework=framework), ids=str)


def torch_name(case: Case) -> str:
    """Give the torch class that a class of another framework is the counterpart of."""
    name = case.reference.partition(":")[2]
    return name.removeprefix("TF").removeprefix("Flax")


def read(path: Path) -> dict[str, Any]:
    with np.load(path) as stored:
        return {name: (value if value.ndim else value.item()) for name, value in stored.items()}


def flatten(output: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Name every tensor of an output, `hidden_states.0` in tuples."""
    found = {}
    for name, value in output.items():
        for number, item in enumerate(value) if isinstance(value, tuple | list) else [("", value)]:
            found[f"{name}.{number}".rstrip(".")] = np.asarray(item, dtype=np.float32)
    return found


def compare(found: Mapping[str, np.ndarray], expected: Mapping[str, Any], *, tolerance: float) -> None:
    """Require the same names, shapes and, within a tolerance, values."""
    assert list(found) == list(expected)
    for name, value in expected.items():
        given, wanted = np.asarray(found[name]), np.asarray(value)
        assert given.shape == wanted.shape, name
        apart = np.abs(given - wanted).max(initial=0.0)
        assert apart <= tolerance * max(1.0, np.abs(wanted[np.abs(wanted) < 1e30]).max(initial=0.0)), (name, apart)


def tolerance_of(case: Case) -> float:
    return TOLERANCE.get(case.card.model_type, 1e-5)


def check_saved_again(case: Case, place: Path, folder: Path) -> None:
    """Load what torch saved, and save it: the weights are the same file, and the configuration but for its class."""
    case.model_class.from_pretrained(place).save_pretrained(folder)
    assert (folder / "model.safetensors").read_bytes() == (place / "model.safetensors").read_bytes()
    old, new = (json.loads((each / "config.json").read_text(encoding="utf-8")) for each in (place, folder))
    assert new.pop("architectures") == [case.model_class.__name__]
    assert old.pop("architectures") == [torch_name(case)]
    assert new == old


def check_torch_loads(framework: str, folder: Path) -> None:
    """Save fresh models of a framework, and have torch give the same numbers for them."""
    for case in cases(framework=framework):
        place = folder / case.model_class.__name__
        model = case.model_class.from_config(case.config())
        model.save_pretrained(place)
        np.savez(place / "plain.in.npz", **model.dummy_inputs)
        np.savez(place / "plain.out.npz", **without_loss(flatten(model(**model.dummy_inputs))))
        (place / "auto_class.txt").write_text(case.auto_class.removeprefix(PREFIXES[framework]), encoding="utf-8")
    run_torch("load", folder)
    for case in cases(framework=framework):
        place = folder / case.model_class.__name__
        found = without_loss(read(place / "torch.out.npz"))
        compare(found, read(place / "plain.out.npz"), tolerance=tolerance_of(case))


def without_loss(output: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what models of Flax do not give."""
    return {name: value for name, value in output.items() if name != "loss"}


def check_preprocessing(framework: str, folder: Path) -> set[str]:
    """Have all that prepares data give tensors of a framework, and compare them with numpy's; names their types."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world", "##s"]
    (folder / "words.txt").write_text("\n".join(words), encoding="utf-8")
    letters = {letter: number for number, letter in enumerate(["<pad>", "<s>", "</s>", "<unk>", "|", *"HELOWRD"])}
    (folder / "letters.json").write_text(json.dumps(letters), encoding="utf-8")
    texts, sounds = ["hello worlds", "world"], [np.sin(np.arange(n) / 9) for n in (400, 300)]
    image = np.arange(30 * 20 * 3, dtype=np.uint8).reshape(30, 20, 3)
    vocabulary = folder / "words.txt"
    makers = {
        "python": lambda kind: maquette.DistilBertTokenizer(vocabulary)(texts, padding=True, return_tensors=kind),
        "rust": lambda kind: maquette.DistilBertTokenizerFast(vocabulary)(texts, padding=True, return_tensors=kind),
        "image": lambda kind: maquette.ViTImageProcessor(size=8)(image, return_tensors=kind),
        "sound": lambda kind: maquette.Wav2Vec2FeatureExtractor()(
            sounds, sampling_rate=16000, padding=True, return_attention_mask=True, return_tensors=kind
        ),
    }
    kinds = set()
    for make in makers.values():
        found, expected = make(framework), make("np")
        assert list(found) == list(expected) and len(found)
        for name, tensor in found.items():
            kinds.add(type(tensor).__module__.partition(".")[0])
            np.testing.assert_array_equal(np.asarray(tensor), expected[name])
    ids = makers["rust"](framework)["input_ids"]
    assert maquette.DistilBertTokenizer(vocabulary).batch_decode(ids, skip_special_tokens=True) == texts
    heard = [letters[letter] for letter in "HEEL"] + [0, letters["L"], letters["O"], 0]
    frames = to_tensor(np.array([heard, heard]), framework)
    assert maquette.Wav2Vec2CTCTokenizer(folder / "letters.json").batch_decode(frames) == ["HELLO"] * 2
    return kinds


COPY = """
import os, shutil, sys
from pathlib import Path
import numpy as np, maquette, maquette.models
from maquette.registry import built_in_cards
framework, folder = sys.argv[1], Path(sys.argv[2])
wanted = {card.package.rpartition(".")[2] for card in built_in_cards().values() if card.models_in(framework)}
for source in sorted(Path(maquette.models.__path__[0]).iterdir()):
    if source.name in wanted:
        shutil.copytree(source, folder / f"copied_{source.name}", ignore=shutil.ignore_patterns("__pycache__"))
sys.path.insert(0, str(folder))
for package in sorted(path.name for path in folder.glob("copied_*")):
    card = __import__(package).CARD
    config_class = card.load(card.config)
    for auto, reference in card.models_in(framework).items():
        card.load(reference).register_for_auto_class(auto)
    for auto, reference in card.models_in(framework).items():
        card.load(reference).from_config(config_class(**card.tiny)).save_pretrained(folder / "saved" / package / auto)
    print(package, len(card.models_in(framework)))
"""
USE_COPY = """
import os, sys
from pathlib import Path
import numpy as np, maquette
framework, folder = sys.argv[1], Path(sys.argv[2])
count = 0
for place in sorted((folder / "saved").glob("*/*")):
    copied = getattr(maquette, place.name).from_pretrained(place, trust_remote_code=True)
    assert type(copied).__module__.startswith("maquette_remote_"), type(copied)
    card = __import__("maquette.models." + place.parent.name.removeprefix("copied_"), fromlist=["CARD"]).CARD
    built_in = card.load(card.models[place.name]).from_pretrained(place)
    results = []
    for model in (copied, built_in):
        found = model(**model.dummy_inputs).to_tuple()[0]
        results.append(np.asarray(found[0] if isinstance(found, tuple) else found))
    assert results[0].size and np.array_equal(*results), place
    count += 1
print("equal", count)
"""


def check_copied_folders(framework: str, folder: Path, run_fresh: Any) -> None:
    """Copy every built-in folder out of the package, save its models as custom ones, and load them as such."""
    start = f"import sys; sys.argv[1:] = [{framework!r}, {str(folder)!r}]\n"
    run_fresh(start + COPY)
    for copied in folder.glob("copied_*"):
        shutil.rmtree(copied)
    assert f"equal {len(cases(framework=framework))}" in run_fresh(start + USE_COPY)
