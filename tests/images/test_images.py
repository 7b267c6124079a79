"""Image processors against Pillow and numpy: every kind of input, every step, every way of saying it."""

import io
import json
import sys
import warnings
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

import maquette
from maquette import AutoImageProcessor, PretrainedConfig
from maquette.batch.features import BatchFeature
from maquette.errors import ConfigurationError, InputError, UntrustedCodeError
from maquette.images import BaseImageProcessor, ImageFeatureExtractionMixin
from maquette.models.vit.image_processing import ViTFeatureExtractor, ViTImageProcessor

RNG = np.random.default_rng(3)
PHOTO = RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8)


class SmallProcessor(BaseImageProcessor):
    size = 16


def pixels(images: Any, **options: Any) -> np.ndarray:
    return SmallProcessor()(images, return_tensors="np", **options)["pixel_values"]


def by_pillow(image: Image.Image, *, side: int = 16, resample: int = 2) -> np.ndarray:
    """Give what the issue asks for, the long way round: (channels, height, width), from -1 to 1."""
    array = np.asarray(image.convert("RGB").resize((side, side), resample)).astype(np.float32)
    return ((array / np.float32(255) - np.float32(0.5)) / np.float32(0.5)).transpose(2, 0, 1)


def same(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-7)


# Every kind of input -------------------------------------------------------------------------------------------


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def test_kinds_of_input_give_the_same(tmp_path: Path) -> None:
    image = Image.fromarray(PHOTO)
    image.save(tmp_path / "photo.png")
    first = np.ascontiguousarray(PHOTO.transpose(2, 0, 1))
    kinds = [
        image,
        PHOTO,
        first,
        torch.from_numpy(PHOTO),
        torch.from_numpy(first),
        PHOTO.astype(np.float32),
        torch.from_numpy(first).to(torch.int64),
        str(tmp_path / "photo.png"),
        tmp_path / "photo.png",
        encoded(image, "PNG"),
        bytearray(encoded(image, "TIFF")),
        [image],
        [[image]],
        PHOTO[None],
        torch.from_numpy(first)[None],
    ]
    expected = by_pillow(image)[None]
    for kind in kinds:
        found = pixels(kind)
        assert (found.dtype, found.shape) == (np.float32, (1, 3, 16, 16))
        same(found, expected)


def test_nested_batches_are_flattened_in_order() -> None:
    photos = [np.roll(PHOTO, n, 0) for n in range(4)]
    found = pixels([[photos[0], photos[1]], [], [np.stack(photos[2:])]])
    same(found, np.stack([by_pillow(Image.fromarray(photo)) for photo in photos]))


@pytest.mark.parametrize("mode", ["L", "1", "CMYK", "YCbCr", "HSV", "LAB"])
def test_modes_become_rgb_as_pillow_does_it(mode: str) -> None:
    image = Image.fromarray(PHOTO).convert("RGB" if mode == "LAB" else mode)
    if mode == "LAB":
        from PIL import ImageCms

        to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
        image = ImageCms.applyTransform(image, to_lab)
    expected = np.asarray(image.convert("RGB").resize((16, 16), 2)).transpose(2, 0, 1)
    assert (pixels(image, do_rescale=False, do_normalize=False)[0] == expected).all()


def test_transparency_is_laid_over_white() -> None:
    shown = np.zeros((8, 8, 4), np.uint8)
    shown[:, :4] = (200, 100, 50, 255)
    exact = {"do_resize": False, "do_rescale": False, "do_normalize": False}
    expected = np.full((3, 8, 8), 255, np.uint8)
    expected[:, :, :4] = np.array([200, 100, 50])[:, None, None]
    palette = Image.fromarray(np.where(shown[..., 3] > 0, 1, 0).astype(np.uint8), "P")
    palette.putpalette([0, 0, 0, 200, 100, 50])
    palette.info["transparency"] = 0
    for image in (shown, Image.fromarray(shown), encoded(palette, "PNG", transparency=0)):
        assert (pixels(image, **exact)[0] == expected).all()
    real = pixels(shown.astype(np.float32) / np.float32(255), **exact)[0]
    np.testing.assert_allclose(real, expected / np.float32(255), atol=1e-6)


