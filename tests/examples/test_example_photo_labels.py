"""The example on photographs: its labels, its split, and the way from outlines to a picture by way of a reload."""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib import util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from stored_arrays import read_arrays

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "photo_labels"
LABELS = ["sky", "water", "trees", "roof", "timber", "petals", "leaves"]
FAST = ("--stride", 24)  # tiles side by side


def import_tiles() -> Any:
    spec = util.spec_from_file_location("example_tiles", EXAMPLE / "tiles.py")
    assert spec is not None and spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tiles = import_tiles()


def run(script: str, *arguments: Any, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", str(EXAMPLE / script), *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=300
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The output folder of a short training, and what it printed."""
    root = tmp_path_factory.mktemp("photographs")
    finished = run("train.py", "--output", root / "out", "--steps", 40, cwd=root)
    assert finished.returncode == 0, finished.stderr
    assert {line.split()[0] for line in finished.stderr.splitlines()} == {"step"}  # how far it is, and nothing else
    return root / "out", finished.stdout


@pytest.fixture
def copied(trained: tuple[Path, str], tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained[0], tmp_path / "out"))


def test_training_learns_and_says_what_it_did(trained: tuple[Path, str]) -> None:
    output, printed = trained
    saved = read_arrays(output / "photo-labels.npz")
    right, count = int((saved["logits"].argmax(1) == saved["labels"]).sum()), len(saved["labels"])
    assert f"Held-out accuracy: {100 * right / count:.1f} % ({right} of {count} tiles)." in printed
    losses = re.search(r"Loss: (\d\.\d\d) in the first ten steps, (\d\.\d\d) in the last ones\.", printed)
    colour = re.search(r"The nearest mean colour alone: (\d+\.\d) %\.", printed)
    assert losses and colour
    assert float(losses[2]) < float(losses[1]) / 1.5
    log = [json.loads(line)["loss"] for line in (output / "training" / "log.jsonl").read_text().splitlines()]
    assert (f"{log[0]:.2f}", f"{log[-1]:.2f}", len(log)) == (losses[1], losses[2], 4)
    assert (output / "training" / "report.html").is_file()
    assert 100 * right / count > float(colour[1])
    by_label = re.search(r"By label: (.*)\.", printed)
    assert by_label and [each.split()[0] for each in by_label[1].split(", ")] == LABELS


def test_the_folder_holds_model_and_processor(trained: tuple[Path, str]) -> None:
    folder = trained[0] / "photo-labels"
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    }
    assert json.loads((folder / "config.json").read_text())["id2label"] == {str(i): n for i, n in enumerate(LABELS)}
    assert json.loads((folder / "preprocessor_config.json").read_text())["image_processor_type"] == "ViTImageProcessor"


def test_a_fresh_process_gets_equal_logits_and_names_the_photographs(trained: tuple[Path, str]) -> None:
    finished = run("reload.py", "--output", trained[0], *FAST, cwd=trained[0])
    assert (finished.returncode, finished.stderr) == (0, "")
    first, temple, dahlia = finished.stdout.splitlines()
    count = len(read_arrays(trained[0] / "photo-labels.npz")["labels"])
    assert first == f"All {7 * count:,} logits for {count} held-out tiles equal the saved ones, bit for bit."
    # The pagoda's photograph is mostly sky and trees, and the dahlia's mostly leaves.
    for line, name, likeliest in [(temple, "china.jpg", {"sky", "trees"}), (dahlia, "flower.jpg", {"leaves"})]:
        found = re.findall(r"(\w+) (\d+\.\d) %", line.removeprefix(f"{name}: "))
        shares = [float(share) for _, share in found]
        assert len(found) == 3 and found[0][0] in likeliest
        assert sorted(shares, reverse=True) == shares and sum(shares) <= 100.2


def test_reload_notices_the_smallest_difference(copied: Path) -> None:
    saved = read_arrays(copied / "photo-labels.npz")
    saved["logits"][3, 1] = np.nextafter(saved["logits"][3, 1], np.float32(np.inf))
    np.savez(copied / "photo-labels.npz", **saved)
    finished = run("reload.py", "--output", copied, cwd=copied)
    assert (finished.returncode, finished.stderr.count("\n")) == (1, 1)
    assert "The logits differ from the saved ones" in finished.stderr


def test_reload_says_that_there_is_nothing_to_load(tmp_path: Path) -> None:
    finished = run("reload.py", "--output", tmp_path, cwd=tmp_path)
    assert (finished.returncode, finished.stderr.count("\n")) == (1, 1)
    assert "Run train.py first." in finished.stderr


def test_the_picture_shows_photographs_labels_and_bars(trained: tuple[Path, str]) -> None:
    finished = run("picture.py", "--output", trained[0], *FAST, cwd=trained[0])
    assert (finished.returncode, finished.stderr) == (0, "")
    path = trained[0] / "photo-labels.png"
    assert path.stat().st_size < 300_000
    with Image.open(path) as picture:
        assert (picture.format, picture.size) == ("PNG", (1320, 720))
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    bars = pixels[:, 1030:]
    for colour in ([0x88, 0xCC, 0xEE], [0x44, 0xAA, 0x99]):  # of sky and of leaves
        assert (np.abs(bars - colour).max(axis=2) < 24).sum() > 1000
    assert (bars.min(axis=2) > 250).mean() > 0.7
    for half in (pixels[40:350, 20:500], pixels[390:700, 530:1010]):
        assert (half.min(axis=2) > 250).mean() < 0.2  # photographs


# No model is needed for these ------------------------------------------------------------------------------------

SPLIT = """
import json
from regions import LEARNT, OUTLINES, split
print(json.dumps({"sides": split(), "learnt": LEARNT, "outlines": OUTLINES}))
"""


@pytest.fixture(scope="module")
def regions() -> dict[str, Any]:
    command = [sys.executable, "-c", SPLIT]
    finished = subprocess.run(command, cwd=EXAMPLE, capture_output=True, text=True, check=True, timeout=300)
    return dict(json.loads(finished.stdout))


def cover(places: list[tuple[str, int, int, int]], name: str) -> np.ndarray:
    """Count the tiles over every pixel of a photograph."""
    counts = np.zeros((427, 640), int)
    for photo, top, left, _ in places:
        if photo == name:
            assert 0 <= top <= 427 - 24 and 0 <= left <= 640 - 24
            counts[top : top + 24, left : left + 24] += 1
    return counts


@pytest.mark.parametrize("name", ["china.jpg", "flower.jpg"])
def test_held_out_tiles_overlap_neither_each_other_nor_what_is_learnt(regions: dict[str, Any], name: str) -> None:
    learnt, held_out = (cover(side, name) for side in regions["sides"])
    start, stop = regions["learnt"][name]
    assert not learnt[:, :start].any() and not learnt[:, stop:].any() and learnt.any()
    assert held_out.max() == 1
    assert not (held_out.astype(bool) & learnt.astype(bool)).any()


def test_every_label_is_on_both_sides(regions: dict[str, Any]) -> None:
    for side in regions["sides"]:
        assert {label for *_, label in side} == set(range(7))


def test_held_out_tiles_show_what_the_outlines_say(regions: dict[str, Any]) -> None:
    """The oracle is Matplotlib's test for points in polygons; Pillow draws edges half a pixel further out."""
    from matplotlib.path import Path as Outline

    points = np.stack(np.meshgrid(np.arange(640), np.arange(427)), axis=-1).reshape(-1, 2)
    for name, outlines in regions["outlines"].items():
        labels = np.full(427 * 640, -1)
        for label, outline in outlines:
            labels[Outline(outline).contains_points(points)] = LABELS.index(label) if label else -1
        for photo, top, left, label in regions["sides"][1]:
            if photo == name:
                assert (labels.reshape(427, 640)[top : top + 24, left : left + 24] == label).mean() > 0.7


def test_the_nearest_mean_colour_is_what_it_says(regions: dict[str, Any], trained: tuple[Path, str]) -> None:
    folder = Path(str(util.find_spec("sklearn").origin)).parent / "datasets" / "images"  # type: ignore[union-attr]
    photos = {name: np.asarray(Image.open(folder / name)) for name in regions["learnt"]}
    (colours, labels), (others, expected) = (
        (
            torch.tensor(np.array([photos[n][y : y + 24, x : x + 24].reshape(-1, 3).mean(0) for n, y, x, _ in side])),
            torch.tensor([label for *_, label in side]),
        )
        for side in regions["sides"]
    )
    means = torch.stack([colours[labels == label].mean(0) for label in range(7)])
    share = (torch.cdist(others, means).argmin(1) == expected).double().mean()
    assert f"The nearest mean colour alone: {100 * share:.1f} %." in trained[1]


class Brightness:
    """A model of two labels and its processor, which say how bright a tile is, so that the answer is known."""

    config = SimpleNamespace(id2label={0: "dark", 1: "bright"})

    def eval(self) -> "Brightness":
        return self

    def __call__(self, images: Any, **options: Any) -> Any:
        if options.get("return_tensors"):
            return {"images": images}
        share = torch.from_numpy(images.mean((1, 2, 3)) / 255).clip(1e-6, 1 - 1e-6)
        return SimpleNamespace(logits=torch.stack([torch.zeros_like(share), share.logit()], dim=1))


@pytest.mark.parametrize(("size", "stride"), [((24, 24), 8), ((25, 61), 24), ((90, 47), 7)])
def test_a_survey_reaches_every_pixel(size: tuple[int, int], stride: int) -> None:
    both = Brightness()
    found = tiles.survey(both, both, np.full((*size, 3), 51, np.uint8), stride=stride)
    assert found.shape == (*size, 2)
    np.testing.assert_allclose(found, np.broadcast_to([0.8, 0.2], found.shape), atol=1e-6)


def test_a_survey_finds_where_a_photograph_is_bright() -> None:
    both, photo = Brightness(), np.zeros((72, 72, 3), np.uint8)
    photo[:, 48:] = 255
    found = tiles.survey(both, both, photo, stride=12)[..., 1]
    np.testing.assert_allclose(found[:, 0], 0, atol=2e-6)
    np.testing.assert_allclose(found[:, 71], 1, atol=2e-6)
    assert (np.diff(found[30]) > -1e-9).all()  # rises from left to right


def test_a_photograph_as_a_whole_is_its_pixels_in_the_mean() -> None:
    from maquette import ViTImageProcessor

    probabilities = np.random.default_rng(0).dirichlet([1, 2, 3], size=(5, 4))
    model = SimpleNamespace(config={0: "a", 1: "b", 2: "c"})
    found = tiles.name_whole(model, ViTImageProcessor(), probabilities, count=2)
    expected = sorted(zip(probabilities.reshape(-1, 3).mean(0), "abc", strict=True), reverse=True)[:2]
    assert [each["label"] for each in found] == [label for _, label in expected]
    np.testing.assert_allclose([each["score"] for each in found], [share for share, _ in expected], rtol=1e-12)
