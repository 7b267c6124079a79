"""Every way in which Pillow's images hold transparency, against laying the pixels over white by hand."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maquette import ViTImageProcessor, load_image

RNG = np.random.default_rng(61)
COLOURS = Image.fromarray(RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8))
ALPHA = Image.fromarray(RNG.integers(0, 256, (20, 30), dtype=np.uint8))
RGBA = Image.merge("RGBA", (*COLOURS.split(), ALPHA))
LA = Image.merge("LA", (COLOURS.convert("L"), ALPHA))
PALETTE = COLOURS.quantize(16)
DEEP = RNG.integers(0, 8, (20, 30), dtype=np.uint16) * 257 + 30_000


def through(image: Image.Image, kind: str, **options: Any) -> Image.Image:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return Image.open(file)


def over_white(image: Image.Image) -> np.ndarray:
    """Lay an image over white in real numbers, by the alpha that Pillow finds in it."""
    plain = image.convert("LA") if image.mode == "La" else image  # Pillow takes La nowhere else
    pixels = np.asarray(plain.convert("RGBA")).astype(np.float64)
    alpha = pixels[..., 3:] / 255
    return pixels[..., :3] * alpha + 255 * (1 - alpha)


def read(image: Image.Image) -> np.ndarray:
    processor = ViTImageProcessor(do_resize=False, do_normalize=False, do_rescale=False)
    return processor(image, return_tensors="np").pixel_values[0].transpose(1, 2, 0).astype(np.float64)


IMAGES = {
    "RGBA": RGBA,
    "LA": LA,
    "PA": RGBA.convert("PA"),
    "premultiplied RGBa": RGBA.convert("RGBa"),
    "premultiplied La": LA.convert("La"),
    "palette with an alpha for each colour": RGBA.quantize(16),
    "palette with an alpha for each colour, PNG": through(RGBA.quantize(16), "PNG"),
    "palette with a transparent colour, GIF": through(PALETTE, "GIF", transparency=3),
    "grey with a transparent grey, PNG": through(
        LA.getchannel(0), "PNG", transparency=LA.getchannel(0).getpixel((0, 0))
    ),
    "two colours, one transparent, PNG": through(COLOURS.convert("1"), "PNG", transparency=1),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_transparency_of_every_kind_is_laid_over_white(kind: str) -> None:
    image = IMAGES[kind]
    expected = over_white(image)
    assert np.ptp(expected) > 0
    assert np.abs(read(image) - expected).max() <= 1.01  # rounded once more where Pillow lays 8 bits over 8 bits
    assert np.abs(np.asarray(load_image(image)).astype(np.float64) - expected).max() <= 1.01


def test_a_transparent_grey_of_sixteen_bits_is_told_from_its_neighbours() -> None:
    chosen = int(DEEP[0, 0])
    image = through(Image.fromarray(DEEP), "PNG", transparency=chosen)
    expected = np.where(chosen == DEEP, 255, DEEP >> 8)
    assert (read(image) == expected[..., None]).all()