def test_sixteen_bits_keep_the_upper_eight() -> None:
    deep = RNG.integers(0, 2**16, (20, 30), dtype=np.uint16)
    expected = Image.fromarray((deep // 256).astype(np.uint8))
    for image in (Image.fromarray(deep), encoded(Image.fromarray(deep), "PNG"), encoded(Image.fromarray(deep), "TIFF")):
        same(pixels(image)[0], by_pillow(expected))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("fast", [False, True])
def test_rotated_photographs_stand_upright(orientation: int, fast: bool) -> None:
    smooth = np.linspace(0, 255, 600 * 400 * 3).reshape(400, 600, 3).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = encoded(Image.fromarray(smooth), "JPEG", quality=95, exif=exif)
    with Image.open(io.BytesIO(photo)) as stored:
        expected = by_pillow(ImageOps.exif_transpose(stored))
        for given in (photo, stored):
            np.testing.assert_allclose(pixels(given, fast_decode=fast)[0], expected, atol=0.05 if fast else 2e-7)


def test_real_numbers_are_resized_as_such() -> None:
    """Pillow's own resize of 32-bit floats, a channel at a time: nothing is rounded to 255 levels."""
    image = RNG.random((40, 60, 3)).astype(np.float64)
    planes = [Image.fromarray(image[..., c].astype(np.float32)).resize((16, 16), 3) for c in range(3)]
    expected = (np.stack([np.asarray(plane) for plane in planes]) - 0.5) / 0.5
    np.testing.assert_allclose(pixels(image, do_rescale=False, resample="bicubic")[0], expected, atol=1e-6)
    same(pixels(image * 255, resample="bicubic"), pixels(image * 255, resample=3))
    np.testing.assert_allclose(pixels(image * 254.9999, resample=3)[0], expected, atol=1e-5)


def test_grey_and_many_channels_without_rgb() -> None:
    plain = {"do_convert_rgb": False, "do_normalize": False, "do_rescale": False}
    grey = pixels(PHOTO[..., 0], **plain)
    assert (grey[0, 0] == np.asarray(Image.fromarray(PHOTO[..., 0]).resize((16, 16), 2))).all()
    many = RNG.integers(0, 256, (7, 40, 60), dtype=np.uint8)
    found = pixels(many, input_data_format="channels_first", **plain)
    assert found.shape == (1, 7, 16, 16)
    assert (found[0, 6] == np.asarray(Image.fromarray(many[6]).resize((16, 16), 2))).all()


def test_the_same_file_twice_in_a_batch(tmp_path: Path) -> None:
    Image.fromarray(np.tile(PHOTO, (9, 9, 1))).save(tmp_path / "photo.jpg")
    with Image.open(tmp_path / "photo.jpg") as lazy, Image.open(tmp_path / "photo.jpg") as other:
        found = pixels([lazy] * 8)
        same(found, np.stack([by_pillow(other)] * 8))


# Every step ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (20, (20, 20)),
        ([10, 30], (10, 30)),
        ({"height": 10, "width": 30}, (10, 30)),
        ({"shortest_edge": 20}, (20, 30)),
        ({"longest_edge": 30}, (20, 30)),
        ({"shortest_edge": 30, "longest_edge": 36}, (24, 36)),
        ({"shortest_edge": 20, "longest_edge": 36}, (20, 30)),
        ({"max_height": 20, "max_width": 20}, (13, 20)),
    ],
)
def test_sizes(size: Any, expected: tuple[int, int]) -> None:
    assert pixels(PHOTO, size=size).shape[2:] == expected
    if "edge" in str(size) or "max" in str(size):
        assert pixels(PHOTO.transpose(1, 0, 2), size=size).shape[2:] == expected[::-1]


def test_a_number_can_be_the_shortest_edge() -> None:
    assert pixels(PHOTO, size=20, default_to_square=False).shape == (1, 3, 20, 30)


@pytest.mark.parametrize(
    ("said", "number"),
    [
        ("PIL.Image.BOX", 4),
        ("PIL.Image.Resampling.LANCZOS", 1),
        ("bilinear", 2),
        ("NEAREST", 0),
        (Image.Resampling.HAMMING, 5),
        (3, 3),
    ],
)
def test_filters_by_any_of_their_names(said: Any, number: int) -> None:
    same(pixels(PHOTO, resample=said)[0], by_pillow(Image.fromarray(PHOTO), resample=number))


@pytest.mark.parametrize("shape", [(10, 12), (11, 13), (50, 20), (20, 70), (51, 71)])
def test_centre_crop(shape: tuple[int, int]) -> None:
    """The middle, and black where there is no more image; as images of Pillow's and as arrays."""
    height, width = shape
    canvas = np.zeros((200, 200, 3), np.uint8)
    canvas[80:120, 70:130] = PHOTO
    top, left = 80 + (40 - height) // 2, 70 + (60 - width) // 2
    expected = canvas[top : top + height, left : left + width].transpose(2, 0, 1)
    options = {"do_resize": False, "do_center_crop": True, "crop_size": list(shape), "do_normalize": False}
    assert (pixels(PHOTO, **options, do_rescale=False)[0] == expected).all()
    real = PHOTO / np.float32(255)
    np.testing.assert_allclose(pixels(real, **options, do_rescale=False)[0], expected / 255, atol=1e-6)


