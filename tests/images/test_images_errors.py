"""Images that cannot be used, and settings that make no sense: the error says which, why, and what to do."""

import base64
import contextlib
import http.server
import io
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maquette.errors import ConfigurationError, InputError, MaquetteError, MissingFileError, UnknownFieldError
from maquette.images import BaseImageProcessor, load_image

PHOTO = np.random.default_rng(4).integers(0, 256, (40, 60, 3), dtype=np.uint8)
REAL = PHOTO / 255


def jpeg(image: Any = PHOTO, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", **options)
    return file.getvalue()


def png(width: int, height: int) -> bytes:
    """Give a black PNG file, small however large the image is."""
    file = io.BytesIO()
    Image.new("1", (width, height)).save(file, "PNG")
    return file.getvalue()


def prepare(images: Any, **options: Any) -> Any:
    return BaseImageProcessor()(images, **{"size": 16, "return_tensors": "np", **options})["pixel_values"]


# Images --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        ([], {}, "There is no image in this batch: list of length 0"),
        (np.zeros((0, 8, 8, 3)), {}, "There is no image in this batch: ndarray of length 0"),
        (np.zeros((0, 8, 3)), {}, r"The image has the shape \(0, 8, 3\)"),
        (np.zeros(8), {}, r"shape \(8,\)"),
        (np.zeros((1, 1, 3), np.uint8), {}, r"shape \(1, 1, 3\), and its channels may be .* input_data_format="),
        ([PHOTO, PHOTO[:3, :3]], {}, r"images\[1\] has the shape \(3, 3, 3\)"),
        (np.zeros((5, 8, 8), np.uint8), {}, r"neither end is 1, 3 or 4 channels.*images\[:, None\]"),
        ([[PHOTO], [REAL]], {}, r"images\[1\]\[0\] holds real numbers from 0 to 1, .* Pass do_rescale=False"),
        (REAL * 300, {}, "from 0 to 300, which is neither 0 to 1 nor 0 to 255"),
        (REAL - 0.5, {"do_rescale": False}, "from -0.5 to 0.5, which is neither"),
        (np.where(REAL > 0.5, np.nan, 3.0), {}, r"holds \d+ values that are NaN or infinite, out of 7200"),
        (np.full((8, 8), np.inf), {}, "holds 64 values that are NaN"),
        (PHOTO.astype(int) * 2, {}, "whole numbers from 0 to 510"),
        (PHOTO.astype(int) - 1, {}, "whole numbers from -1"),
        (PHOTO > 9, {}, "array of bool"),
        (PHOTO.astype(complex), {}, "array of complex128"),
        ([PHOTO, None], {}, r"images\[1\] is None, a NoneType"),
        ([3, "x"], {}, r"2 of 2 images cannot be used:\n  - images\[0\] is 3.*\n  - images\[1\] \('x'\): there is no"),
        ("https://example.org/cat.png", {}, r"is an address\. Fetch it yourself: maquette\.load_image\('https://ex"),
        (b"no image", {}, "The image is no image of a format that is read here: JPEG, PNG"),
        (b"", {}, "The image is no image of a format"),
        ([PHOTO, PHOTO[:9]], {"do_resize": False}, r"images\[0\] is now 40 × 60 .* images\[1\] 9 × 60 .* do_pad=True"),
        (
            [PHOTO, PHOTO[..., 0]],
            {"do_convert_rgb": False, "do_normalize": False},
            r"images\[1\] 16 × 16 with 1 channel\.",
        ),
        (PHOTO[..., 0], {"do_convert_rgb": False}, "image_mean has 3 numbers, .* have 1 channels"),
        (PHOTO, {"do_resize": False, "do_pad": True, "pad_size": 50}, "The image has 40 × 60 pixels, more than pad_s"),
        (np.zeros((5, 8, 8), np.uint8), {"input_data_format": "channels_first"}, "5 channels"),
    ],
)
def test_each_names_the_image_and_the_reason(images: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError if "there is no" not in message else MaquetteError, match=f"(?s){message}"):
        prepare(images, **options)


