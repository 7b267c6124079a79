"""The custom ResNet: the published architectures, every typo of its fields, and the demo from training to reloading."""

import importlib
import importlib.util
import inspect
import json
import os
import re
import shutil
import string
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from stored_arrays import read_arrays

from maquette import UnknownFieldError

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "custom_resnet"
PACKAGE = "example_of_a_custom_resnet"  # not resnet_model: nothing else in this process is to find it by that name


def import_example(module: str) -> ModuleType:
    if PACKAGE not in sys.modules:
        folder = EXAMPLE / "resnet_model"
        places = {"submodule_search_locations": [str(folder)]}
        spec = importlib.util.spec_from_file_location(PACKAGE, folder / "__init__.py", **places)
        assert spec is not None
        sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)
    return importlib.import_module(f"{PACKAGE}.{module}")


ResnetConfig = import_example("configuration_resnet").ResnetConfig
ResnetModel = import_example("modeling_resnet").ResnetModel
ResnetModelForImageClassification = import_example("modeling_resnet").ResnetModelForImageClassification

FIELDS = [name for name in inspect.signature(ResnetConfig.__init__).parameters if name not in ("self", "kwargs")]


# The configuration -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [{"block_type": "Basic"}, {"block_type": ""}, {"stem_type": "deeper"}])
def test_wrong_types_of_block_and_stem_are_refused(wrong: dict[str, str]) -> None:
    (name, value), *_ = wrong.items()
    with pytest.raises(ValueError, match=f"`{name}` must be one of .*, got {value!r}"):
        ResnetConfig(**wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"block_type": "basic", "cardinality": 32}, "Basic blocks have no groups"),
        ({"block_type": "basic", "base_width": 32}, "Basic blocks have no groups"),
        ({"layers": []}, "at least one block for every stage"),
        ({"layers": [2, 0]}, "at least one block for every stage"),
        ({"layers": [2, "two"]}, "layers"),
        ({"num_classes": "ten"}, "num_classes"),
        ({"avg_down": 3.5}, "avg_down"),
    ],
)
def test_wrong_values_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResnetConfig(**wrong)


def test_default_lists_are_not_shared() -> None:
    ResnetConfig().layers.append(1)
    assert ResnetConfig().layers == [3, 4, 6, 3]


def test_all_fields_survive_a_file(tmp_path: Path) -> None:
    values = {"layers": [1, 2], "num_classes": 7, "input_channels": 4, "cardinality": 2, "base_width": 32}
    values |= {"stem_width": 16, "stem_type": "deep-tiered", "avg_down": True, "small_images": True}
    ResnetConfig(**values).save_pretrained(tmp_path)
    again = ResnetConfig.from_pretrained(tmp_path)
    assert {name: getattr(again, name) for name in values} == values
    assert {*values, "block_type"} == {*FIELDS}


def spell_wrongly(name: str) -> set[str]:
    """Every spelling that is one slip away: a letter replaced, left out, put in, or swapped with its neighbour."""
    cuts = [(name[:i], name[i:]) for i in range(len(name) + 1)]
    replaced = {a + letter + b[1:] for a, b in cuts if b for letter in string.ascii_lowercase}
    left_out = {a + b[1:] for a, b in cuts if b}
    put_in = {a + letter + b for a, b in cuts for letter in string.ascii_lowercase}
    swapped = {a + b[1] + b[0] + b[2:] for a, b in cuts if len(b) > 1}
    return (replaced | left_out | put_in | swapped) - {name}


@pytest.mark.parametrize("name", FIELDS)
def test_every_typo_is_an_error_that_names_the_field(name: str) -> None:
    """No slip in these fields spells another field, so none is passed over; 95 % of the suggestions must be right."""
    known = {*ResnetConfig().to_dict()}
    config, value = ResnetConfig(), getattr(ResnetConfig(), name)
    typos = sorted(spell_wrongly(name))
    assert not known & {*typos}
    suggested = []
    for typo in typos:
        with pytest.raises(UnknownFieldError, match=f"'{typo}'") as caught:
            ResnetConfig(**{typo: value})
        suggested.append(re.search(r"Did you mean '(\w+)'", str(caught.value)))
    for typo in typos[::10]:
        with pytest.raises(UnknownFieldError, match=f"'{typo}'"):
            setattr(config, typo, value)
    right = sum(found is not None and found[1] == name for found in suggested)
    assert len(typos) > 50 * len(name)
    assert right >= 0.95 * len(typos)