def test_rescale_and_normalise_by_channel() -> None:
    mean, std = [0.1, 0.2, 0.3], [0.5, 0.25, 2.0]
    found = pixels(PHOTO, do_resize=False, image_mean=mean, image_std=std, rescale_factor=1 / 127.5)
    expected = (PHOTO / 127.5 - mean) / std
    np.testing.assert_allclose(found[0], expected.transpose(2, 0, 1), atol=1e-6)
    unscaled = pixels(PHOTO, do_resize=False, image_mean=100.0, image_std=50, do_rescale=False)
    np.testing.assert_allclose(unscaled[0], ((PHOTO - 100.0) / 50).transpose(2, 0, 1), atol=1e-6)
    assert pixels(PHOTO, do_rescale=False, do_normalize=False).dtype == np.uint8


def test_padding() -> None:
    options = {"do_resize": False, "do_pad": True}
    found = pixels([PHOTO, PHOTO[:20], PHOTO[:, :5]], **options)
    whole = pixels(PHOTO, do_resize=False)[0]
    assert found.shape == (3, 3, 40, 60)
    same(found[0], whole)
    same(found[1, :, :20], whole[:, :20])
    assert not found[1, :, 20:].any()
    assert not found[2, :, :, 5:].any()
    assert pixels(PHOTO, **options, pad_size={"height": 41, "width": 70}).shape == (1, 3, 41, 70)


def test_channels_last() -> None:
    found = pixels([PHOTO, PHOTO[::-1]], data_format="channels_last", do_pad=True)
    assert found.flags.c_contiguous
    same(found, pixels([PHOTO, PHOTO[::-1]]).transpose(0, 2, 3, 1))


def test_results_without_tensors_may_differ_in_size() -> None:
    found = SmallProcessor()([PHOTO, PHOTO[:20]], do_resize=False)["pixel_values"]
    assert [array.shape for array in found] == [(3, 40, 60), (3, 20, 60)]
    assert isinstance(SmallProcessor()(PHOTO)["pixel_values"], list)


def test_torch_tensors_share_the_batch() -> None:
    found = SmallProcessor()([PHOTO] * 3, return_tensors="pt")
    assert isinstance(found, BatchFeature)
    assert found.pixel_values.dtype == torch.float32
    same(found.pixel_values.numpy(), pixels([PHOTO] * 3))
    assert found.to(torch.float16).pixel_values.dtype == torch.float16


def test_fast_decode_changes_little_and_only_large_files() -> None:
    from sklearn.datasets import load_sample_images

    for array in load_sample_images().images:
        photo = Image.fromarray(array)
        large = encoded(photo.resize((1600, 1200), 3), "JPEG", quality=90)
        plain = {"do_rescale": False, "do_normalize": False}
        exact, fast = (ViTImageProcessor()(large, **plain, fast_decode=way)["pixel_values"][0] for way in (False, True))
        changed = np.abs(exact.astype(int) - fast)
        assert 0 < changed.max() <= 4
        assert changed.mean() < 0.3
        small = encoded(photo, "JPEG")
        same(pixels(small, fast_decode=True, size=300), pixels(small, size=300))


# Settings ------------------------------------------------------------------------------------------------------


def test_overrides_are_for_one_call() -> None:
    processor = SmallProcessor()
    processor(PHOTO, size=5, image_mean=[0, 0, 0])
    assert processor == SmallProcessor()