def test_black_images_of_real_numbers_are_no_mistake() -> None:
    assert (prepare(np.zeros((8, 8, 3))) == -1).all()
    assert prepare(REAL - 7, do_rescale=False, do_normalize=False).min() < -6


def test_paths_are_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(MissingFileError, match=r"images\[1\] \('.*missing\.png'\): there is no such file"):
        prepare([PHOTO, str(tmp_path / "missing.png")])
    with pytest.raises(InputError, match=r"images\[0\] \('.*notes\.txt'\) is no image"):
        prepare([tmp_path / "notes.txt"])
    with pytest.raises(MissingFileError):
        prepare(tmp_path)


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "GIF", "WEBP"])
def test_files_that_are_cut_off(kept: float, kind: str) -> None:
    file = io.BytesIO()
    Image.fromarray(np.tile(PHOTO, (5, 5, 1))).save(file, kind)
    whole = file.getvalue()
    with pytest.raises(InputError, match=r"images\[1\] (cannot be|is no image)"):
        prepare([PHOTO, whole[: int(len(whole) * kept)]])


def test_damaged_files_raise_nothing_else() -> None:
    """Whatever bytes are wrong: an image comes out, or the error that names it."""
    rng = np.random.default_rng(6)
    whole = np.frombuffer(jpeg(), np.uint8)
    refused = 0
    for _ in range(200):
        broken = whole.copy()
        broken[rng.integers(len(broken), size=8)] = rng.integers(0, 256, 8)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own, on metadata
            try:
                assert prepare(broken.tobytes()).shape == (1, 3, 16, 16)
            except InputError as error:
                assert str(error).startswith("The image ")
                refused += 1
    assert refused


