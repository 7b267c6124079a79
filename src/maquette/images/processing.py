"""Image processors: settings, and the way of a batch of images to one array."""

import contextlib
import copy
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Literal, Self

import numpy as np

from maquette.batch.features import BatchFeature
from maquette.batch.tensors import check_framework
from maquette.errors import InputError, MaquetteError, MissingPackageError, UnknownFieldError, bullets, did_you_mean
from maquette.images.fetching import load_image
from maquette.images.labels import name_classes
from maquette.images.reading import MAX_PIXELS, Picture, flatten, read, to_rgb
from maquette.images.resizing import crop, resize, size_of
from maquette.images.scaling import Scale, count_channels
from maquette.images.sizes import fit, read_exact_size, read_filter, read_size
from maquette.processing.settings import PreprocessingMixin, hands_on_to

Size = int | list[int] | dict[str, int]
Axes = Literal["channels_first", "channels_last"]
CALL_OPTIONS = ("return_tensors", "max_pixels")
# Every image processor has these settings; they are printed where they were changed.
UNPRINTED = (
    "do_convert_rgb default_to_square do_center_crop crop_size do_rescale rescale_factor do_pad pad_size fast_decode "
    "data_format input_data_format"
)
SHOWN_FAULTS = 10
SUFFICIENT = 2  # times the target: of 255 levels, pixels then differ by up to 4; with 1 time by up to 13


class ImageProcessingMixin(PreprocessingMixin):
    """Base of everything that prepares images and is saved as a `preprocessor_config.json`."""

    _section: ClassVar[str] = "image_processor"
    _default_auto_class: ClassVar[str] = "AutoImageProcessor"

    @classmethod
    def _printed_as(cls, name: str) -> str:
        return "feature_extractor_type" if name == cls._type_key() else name

    @classmethod
    def _translated(cls, content: dict[str, Any]) -> dict[str, Any]:
        """Read files of other versions: null is "the default" there, and the class has been under either key."""
        settings = cls._settings()
        absent = {n for n, value in content.items() if value is None and n in settings and settings[n].default}
        return {
            n: v for n, v in content.items() if n not in {*absent, "image_processor_type", "feature_extractor_type"}
        }

    def fetch_images(self, image_url_or_urls: Any) -> Any:
        """Load images from wherever they are, `load_image`'s way, in lists of any depth; what is loaded already stays.

        Args:
            image_url_or_urls: addresses, data URLs, paths or the bytes of files, or lists of these.
        """
        if isinstance(image_url_or_urls, list | tuple):
            return [self.fetch_images(each) for each in image_url_or_urls]
        is_named = isinstance(image_url_or_urls, str | bytes | os.PathLike)
        return load_image(image_url_or_urls) if is_named else image_url_or_urls