# The model -------------------------------------------------------------------------------------------------------

# The number of parameters that torchvision and timm publish for each architecture, and its name in timm.
PUBLISHED = {
    "resnet18": (11_689_512, {"block_type": "basic", "layers": [2, 2, 2, 2]}),
    "resnet50": (25_557_032, {}),
    "resnext50_32x4d": (25_028_904, {"cardinality": 32, "base_width": 4}),
    "resnet50d": (25_576_264, {"stem_type": "deep", "stem_width": 32, "avg_down": True}),
    "resnet50t": (25_573_728, {"stem_type": "deep-tiered", "stem_width": 32, "avg_down": True}),
}


@pytest.fixture(scope="module")
def timm() -> Iterator[ModuleType]:
    """The library whose ResNets are compared with ours.

    It imports torchvision, which only imports where two operators are known. Where torchvision's compiled part does not
    fit the installed torch, they are declared here; no ResNet uses them.
    """
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    yield pytest.importorskip("timm", reason="the published architectures are compared with timm's")
    del library


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_as_many_as_published(name: str) -> None:
    expected, settings = PUBLISHED[name]
    with torch.device("meta"):
        model = ResnetModelForImageClassification(ResnetConfig(**settings))
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_weights_fit_and_give_the_same_logits(name: str, timm: ModuleType) -> None:
    torch.manual_seed(0)
    oracle = timm.create_model(name, zero_init_last=False).eval()
    for _, buffer in oracle.named_buffers():  # statistics as after training, not zeros and ones
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)
    model = ResnetModelForImageClassification(ResnetConfig(**PUBLISHED[name][1])).eval()
    state = oracle.state_dict()
    model.load_state_dict({key if key.startswith("fc.") else f"model.{key}": state[key] for key in state})
    images = torch.randn(2, 3, 75, 64)  # an odd height: both must round alike
    with torch.no_grad():
        torch.testing.assert_close(model.model(images), oracle.forward_features(images))
        torch.testing.assert_close(model(images)["logits"], logits := oracle(images))
    assert logits.std() > 0.01


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"block_type": "basic", "layers": [1, 1]}, (128, 1, 1)),
        ({"block_type": "basic", "layers": [1, 1, 1], "small_images": True}, (256, 2, 2)),
        ({"layers": [1, 1], "small_images": True}, (512, 4, 4)),
        ({"layers": [1, 1, 1, 1], "stem_type": "deep", "stem_width": 8, "small_images": True}, (2048, 1, 1)),
        ({"layers": [1, 1], "stem_type": "deep-tiered", "avg_down": True, "small_images": True}, (512, 4, 4)),
        ({"layers": [1], "cardinality": 32, "base_width": 4, "small_images": True}, (256, 8, 8)),
    ],
)
def test_images_of_8_by_8_pixels(settings: dict[str, Any], expected: tuple[int, ...]) -> None:
    config = ResnetConfig(input_channels=1, num_classes=10, **settings)
    model = ResnetModelForImageClassification(config)
    images, labels = torch.randn(5, 1, 8, 8), torch.tensor([0, 9, 3, 3, 7])
    assert model.eval().model(images).shape == (5, *expected)
    assert model(images).keys() == {"logits"}
    outputs = model.train()(images, labels=labels)
    assert outputs["logits"].shape == (5, 10)
    probabilities = outputs["logits"].detach().double().softmax(1).numpy()
    assert outputs["loss"].item() == pytest.approx(-np.log(probabilities[range(5), labels.numpy()]).mean(), rel=1e-5)
    outputs["loss"].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_fresh_blocks_are_their_shortcuts() -> None:
    """Identity blocks change nothing before training, so two more of them give the same features."""
    for settings in ({"block_type": "basic"}, {"block_type": "bottleneck"}):
        short, long = (ResnetModel(ResnetConfig(layers=[n], **settings)).eval() for n in (1, 3))
        missing, _ = long.load_state_dict(short.state_dict(), strict=False)
        assert missing
        images = torch.randn(1, 3, 32, 32)
        torch.testing.assert_close(long(images), short(images))