def test_formats_that_run_programs_are_not_read() -> None:
    with pytest.raises(InputError, match="is no image of a format"):
        prepare(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EOF\n")


# Too large -----------------------------------------------------------------------------------------------------


def test_the_limit_of_pixels_is_checked_before_decoding() -> None:
    photo = jpeg()
    with pytest.raises(InputError, match=r"images\[1\] is too large: 60 × 40 pixels\. The limit is max_pixels=2399"):
        prepare([PHOTO, photo], max_pixels=2399)
    assert prepare([PHOTO, photo], max_pixels=2400).shape == (2, 3, 16, 16)
    cut = photo[: len(photo) // 2]
    with pytest.raises(InputError, match="too large"):  # had it been decoded, it would be cut off
        prepare(cut, max_pixels=10)
    with Image.open(io.BytesIO(photo)) as lazy, pytest.raises(InputError, match="too large"):
        prepare([lazy, lazy], max_pixels=10)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("width", [10_000, 20_000])
def test_bombs_are_refused_and_can_be_allowed(width: int) -> None:
    """Beyond Pillow's warning, and beyond its error; the limit that is raised for one call is Pillow's again later."""
    bomb, before = png(width, 10_000), Image.MAX_IMAGE_PIXELS
    with pytest.raises(InputError, match=r"images\[1\] is too large.*max_pixels=89478485.*pass a higher one"):
        prepare([PHOTO, bomb])
    with pytest.raises(InputError, match="too large"):
        load_image(bomb)
    if width == 10_000:
        assert (prepare(bomb, max_pixels=10**8, do_convert_rgb=False, do_normalize=False) == 0).all()
    assert before == Image.MAX_IMAGE_PIXELS


# Settings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"size": 0}, "size=0 must be at least 1 pixel"),
        ({"size": {"height": 8}}, r"size has the keys \['height'\]; it may have height \+ width or"),
        ({"size": {"hieght": 8, "width": 8}}, "Did you mean 'height'"),
        ({"size": [1, 2, 3]}, r"must be \[height, width\]"),
        ({"size": "224"}, "size"),
        ({"size": {"height": -1, "width": 3}}, "at least 1 pixel"),
        ({"resample": 9}, "resample=9 is no filter"),
        ({"resample": "PIL.Image.BOXX"}, "Did you mean 'box'"),
        ({"resample": True}, "resample"),
        ({"image_std": [0.5, 0.0, 0.5]}, "has a zero"),
        ({"image_std": 0}, "has a zero"),
        ({"image_mean": [float("nan"), 0, 0]}, "finite"),
        ({"image_mean": ["a", 0, 0]}, "image_mean"),
        ({"do_center_crop": True}, "crop_size=None must be a number"),
        ({"crop_size": {"shortest_edge": 3}}, "crop_size=.* must be a number"),
        ({"pad_size": 0}, "pad_size=0 must be"),
        ({"data_format": "channel_first"}, "Did you mean 'channels_first'"),
        ({"do_resize": "yes"}, "do_resize"),
    ],
)
def test_settings_that_make_no_sense(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        BaseImageProcessor(**setting)
    with pytest.raises(ConfigurationError, match=message):
        BaseImageProcessor()(PHOTO, **setting)


def test_misspelt_options_of_a_call() -> None:
    for name, meant in {"do_resise": "do_resize", "return_tensor": "return_tensors", "maxpixels": "max_pixels"}.items():
        with pytest.raises(UnknownFieldError, match=f"'{name}' is no setting. Did you mean '{meant}'"):
            BaseImageProcessor()(PHOTO, **{name: 1})
    with pytest.raises(MaquetteError, match="no such kind of tensor"):
        BaseImageProcessor()(PHOTO, return_tensors="torhc")


def test_pillow_is_asked_for_by_name_where_it_is_missing() -> None:
    code = (
        "import sys; sys.modules['PIL'] = None\n"
        "import numpy as np; from maquette.images import BaseImageProcessor\n"
        "BaseImageProcessor()(np.zeros((8, 8, 3), np.uint8))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "MissingPackageError: Images need Pillow. Run: pip install 'maquette[vision]'" in done.stderr


# load_image ----------------------------------------------------------------------------------------------------


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/photo.jpg")
            self.end_headers()
        elif self.path == "/elsewhere":
            self.send_response(302)
            self.send_header("Location", "file:///etc/hostname")
            self.end_headers()
        elif self.path == "/photo.jpg":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(jpeg())
        elif self.path == "/slow":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                for byte in jpeg()[:100]:
                    self.wfile.write(bytes([byte]))
                    time.sleep(0.05)
        else:
            self.send_error(404)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_images_from_anywhere(address: str, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(jpeg())
    with Image.open(tmp_path / "photo.jpg") as opened:
        expected = np.asarray(opened)
    text = base64.b64encode(jpeg()).decode()
    sources = [f"{address}/photo.jpg", f"{address}/moved", str(tmp_path / "photo.jpg"), jpeg()]
    for source in [*sources, f"data:image/jpeg;base64,{text}", Image.open(tmp_path / "photo.jpg")]:
        image = load_image(source)
        assert image.mode == "RGB"
        assert (np.asarray(image) == expected).all()


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("/none", {}, "cannot be fetched: HTTP Error 404"),
        ("/elsewhere", {}, "cannot be fetched: .*file"),
        ("/photo.jpg", {"max_bytes": 100}, "more than max_bytes=100"),
        ("/slow", {"timeout": 0.3}, "took longer than the timeout"),
    ],
)
def test_addresses_that_give_no_image(address: str, path: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_image(address + path, **options)


def test_addresses_that_cannot_be_reached() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(InputError, match="cannot be fetched"):
            load_image(f"http://127.0.0.1:{free.getsockname()[1]}/photo.jpg", timeout=2)
    with pytest.raises(InputError, match="not base64"):
        load_image("data:image/png;base64,%%%")
    with pytest.raises(MissingFileError):
        load_image("ftp://example.org/photo.jpg")