def test_files_of_other_versions_are_read(tmp_path: Path) -> None:
    content = {
        "do_normalize": True,
        "do_convert_rgb": None,
        "crop_size": None,
        "device": None,
        "feature_extractor_type": "ViTFeatureExtractor",
        "size": {"height": 8, "width": 9},
        "image_mean": [0.1, 0.1, 0.1],
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
    processor = ViTImageProcessor.from_pretrained(tmp_path)
    assert processor(PHOTO, return_tensors="np").pixel_values.shape == (1, 3, 8, 9)
    processor.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert saved["image_processor_type"] == "ViTImageProcessor"
    assert saved["device"] is None
    assert "feature_extractor_type" not in saved
    assert saved["do_convert_rgb"] is True


def test_older_names_warn_once_each_and_work() -> None:
    class Legacy(ImageFeatureExtractionMixin):
        size = 16

    from maquette.images import processing

    processing._warned.clear()
    with pytest.warns(FutureWarning, match="ImageFeatureExtractionMixin is the older name of BaseImageProcessor"):
        legacy = Legacy()
    with pytest.warns(FutureWarning, match="ViTFeatureExtractor is the older name of ViTImageProcessor"):
        ViTFeatureExtractor()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Legacy()
        extractor = ViTFeatureExtractor(size=16)
    assert extractor.to_dict()["feature_extractor_type"] == "ViTFeatureExtractor"
    for old in (legacy, extractor):
        same(old(PHOTO, return_tensors="np").pixel_values, pixels(PHOTO))


class PaperProcessor(SmallProcessor):
    """A user's own: a setting and a step."""

    _quiet: ClassVar[frozenset[str]] = BaseImageProcessor._quiet
    do_invert: bool = True

    def transform(self, image: Any) -> Any:
        image = super().transform(image)
        return ImageOps.invert(image) if self.do_invert else image


class PaperConfig(PretrainedConfig):
    model_type = "paper-for-tests"


def test_a_processor_of_ones_own(tmp_path: Path) -> None:
    paper = PaperProcessor()
    same(paper(PHOTO, return_tensors="np").pixel_values, -pixels(PHOTO))
    same(paper(PHOTO, return_tensors="np", do_invert=False).pixel_values, pixels(PHOTO))
    assert '"do_invert": true' in str(paper)
    maquette.AutoConfig.register("paper-for-tests", PaperConfig, exist_ok=True)
    AutoImageProcessor.register(PaperConfig, PaperProcessor, exist_ok=True)
    PaperProcessor(do_invert=False).save_pretrained(tmp_path)
    assert AutoImageProcessor.from_pretrained(tmp_path) == PaperProcessor(do_invert=False)


def test_faults_in_a_step_of_ones_own_say_which_image() -> None:
    class Faulty(SmallProcessor):
        def transform(self, image: Any) -> Any:
            if image.width == 7:
                raise RuntimeError("no")
            return super().transform(image)

    with pytest.raises(RuntimeError) as caught:
        Faulty()([PHOTO, PHOTO[:, :7]])
    assert "images[1], in Faulty.transform" in caught.value.__notes__[0]


CODE = """
from maquette.images import BaseImageProcessor

class Mirror(BaseImageProcessor):
    size = 12
    def transform(self, image):
        return super().transform(image).transpose(0)

Mirror.register_for_auto_class()
"""


def test_a_processor_travels_with_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_fresh: Any) -> None:
    (tmp_path / "mirror_for_tests.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    from mirror_for_tests import Mirror

    Mirror().save_pretrained(tmp_path / "saved")
    sys.modules.pop("mirror_for_tests")
    np.save(tmp_path / "photo.npy", PHOTO)
    code = (
        "import sys, numpy as np; from maquette import AutoImageProcessor\n"
        "processor = AutoImageProcessor.from_pretrained('saved', trust_remote_code=True)\n"
        "np.save('found.npy', processor(np.load('photo.npy'), return_tensors='np').pixel_values)\n"
        "assert 'torch' not in sys.modules"
    )
    run_fresh(code)
    expected = by_pillow(Image.fromarray(PHOTO), side=12)[:, :, ::-1]
    same(np.load(tmp_path / "found.npy")[0], expected)
    with pytest.raises(UntrustedCodeError):
        AutoImageProcessor.from_pretrained(tmp_path / "saved")


# Labels --------------------------------------------------------------------------------------------------------


def test_classes_are_named_with_their_probabilities() -> None:
    logits = RNG.normal(size=(2, 7)).astype(np.float32) * 3
    expected = torch.softmax(torch.from_numpy(logits).double(), -1)
    names = {index: f"name {index}" for index in range(7)}
    output = maquette.ImageClassifierOutput(logits=torch.from_numpy(logits).requires_grad_())
    for given in (logits, torch.from_numpy(logits), output, {"logits": logits.tolist()}):
        found = SmallProcessor().post_process_image_classification(given, top_k=3, id2label=names)
        for row, probabilities in zip(found, expected, strict=True):
            best = probabilities.topk(3)
            assert [each["label"] for each in row] == [names[i] for i in best.indices.tolist()]
            np.testing.assert_allclose([each["score"] for each in row], best.values.numpy(), rtol=1e-6)
    named = PretrainedConfig(id2label={0: "cat", 1: "dog"})
    found = SmallProcessor().post_process_image_classification(np.array([0.0, 1000.0]), id2label=named)
    assert found == [[{"label": "dog", "score": 1.0}, {"label": "cat", "score": 0.0}]]
    assert SmallProcessor().post_process_image_classification(logits, 1)[0][0]["label"].startswith("LABEL_")


@pytest.mark.parametrize(
    ("logits", "top_k", "message"),
    [(np.zeros((2, 3, 4)), 5, r"\(2, 3, 4\)"), (np.array([np.nan]), 5, "image 0 are NaN"), (np.zeros(3), 0, "top_k=0")],
)
def test_logits_that_are_none(logits: np.ndarray, top_k: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        SmallProcessor().post_process_image_classification(logits, top_k)


def test_a_wrong_assignment_changes_nothing() -> None:
    processor = SmallProcessor()
    with pytest.raises(ConfigurationError, match="crop_size=None must be"):
        processor.do_center_crop = True
    assert processor == SmallProcessor()
