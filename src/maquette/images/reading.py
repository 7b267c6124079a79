"""Anything that is an image, read: files, bytes, Pillow's images, arrays and tensors; each error says which it was."""

import io
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from maquette.batch.tensors import framework_of, to_numpy
from maquette.errors import InputError, MaquetteError, MissingFileError, MissingPackageError
from maquette.storage.paths import user_path

if TYPE_CHECKING:
    from PIL.Image import Image

Picture = Any  # Pillow's image of 8 bits a channel, or an array (height, width, channels)
# What Pillow would open a file without asking, as 8 bits a channel need 4 bytes a pixel there: 358 MB.
MAX_PIXELS = 89_478_485
# Pixels only: Pillow hands some other formats (EPS) to external programs.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "PPM", "AVIF", "ICO", "DIB", "PCX", "SGI")
ORIENTATION = 0x0112
ON_THEIR_SIDE = (5, 6, 7, 8)  # EXIF's orientations that swap height and width
PREMULTIPLIED = {"RGBa": "RGBA", "La": "LA"}  # colours times their alpha, as Pillow makes them for resizing
ADDRESSES = ("http://", "https://", "data:")
_raising_the_limit = threading.Lock()


def pillow() -> Any:
    """Import Pillow's module of images.

    Raises:
        MissingPackageError: it is not installed; the message has the command that installs it.
    """
    try:
        from PIL import Image
    except ImportError:
        raise MissingPackageError("Images need Pillow. Run: pip install 'maquette[vision]'.") from None
    return Image


# Batches -------------------------------------------------------------------------------------------------------


def flatten(images: Any) -> list[tuple[str, Any]]:
    """List the images of a batch, however it is nested, each with what an error calls it.

    Args:
        images: an image, a list (of lists) of images, or an array of four axes.

    Raises:
        InputError: there are none.
    """
    found = list(_walk(images, "images" if _is_batch(images) else "The image"))
    if not found:
        raise InputError(f"There is no image in this batch: {type(images).__name__} of length {len(images)}.")
    return found


def _is_batch(value: Any) -> bool:
    return isinstance(value, list | tuple) or getattr(value, "ndim", 0) > 3