# The demo --------------------------------------------------------------------------------------------------------

EPOCHS = 5


def run(*command: Any, cwd: Path, home: Path) -> subprocess.CompletedProcess[str]:
    """Run a script as a user would, whose own configuration lies in `home`."""
    environment = {name: value for name, value in os.environ.items() if name != "MAQUETTE_HOME"}
    environment |= {"XDG_CONFIG_HOME": str(home), "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, "-W", "error", *map(str, command)]
    return subprocess.run(arguments, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The output folder of a short demo, and what it printed."""
    root = tmp_path_factory.mktemp("demo")
    finished = run(EXAMPLE / "demo.py", "--output", root / "demo", "--epochs", EPOCHS, cwd=root, home=root / "home")
    assert finished.returncode == 0, finished.stderr
    assert {line.split()[0] for line in finished.stderr.splitlines()} == {"step"}  # how far it is, and nothing else
    return root / "demo", finished.stdout


@pytest.fixture
def copied(demo: tuple[Path, str], tmp_path: Path) -> Path:
    """A copy of the demo's output that a test may damage."""
    return Path(shutil.copytree(demo[0], tmp_path / "demo"))


def reload(output: Path) -> subprocess.CompletedProcess[str]:
    return run("-P", EXAMPLE / "reload.py", "--output", output, cwd=output, home=output / "home")


def test_the_demo_learns_to_read_digits(demo: tuple[Path, str]) -> None:
    output, printed = demo
    saved = read_arrays(output / "predictions.npz")
    assert saved["images"].shape == (360, 1, 8, 8)
    assert (saved["images"].min(), saved["images"].max()) == (0, 1)
    per_digit = np.bincount(load_digits().target)
    assert np.abs(np.bincount(saved["labels"]) - per_digit / 5).max() < 1
    right = int((saved["logits"].argmax(1) == saved["labels"]).sum())
    assert right >= 0.95 * 360
    assert f"Held-out accuracy: {100 * right / 360:.1f} % ({right} of 360 digits)." in printed


def test_the_demo_says_what_it_did_and_where_everything_is(demo: tuple[Path, str]) -> None:
    output, printed = demo
    lines = printed.splitlines()
    assert len(lines) <= 12
    assert max(map(len, lines)) <= 100 + len(str(output))
    assert re.search(rf"Trained 703,018 parameters on 1,437 digits, {EPOCHS} epochs in \d+\.\d s\.", printed)
    assert "All 3,600 logits for 360 held-out digits equal the saved ones, bit for bit." in printed
    named = [Path(line.partition(":")[2].strip()) for line in lines[-2:]]
    assert named == [output / "training.png", output / "digits-resnet"]
    assert all(path.exists() for path in named)


SPLIT = """
import numpy as np
from sklearn.datasets import load_digits
from train import split_digits

images, test_images, labels, test_labels = (part.numpy() for part in split_digits())
seen = {image.tobytes() for image in images}
assert not any(image.tobytes() in seen for image in test_images)
together = np.concatenate([images, test_images])[:, 0] * 16
targets = np.concatenate([labels, test_labels])
digits = load_digits()
found = sorted((image.tobytes(), target) for image, target in zip(together.astype(float), targets))
assert found == sorted((image.tobytes(), target) for image, target in zip(digits.images, digits.target))
"""


def test_no_held_out_digit_was_trained_on_and_none_is_left_out(tmp_path: Path) -> None:
    finished = run("-c", SPLIT, cwd=EXAMPLE, home=tmp_path)
    assert finished.returncode == 0, finished.stderr


def test_the_demo_leaves_the_users_own_record_alone(demo: tuple[Path, str]) -> None:
    assert (demo[0] / "approvals" / "trust.json").is_file()
    assert not (demo[0].parent / "home" / "maquette").exists()


def test_the_picture_is_a_png_worth_showing(demo: tuple[Path, str]) -> None:
    with Image.open(demo[0] / "training.png") as picture:
        picture.verify()
    with Image.open(demo[0] / "training.png") as picture:
        assert (picture.format, picture.size) == ("PNG", (2100, 960))
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    blue, orange = (np.abs(pixels - color).max(axis=2) < 40 for color in ([0, 0x72, 0xB2], [0xD5, 0x5E, 0]))
    left, right = np.s_[:, :1100], np.s_[:, 1200:]
    assert blue[left].sum() > 2000 < orange[left].sum()  # the curves
    assert blue[right].sum() > 20_000  # the diagonal
    assert 0.5 < (pixels.min(axis=2) > 250).mean() < 0.97  # neither empty nor covered


def test_the_saved_folder_holds_the_code_and_no_more(demo: tuple[Path, str]) -> None:
    folder = demo[0] / "digits-resnet"
    files = {"config.json", "model.safetensors", "configuration_resnet.py", "modeling_resnet.py"}
    assert {path.name for path in folder.iterdir()} == files
    for name in ("configuration_resnet.py", "modeling_resnet.py"):
        assert (folder / name).read_bytes() == (EXAMPLE / "resnet_model" / name).read_bytes()
    content = json.loads((folder / "config.json").read_text())
    assert content["architectures"] == ["ResnetModelForImageClassification"]
    assert content["auto_map"] == {
        "AutoConfig": "configuration_resnet.ResnetConfig",
        "AutoModel": "modeling_resnet.ResnetModel",
        "AutoModelForImageClassification": "modeling_resnet.ResnetModelForImageClassification",
    }


FRESH = """
import importlib.util, sys
import numpy as np, torch
from maquette import AutoModel, AutoModelForImageClassification

assert importlib.util.find_spec("resnet_model") is None
saved = np.load("predictions.npz")
images = torch.from_numpy(saved["images"])
model = AutoModelForImageClassification.from_pretrained("digits-resnet", trust_remote_code=True)
base = AutoModel.from_pretrained("digits-resnet", trust_remote_code=True)
with torch.no_grad():
    assert model(images)["logits"].numpy().tobytes() == saved["logits"].tobytes()
    assert torch.equal(model.fc(base(images).mean((2, 3))), torch.from_numpy(saved["logits"]))
"""


def test_an_isolated_process_gets_equal_logits_through_both_autoclasses(copied: Path) -> None:
    finished = run("-I", "-c", FRESH, cwd=copied, home=copied / "home")
    assert finished.returncode == 0, finished.stderr


def test_reload_refuses_to_prove_nothing(copied: Path) -> None:
    finished = run(EXAMPLE / "reload.py", "--output", copied, cwd=copied, home=copied / "home")
    assert finished.returncode == 1
    assert "can import resnet_model" in finished.stderr
    assert "python -P reload.py" in finished.stderr


def test_reload_says_that_there_is_nothing_to_load(tmp_path: Path) -> None:
    finished = reload(tmp_path)
    assert (finished.returncode, finished.stderr.count("\n")) == (1, 1)
    assert "Run train.py first." in finished.stderr


def test_reload_notices_the_smallest_difference(copied: Path) -> None:
    saved = read_arrays(copied / "predictions.npz")
    saved["logits"][17, 3] = np.nextafter(saved["logits"][17, 3], np.float32(np.inf))
    np.savez(copied / "predictions.npz", **saved)
    finished = reload(copied)
    assert (finished.returncode, finished.stderr.count("\n")) == (1, 1)
    assert "The predictions differ from the saved ones" in finished.stderr


def test_reload_notices_code_that_needs_no_trust(copied: Path) -> None:
    """Without an auto_map there is nothing to trust; the error that then comes is not the refusal that is asked for."""
    config = copied / "digits-resnet" / "config.json"
    content = {key: value for key, value in json.loads(config.read_text()).items() if key != "auto_map"}
    config.write_text(json.dumps(content))
    finished = reload(copied)
    assert finished.returncode == 1
    assert "bit for bit" not in finished.stdout
