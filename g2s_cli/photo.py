"""An image file → Photo: opened, turned upright, cropped to its middle square, brought to the GAN's size."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from g2s_cli.errors import ImageError

LEAST_SIDE, MOST_SIDE = 16, 8192
MOST_ALIGNED = 2048  # pixels a side of the crop that textures are made from

# Still pictures that cameras and editors write. Pillow knows more, but opening a PostScript file would run
# Ghostscript on it.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM")


@dataclass(frozen=True)
class Photo:
    """The user's photo as the GAN would have made it.

    name: the file's name. image: in [-1, 1], square, at the GAN's size. aligned: the same square at the photo's own
    resolution, from the GAN's size to 2048 pixels a side. notes: what was done to it, one sentence fragment each,
    for the report.
    """

    name: str
    image: Float[Tensor, "3 s s"]
    aligned: UInt8[np.ndarray, "n n 3"]
    notes: tuple[str, ...]


def open_photo(path: Path, size: int) -> Photo:
    """Open an image file as a square of `size` pixels a side.

    EXIF orientation is applied, transparency is laid on white, the middle square is kept. Raises ImageError
    for whatever cannot be used; pictures larger than 8192 pixels a side are refused before they are decoded.
    """
    notes: list[str] = []
    picture = _read(path, notes)
    side = min(picture.size)
    if side < LEAST_SIDE:
        raise ImageError(
            f"{path} is {_measures(picture)} pixels; g2s needs {LEAST_SIDE} a side at least.",
            "Use a larger picture of the same object.",
        )
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    if picture.width != picture.height:
        notes.append(f"cropped to the middle square, {side}x{side} of {_measures(picture)}")
    if side != size:
        notes.append(f"{'resized' if side > size else 'enlarged'} from {side}x{side} to {size}x{size}")
    square = picture.crop((left, top, left + side, top + side))
    image = torch.from_numpy(_resized(square, size)).permute(2, 0, 1).float() / 127.5 - 1
    aligned = _resized(square, min(max(side, size), MOST_ALIGNED))
    return Photo(path.name, image, aligned, tuple(notes))


def _resized(square: Image.Image, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """A square picture at `size` pixels a side."""
    # A box filter is the exact area average when whole pixels fall together; Pillow's bicubic widens its
    # support when it shrinks, so the other factors do not alias either.
    method = Image.Resampling.BOX if square.width % size == 0 else Image.Resampling.BICUBIC
    return np.array(square.resize((size, size), method))


def _read(path: Path, notes: list[str]) -> Image.Image:
    """The file as upright, opaque 8-bit RGB."""
    try:
        if path.is_dir():
            raise ImageError(f"{path} is a folder, not a photo.", "Name one image file.")
        if path.exists() and not path.is_file():
            raise ImageError(f"{path} is not a regular file.", "Save the picture to a file and name that.")
        with warnings.catch_warnings():
            # What Pillow grumbles about and still decodes is fine, except a picture beyond its bomb limit.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as picture:
                return _decode(path, picture, notes)
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise ImageError(f"There is no file {path}.", "Check the path.") from error
    except PermissionError as error:
        raise ImageError(f"{path} may not be read.", f'Allow it: chmod u+r "{path}"') from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{path} is not an image that g2s can read.", "Save it as JPEG or PNG.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(path, "") from error
    except Exception as error:  # Pillow's decoders raise whatever a damaged file makes them run into
        if isinstance(error, OSError) and error.strerror:
            raise ImageError(f"{path} cannot be opened: {error.strerror}.", "Check the path and the disk.") from error
        raise ImageError(f"{path} is damaged or incomplete.", "Copy or download it again.") from error


def _decode(path: Path, picture: Image.Image, notes: list[str]) -> Image.Image:
    if max(picture.size) > MOST_SIDE:
        raise _too_large(path, f", {_measures(picture)}")
    # An MPO is a JPEG with a second view or a preview behind it; its first picture is the photo.
    if getattr(picture, "is_animated", False) and picture.format != "MPO":
        raise ImageError(f"{path} holds several pictures.", "Save the one you mean as JPEG or PNG.")
    orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
    picture.load()
    upright = ImageOps.exif_transpose(picture)
    if orientation != 1 and orientation in range(9):
        notes.append("turned by its EXIF orientation")
    return _as_rgb(path, upright, notes)


def _as_rgb(path: Path, picture: Image.Image, notes: list[str]) -> Image.Image:
    """Any colour mode as 8-bit RGB."""
    if picture.mode == "F":
        raise ImageError(f"{path} holds floating-point values.", "Save it as 8-bit JPEG or PNG.")
    if picture.mode.startswith("I"):
        notes.append("brought from 16 to 8 bits")
        sixteen = np.asarray(picture).astype(np.float32).clip(0, 65535)
        return Image.fromarray((sixteen / 257).round().astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        if layer.getchannel("A").getextrema() != (255, 255):
            notes.append("laid on white where it is transparent")
        picture = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    elif picture.mode != "RGB":
        notes.append(f"converted from {picture.mode} to RGB")
    return picture.convert("RGB")


def _too_large(path: Path, measures: str) -> ImageError:
    return ImageError(
        f"{path} is too large{measures}: g2s takes up to {MOST_SIDE} pixels a side.", "Scale it down, or crop it."
    )


def _measures(picture: Image.Image) -> str:
    return f"{picture.width}x{picture.height}"