def _walk(value: Any, label: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _walk(item, f"{label}[{index}]")
    elif framework_of(value):
        array = to_numpy(value)
        yield from (_walk(list(array), label) if _is_batch(array) else [(label, array)])
    else:
        yield label if not isinstance(value, str | os.PathLike) else f"{label} ({os.fspath(value)!r})", value


# One image -----------------------------------------------------------------------------------------------------


def read(
    item: Any,
    label: str,
    *,
    max_pixels: int | None = MAX_PIXELS,
    reduce_to: Callable[[int, int], tuple[int, int]] | None = None,
    array_options: Mapping[str, Any] | None = None,
) -> Picture:
    """Read one image, upright.

    Args:
        item: a path, the bytes of a file, Pillow's image, or an array.
        label: which image it is, for the errors.
        max_pixels: the most pixels that are decoded; None for any number.
        reduce_to: from height and width, the size that suffices; a JPEG file may then be decoded at a half, a quarter
            or an eighth.
        array_options: what `as_picture` takes, for arrays.

    Returns:
        Pillow's image of 8 bits a channel, or an array (height, width, channels) of real numbers or of so many
        channels that Pillow has no name for them.

    Raises:
        InputError, MissingFileError: it cannot be read, or is too large.
    """
    from maquette.images.arrays import as_picture

    if isinstance(item, np.ndarray):
        return to_pillow(as_picture(item, label, **(array_options or {})))
    if isinstance(item, str) and item.startswith(ADDRESSES):
        raise InputError(f"{label} is an address. Fetch it yourself: maquette.load_image({item[:60]!r}).")
    if isinstance(item, bytes | bytearray | memoryview):
        item = io.BytesIO(item)
    elif isinstance(item, pillow().Image):
        return _read_opened(item, label, max_pixels, array_options)
    elif not isinstance(item, str | os.PathLike):
        kinds = "a path, bytes, an image of Pillow's, an array or a tensor"
        raise InputError(f"{label} is {item!r:.60}, a {type(item).__name__}; an image is {kinds}.")
    with _open(item, label, max_pixels) as image:
        if reduce_to is not None and image.format in ("JPEG", "MPO"):
            _reduce(image, reduce_to)
        return _read_opened(image, label, max_pixels, array_options)


def _open(source: Any, label: str, max_pixels: int | None) -> "Image":
    module = pillow()
    try:
        if max_pixels is not None and max_pixels <= (module.MAX_IMAGE_PIXELS or max_pixels):
            return _opened(module, source)
        with _raising_the_limit:
            usual, module.MAX_IMAGE_PIXELS = module.MAX_IMAGE_PIXELS, None
            try:
                return _opened(module, source)
            finally:
                module.MAX_IMAGE_PIXELS = usual
    except (module.DecompressionBombError, module.DecompressionBombWarning) as error:
        raise InputError(f"{label} is too large: {error}{_raise_it(max_pixels)}") from None
    except module.UnidentifiedImageError:
        raise InputError(f"{label} is no image of a format that is read here: {', '.join(FORMATS[:6])}, ….") from None
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise MissingFileError(f"{label}: there is no such file.") from None
    except Exception as error:
        raise InputError(f"{label} cannot be opened: {error}") from None


def _opened(module: Any, source: Any) -> "Image":
    file = user_path(source) if isinstance(source, str | os.PathLike) else source
    image: Image = module.open(file, formats=FORMATS)
    return image


def _raise_it(max_pixels: int | None) -> str:
    return f" The limit is max_pixels={max_pixels}; where you trust the image, pass a higher one."


def _reduce(image: "Image", reduce_to: Callable[[int, int], tuple[int, int]]) -> None:
    """Have a JPEG file decoded at the smallest scale that leaves at least the size that suffices."""
    on_its_side = image.getexif().get(ORIENTATION, 1) in ON_THEIR_SIDE
    width, height = image.size
    enough = reduce_to(width, height)[::-1] if on_its_side else reduce_to(height, width)
    image.draft(image.mode, (enough[1], enough[0]))


def _read_opened(image: "Image", label: str, max_pixels: int | None, array_options: Any) -> Picture:
    """Decode an image that is open, turn it upright, and bring it to 8 bits a channel."""
    width, height = image.size
    if getattr(image, "tile", None) and max_pixels is not None and width * height > max_pixels:
        raise InputError(f"{label} is too large: {width} × {height} pixels.{_raise_it(max_pixels)}")
    if not width * height:
        raise InputError(f"{label} is empty: {width} × {height} pixels.")
    try:
        image.load()
        return _simplified(_upright(image), label, array_options)
    except (MaquetteError, MemoryError):
        raise
    except Exception as error:  # decoders raise whatever they meet in broken files
        raise InputError(f"{label} cannot be decoded, it may be cut off or damaged: {error}") from None


def _upright(image: "Image") -> "Image":
    if image.getexif().get(ORIENTATION, 1) == 1:
        return image
    from PIL import ImageOps

    return ImageOps.exif_transpose(image)


def _simplified(image: "Image", label: str, array_options: Any) -> Picture:
    """Bring modes of other than 8 bits a channel to such; of 16 bits, the upper 8 stay, as Pillow does with colours."""
    from maquette.images.arrays import as_picture

    if image.mode.startswith("I;16"):
        return _eight_bits(image)
    if image.mode in PREMULTIPLIED:
        return image.convert(PREMULTIPLIED[image.mode])
    if image.mode in ("I", "F"):
        return to_pillow(as_picture(np.asarray(image), label, **{**(array_options or {}), "data_format": None}))
    if image.mode == "1":
        return image.convert("L")
    if image.mode in ("P", "PA"):
        return image.convert("RGBA" if has_transparency(image) else "RGB")
    return image


def _eight_bits(image: "Image") -> "Image":
    """Keep the upper half of 16-bit greys; the one that a PNG file calls transparent is told by all of its bits."""
    greys = np.asarray(image).astype(np.uint16)
    picture: Image = pillow().fromarray((greys >> 8).astype(np.uint8))
    if (transparent := image.info.get("transparency")) is not None:
        picture.putalpha(pillow().fromarray(np.where(greys == transparent, 0, 255).astype(np.uint8)))
    return picture


def has_transparency(image: "Image") -> bool:
    """Tell whether an image has transparent places: by a channel, by its palette, or by a colour for them."""
    return bool(image.has_transparency_data) or image.info.get("transparency") is not None


def to_pillow(picture: "np.ndarray[Any, Any]") -> Picture:
    """Give an array (height, width, channels) as Pillow's image where Pillow has a mode for it."""
    if picture.dtype != np.uint8 or picture.shape[2] > 4:
        return picture
    return pillow().fromarray(np.ascontiguousarray(picture[..., 0] if picture.shape[2] == 1 else picture))


def to_rgb(picture: Picture, label: str) -> Picture:
    """Give an image red, green and blue, 8 bits or real numbers; transparency is laid over white."""
    from maquette.images.arrays import to_three_channels

    if isinstance(picture, np.ndarray):
        return to_three_channels(picture, label)
    if picture.mode == "RGB" and picture.info.get("transparency") is None:
        return picture
    if not has_transparency(picture):
        return picture.convert("RGB")
    module, picture = pillow(), picture.convert("RGBA")
    white = module.new("RGBA", picture.size, (255, 255, 255, 255))
    return module.alpha_composite(white, picture).convert("RGB")