class BaseImageProcessor(ImageProcessingMixin):
    """Turns images into the one array that a model takes: RGB, resized, cropped, rescaled, normalised, padded.

    Make your own by changing defaults (`size = 96`), by adding settings (`do_invert: bool = True`), and by overriding
    `transform`, or `preprocess` for something altogether different. Every setting can be given anew for one call.

    Settings:
        do_convert_rgb: make every image RGB, transparency laid over white.
        do_resize, size, resample: `size` is the side of a square, `[height, width]`, or a dictionary of `height` and
            `width`, `shortest_edge`, `longest_edge` or both, or `max_height` and `max_width`. `resample` is Pillow's
            number or name of a filter.
        default_to_square: a number as `size` is the side of a square, and not the shortest edge.
        do_center_crop, crop_size: cut the middle out; black surrounds images that are smaller.
        do_rescale, rescale_factor: multiply the pixels' numbers, 0 to 255.
        do_normalize, image_mean, image_std: subtract and divide, for each channel its own or one for all.
        do_pad, pad_size: add zeros at the bottom and on the right, up to `pad_size` or to the largest of the batch.
        fast_decode: decode JPEG files at a half, a quarter or an eighth where that leaves at least twice the size
            that they are resized to; pixels differ by a few of 255 levels.
        data_format: where the channels go in the result.
        input_data_format: where arrays have them; None finds out.
    """

    _quiet: ClassVar[frozenset[str]] = frozenset(UNPRINTED.split())
    model_input_names: ClassVar[list[str]] = ["pixel_values"]

    do_convert_rgb: bool = True
    do_resize: bool = True
    size: Size = 224
    default_to_square: bool = True
    resample: int | str = 2
    do_center_crop: bool = False
    crop_size: Size | None = None
    do_rescale: bool = True
    rescale_factor: float = 1 / 255
    do_normalize: bool = True
    image_mean: float | list[float] = [0.5, 0.5, 0.5]  # noqa: RUF012 - a setting's default: every instance has its own
    image_std: float | list[float] = [0.5, 0.5, 0.5]  # noqa: RUF012
    do_pad: bool = False
    pad_size: Size | None = None
    fast_decode: bool = False
    data_format: Axes = "channels_first"
    input_data_format: Axes | None = None

    def validate(self) -> None:
        """Check that sizes are sizes, the filter is one, and nothing is divided by zero."""
        read_size(self.size, square=self.default_to_square)
        read_filter(self.resample)
        if self.do_center_crop or self.crop_size is not None:
            read_exact_size(self.crop_size, "crop_size")
        if self.pad_size is not None:
            read_exact_size(self.pad_size, "pad_size")
        for name in ("image_mean", "image_std"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"{name}={getattr(self, name)!r} must be finite numbers")
        if not np.all(self.image_std):
            raise ValueError(f"image_std={self.image_std!r} has a zero, by which the pixels would be divided")

    # A batch ---------------------------------------------------------------------------------------------------

    @hands_on_to("preprocess")
    def __call__(self, images: Any, **options: Any) -> BatchFeature:
        """Do what `preprocess` does."""
        return self.preprocess(images, **options)

    def preprocess(
        self, images: Any, *, return_tensors: str | None = None, max_pixels: int | None = MAX_PIXELS, **overrides: Any
    ) -> BatchFeature:
        """Turn images into `pixel_values`, float32, (images, channels, height, width).

        Args:
            images: a path, the bytes of a file, an image of Pillow's, an array or tensor (height, width), (height,
                width, channels) or (channels, height, width), an array of four axes, or a list of these, also nested.
            return_tensors: "np", "pt", "tf" or "jax"; None gives a list of arrays, which may differ in size.
            max_pixels: the most pixels of one image that are decoded; None for any number.
            overrides: settings, for this call alone.

        Raises:
            InputError, MissingFileError: naming each image that cannot be used, and why.
            ConfigurationError: for an override that is no setting, or has no sensible value.
        """
        if return_tensors is not None:
            check_framework(return_tensors)
        return self._with(overrides)._process(flatten(images), return_tensors, max_pixels)

    def _with(self, overrides: dict[str, Any]) -> Self:
        """Give this processor with other settings."""
        if not overrides:
            return self
        fields = self._schema().fields
        if unknown := [name for name in overrides if name not in fields]:
            near = (f"{n!r} is no setting.{did_you_mean(n, [*fields, *CALL_OPTIONS])}" for n in unknown)
            raise UnknownFieldError(f"{type(self).__name__}: {' '.join(near)}")
        other = copy.copy(self)
        other.__dict__.update({name: self._checked(name, value) for name, value in overrides.items()})
        other._validated()
        return other

    def _process(self, items: list[tuple[str, Any]], framework: str | None, max_pixels: int | None) -> BatchFeature:
        _load_repeated((item for _, item in items), max_pixels)
        with spread(len(items)) as run:
            pictures = settle(run(lambda item: self._prepare(item[1], item[0], max_pixels), items))
            arrays = self._assemble(pictures, [label for label, _ in items], run, framework)
        return BatchFeature({"pixel_values": arrays}, framework)

    # One image -------------------------------------------------------------------------------------------------

    def _prepare(self, item: Any, label: str, max_pixels: int | None) -> Picture | MaquetteError:
        try:
            picture = read(
                item,
                label,
                max_pixels=max_pixels,
                reduce_to=self._sufficient_size if self.fast_decode and self.do_resize else None,
                array_options={
                    "data_format": self.input_data_format,
                    "is_scaled_later": self.do_rescale and self.rescale_factor < 1,
                    "is_bounded": self.do_rescale or self.do_normalize,
                },
            )
            if self.do_convert_rgb:
                picture = to_rgb(picture, label)
        except MissingPackageError:
            raise
        except MaquetteError as error:
            return error
        try:
            return self.transform(picture)
        except Exception as error:
            error.add_note(f"This happened to {label}, in {type(self).__name__}.transform.")
            raise

    def _target_size(self, height: int, width: int) -> tuple[int, int]:
        return fit(height, width, read_size(self.size, square=self.default_to_square))

    def _sufficient_size(self, height: int, width: int) -> tuple[int, int]:
        """Give the size from which resizing still comes out almost as it does from the whole image."""
        its_height, its_width = self._target_size(height, width)
        return SUFFICIENT * its_height, SUFFICIENT * its_width

    def transform(self, image: Picture) -> Picture:
        """Resize and crop one image: override it for steps of your own; several images go through it at once.

        Args:
            image: an upright image of Pillow's, RGB unless `do_convert_rgb` is off; an array (height, width, channels)
                of float32 where the image came as real numbers.

        Returns:
            An image of the same kind.
        """
        if self.do_resize:
            image = resize(image, *self._target_size(*size_of(image)), read_filter(self.resample))
        if self.do_center_crop:
            image = crop(image, *read_exact_size(self.crop_size, "crop_size"))
        return image

    # The array -------------------------------------------------------------------------------------------------

    def _assemble(self, pictures: list[Picture], labels: list[str], run: "Map", framework: str | None) -> Any:
        """Write the images into one array, or into several where they differ in size and may."""
        channels, sizes = map(count_channels, pictures), self._sizes(pictures, labels)
        shapes = [(count, height, width) for count, (height, width) in zip(channels, sizes, strict=True)]
        odd = next((i for i, shape in enumerate(shapes) if shape != shapes[0]), None)
        if odd is not None and framework is not None:
            raise InputError(
                f"The images differ: {labels[0]} is now {_shape(shapes[0])} and {labels[odd]} {_shape(shapes[odd])}. "
                'For one tensor, pass do_resize=True with size={"height": …, "width": …}, do_center_crop=True, or '
                "do_pad=True, or leave return_tensors out."
            )
        scales = {count: self._scale(count, labels) for count, *_ in set(shapes)}
        is_bytes = self._keeps_bytes and not any(_is_real(picture) for picture in pictures)
        empty = np.zeros if self.do_pad else np.empty
        kind = np.uint8 if is_bytes else np.float32
        if odd is None:
            batch: Any = empty((len(pictures), *self._laid_out(*shapes[0])), kind)
        else:
            batch = [empty(self._laid_out(*shape), kind) for shape in shapes]
        for _ in run(lambda i: self._write(pictures[i], batch[i], scales[shapes[i][0]]), range(len(pictures))):
            pass
        return batch if framework is not None else list(batch)

    @property
    def _keeps_bytes(self) -> bool:
        return not self.do_rescale and not self.do_normalize

    def _sizes(self, pictures: list[Picture], labels: list[str]) -> list[tuple[int, int]]:
        """Give the height and width of every image once it is padded."""
        sizes = [size_of(picture) for picture in pictures]
        if not self.do_pad:
            return sizes
        if self.pad_size is None:
            height, width = (max(sides) for sides in zip(*sizes, strict=True))
        else:
            height, width = read_exact_size(self.pad_size, "pad_size")
        for label, (its_height, its_width) in zip(labels, sizes, strict=True):
            if its_height > height or its_width > width:
                raise InputError(
                    f"{label} has {its_height} × {its_width} pixels, more than pad_size={self.pad_size!r}."
                )
        return [(height, width)] * len(sizes)

    def _laid_out(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        return (channels, height, width) if self.data_format == "channels_first" else (height, width, channels)

    def _write(self, picture: Picture, target: "np.ndarray[Any, Any]", scale: Scale) -> None:
        planes = target if self.data_format == "channels_first" else np.moveaxis(target, -1, 0)
        height, width = size_of(picture)
        scale.write(picture, planes[:, :height, :width])

    def _scale(self, channels: int, labels: list[str]) -> Scale:
        def each(name: str) -> list[float]:
            value = getattr(self, name)
            values = value if isinstance(value, list) else [value] * channels
            if len(values) != channels:
                raise InputError(
                    f"{name} has {len(values)} numbers, and the images, such as {labels[0]}, have {channels} channels."
                )
            return values

        factor = self.rescale_factor if self.do_rescale else None
        if not self.do_normalize:
            return Scale(factor, None, None)
        return Scale(factor, each("image_mean"), each("image_std"))

    # Afterwards ------------------------------------------------------------------------------------------------

    def post_process_image_classification(
        self, outputs: Any, top_k: int | None = 5, *, id2label: Any = None
    ) -> list[list[dict[str, Any]]]:
        """Give for each image its likeliest classes with their probabilities, as `labels.name_classes` says."""
        return name_classes(outputs, top_k, id2label=id2label)


class ImageFeatureExtractionMixin(BaseImageProcessor):
    """The older name of `BaseImageProcessor`; what derives from it is saved as a feature extractor."""

    _section: ClassVar[str] = "feature_extractor"
    _new_name: ClassVar[str] = "BaseImageProcessor"

    def __init__(self, **kwargs: Any) -> None:
        old = next(base for base in type(self).__mro__ if "_new_name" in vars(base))
        if old not in _warned:
            _warned.add(old)
            message = f"{old.__name__} is the older name of {self._new_name}; use that, it takes the same settings."
            warnings.warn(message, FutureWarning, stacklevel=3)
        super().__init__(**kwargs)


_warned: set[type] = set()
Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]


