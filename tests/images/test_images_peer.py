"""Image processors give what the peer's Pillow processor gives, and read and write its files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from stored_arrays import read_arrays

from maquette import AutoImageProcessor
from maquette.models.vit.image_processing import ViTImageProcessor

CASES = 500
SETTINGS: dict[str, dict[str, Any]] = {
    "ours-default": {},
    "ours-square": {"size": 20, "resample": 3, "image_mean": [0.1, 0.2, 0.3], "do_rescale": False},
    "ours-edges": {"size": {"shortest_edge": 30, "longest_edge": 40}, "do_normalize": False},
    "ours-cropped": {"size": {"height": 30, "width": 33}, "do_center_crop": True, "crop_size": 25, "fast_decode": True},
}


def draw_image(rng: np.random.Generator, mode: str) -> Image.Image:
    """Give an image of noise of a random size; the palette's has a transparent colour half of the time."""
    height, width = (int(side) for side in rng.integers(12, 90, 2))
    channels = len(Image.new(mode, (1, 1)).getbands())
    noise = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    if mode == "1":
        return Image.fromarray(noise[..., 0]).convert("1")
    if mode != "P":
        return Image.frombytes(mode, (width, height), noise.tobytes())
    return Image.fromarray(noise[..., 0]).convert("RGB").quantize(16)


def draw_options(rng: np.random.Generator, mode: str) -> dict[str, Any]:
    low, high = sorted(int(side) for side in rng.integers(8, 60, 2))
    sizes = [
        {"height": low, "width": high},
        {"shortest_edge": low},
        {"shortest_edge": low, "longest_edge": high + 1},
        {"max_height": low, "max_width": high},
        low,
    ]
    options: dict[str, Any] = {
        "do_convert_rgb": True,
        "do_resize": bool(rng.random() < 0.8),
        "size": sizes[rng.integers(len(sizes))],
        "resample": int(rng.integers(6)),
        "do_center_crop": bool(rng.random() < 0.3),
        "crop_size": {"height": int(rng.integers(3, 60)), "width": int(rng.integers(3, 60))},
        "do_rescale": bool(rng.random() < 0.8),
        "rescale_factor": [1 / 255, 1 / 127.5][rng.integers(2)],
        "do_normalize": bool(rng.random() < 0.8),
        "image_mean": rng.uniform(0.1, 0.9, 3).tolist(),
        "image_std": rng.uniform(0.2, 0.9, 3).tolist(),
        "do_pad": bool(rng.random() < 0.2),
        "pad_size": {"height": 100, "width": 110},
    }
    if options["do_pad"] and isinstance(options["size"], dict) and not {"height"} & options["size"].keys():
        options["size"] = low
    if mode in ("L", "RGBA") and rng.random() < 0.4:
        options |= {"do_convert_rgb": False, "image_mean": 0.4, "image_std": 0.3}
    return options


def make_cases(folder: Path) -> list[dict[str, Any]]:
    rng = np.random.default_rng(5)
    modes = ["RGB", "RGB", "RGB", "L", "LA", "RGBA", "P", "1", "CMYK", "YCbCr"]
    cases = []
    for number in range(CASES):
        mode = modes[number % len(modes)]
        draw_image(rng, mode).save(folder / f"{number}.tiff")
        ways = ["pillow", "channels_last", "channels_first"] if mode == "RGB" else ["pillow"]
        given = ways[rng.integers(len(ways))]
        options = draw_options(rng, mode)
        if given != "pillow":
            options["input_data_format"] = given
        cases.append({"mode": mode, "given": given, "options": options})
    return cases


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory, run_peer: Callable[..., str]) -> Path:
    """A folder through which both libraries went: images, options, and what the peer made of them."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "cases.json").write_text(json.dumps(make_cases(folder)), encoding="utf-8")
    for name, settings in SETTINGS.items():
        ViTImageProcessor(**settings).save_pretrained(folder / name)
    run_peer(Path(__file__).parent / "peer_images.py", folder)
    return folder


def test_pixels_equal_the_peers(exchange: Path) -> None:
    expected = read_arrays(exchange / "expected.npz")
    cases = json.loads((exchange / "cases.json").read_text(encoding="utf-8"))
    assert len(cases) == len(expected) == CASES
    for number, case in enumerate(cases):
        with Image.open(exchange / f"{number}.tiff") as opened:
            image: Any = opened.copy()
        if case["given"] != "pillow":
            image = np.asarray(image) if case["given"] == "channels_last" else np.moveaxis(np.asarray(image), -1, 0)
        found = ViTImageProcessor(**case["options"])(image, return_tensors="np")["pixel_values"]
        theirs = expected[str(number)]
        assert found.shape == theirs.shape, case
        np.testing.assert_allclose(found, theirs, rtol=1e-6, atol=1e-6, err_msg=str(case))


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_travel_both_ways(exchange: Path, name: str) -> None:
    with Image.open(exchange / "0.tiff") as opened:
        image = opened.copy()
    ours = ViTImageProcessor(**SETTINGS[name])
    expected = read_arrays(exchange / "exchanged.npz")[name]
    np.testing.assert_allclose(ours(image, return_tensors="np")["pixel_values"], expected, rtol=1e-6, atol=1e-6)
    theirs = AutoImageProcessor.from_pretrained(exchange / name.replace("ours", "theirs"))
    assert type(theirs) is ViTImageProcessor
    np.testing.assert_allclose(theirs(image, return_tensors="np")["pixel_values"], expected, rtol=1e-6, atol=1e-6)
    written = json.loads((exchange / name.replace("ours", "theirs") / "preprocessor_config.json").read_text())
    theirs.save_pretrained(exchange / f"again-{name}")
    again = json.loads((exchange / f"again-{name}" / "preprocessor_config.json").read_text())
    assert {key: again[key] for key in written} == written