@contextlib.contextmanager
def spread(count: int) -> Iterator[Map]:
    """Give a `map` that works on up to `count` items at once, on the cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if min(cores, count) < 2:
        yield map
        return
    with ThreadPoolExecutor(min(cores, count), thread_name_prefix="maquette-images") as pool:
        yield pool.map


def settle(results: Iterable[Any]) -> list[Any]:
    """Give the results, unless some are errors.

    Raises:
        MaquetteError: the one there is, or all of them in one.
    """
    found = list(results)
    faults = [result for result in found if isinstance(result, MaquetteError)]
    if len(faults) == 1:
        raise faults[0]
    if faults:
        rest = f"\n  … and {len(faults) - SHOWN_FAULTS} more" if len(faults) > SHOWN_FAULTS else ""
        lines = bullets(map(str, faults[:SHOWN_FAULTS]))
        raise InputError(f"{len(faults)} of {len(found)} images cannot be used:{lines}{rest}") from faults[0]
    return found


def _load_repeated(items: Iterable[Any], max_pixels: int | None) -> None:
    """Decode what is in the batch more than once beforehand: no two threads may decode the same file."""
    seen: set[int] = set()
    for item in items:
        if id(item) in seen and hasattr(item, "load") and (max_pixels is None or math.prod(item.size) <= max_pixels):
            with contextlib.suppress(Exception):  # what is wrong with it is said when its turn comes
                item.load()
        seen.add(id(item))


def _is_real(picture: Picture) -> bool:
    return isinstance(picture, np.ndarray) and picture.dtype != np.uint8


def _shape(shape: tuple[int, ...]) -> str:
    channels, height, width = shape
    return f"{height} × {width} with {channels} channel{'' if channels == 1 else 's'}"
