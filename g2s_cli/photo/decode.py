"""Decode image files to upright, opaque 8-bit sRGB."""

from __future__ import annotations

import io
import stat
import warnings
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError

from g2s_cli.errors import ImageError

MAX_SIDE_PX, MAX_BYTES = 8192, 2**29  # 16 bits and three channels of that size take three quarters of these bytes
SRGB_TOLERANCE = 4  # grey levels by which two sRGB profiles may differ

Background = Literal["white", "black"]

# Formats of cameras and editors. Pillow supports more, but opening PostScript would run Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM")
HEIF_SUFFIXES = {".heic", ".heif"}  # registered with Pillow on demand

# Bytes 4 to 12 of HEIC files (ISO 23008-12).
HEIC = {b"ftyp" + brand for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")}


def list_images(folder: Path) -> tuple[list[Path], list[Path]]:
    """The files of a folder with an image's suffix, and all others; without hidden files and folders.

    Raises:
        OSError: the folder cannot be read.
    """
    suffixes = {suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS} | HEIF_SUFFIXES
    images: list[Path] = []
    others: list[Path] = []
    for path in folder.iterdir():
        if path.is_file() and not path.name.startswith("."):
            (images if path.suffix.lower() in suffixes else others).append(path)
    return images, others


def read_image(
    path: Path, notes: list[str], data: bytes | None = None, background: Background = "white"
) -> Image.Image:
    """Decode an image: apply EXIF orientation and colour profile, flatten transparency.

    Args:
        notes: receives a sentence fragment for each conversion.
        data: the file's bytes, if they are already in memory.
        background: colour behind transparent pixels.

    Raises:
        ImageError: the image cannot be used. Images above 8192 pixels a side are refused before they are decoded.
    """
    if data is None:
        check_file(path)
    try:
        data = path.read_bytes() if data is None else data
        formats = (*FORMATS, _register_heif(path)) if data[4:12] in HEIC else FORMATS
        with warnings.catch_warnings():
            # Pillow warns of damage it can repair. A decompression bomb remains an error.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=formats) as image:
                return _decode(path, image, notes, background)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"{path} is not an image that g2s can read.", "Save it as JPEG or PNG.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(path) from error
    except Exception as error:  # Pillow's decoders raise anything on damaged files
        if isinstance(error, OSError) and error.strerror:
            raise _unreadable(path, error) from error
        raise ImageError(f"{path} is damaged or incomplete.", "Copy or download it again.") from error


def check_file(path: Path) -> None:
    """Check that a path can be a photo, without reading it.

    Raises:
        ImageError: the file is missing, not a regular file, or too large.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(f"{path} is a folder, not a photo.", "Name one image file.")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(f"{path} is not a regular file.", "Save the picture to a file and name that.")
    if status.st_size > MAX_BYTES:
        raise _too_large(path, f", {status.st_size >> 20} MiB")


def size_text(image: Image.Image) -> str:
    """Width and height for messages."""
    return f"{image.width}x{image.height}"


def _unreadable(path: Path, error: OSError) -> ImageError:
    if isinstance(error, FileNotFoundError):
        return ImageError(f"There is no file {path}.", "Check the path.")
    if isinstance(error, PermissionError):
        return ImageError(f"{path} may not be read.", f'Allow it: chmod u+r "{path}"')
    return ImageError(f"{path} cannot be opened: {error.strerror}.", "Check the path and the disk.")


def _too_large(path: Path, size: str = "") -> ImageError:
    return ImageError(
        f"{path} is too large{size}: g2s takes up to {MAX_SIDE_PX} pixels a side.", "Scale it down, or crop it."
    )


def _register_heif(path: Path) -> str:
    try:
        from pillow_heif import register_heif_opener  # noqa: PLC0415  optional
    except ImportError as error:
        raise ImageError(
            f"{path} is HEIC, which needs pillow-heif.", "pip install 'g2s-cli[heic]', or save it as JPEG."
        ) from error
    register_heif_opener()
    return "HEIF"


def _decode(path: Path, image: Image.Image, notes: list[str], background: Background) -> Image.Image:
    if max(image.size) > MAX_SIDE_PX:
        raise _too_large(path, f", {size_text(image)}")
    # An MPO is a JPEG followed by a second view or a preview; its first image is the photo.
    if getattr(image, "is_animated", False) and image.format not in {"MPO", "HEIF"}:
        raise ImageError(f"{path} holds several pictures.", "Save the one you mean as JPEG or PNG.")
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    image.load()
    profile = image.info.get("icc_profile")
    upright = ImageOps.exif_transpose(image)
    if orientation in range(2, 9):
        notes.append("turned by its EXIF orientation")
    if upright.mode.startswith("I"):  # grey of more than 8 bits, in one of several modes of Pillow
        upright = Image.fromarray(np.asarray(upright).clip(0, 65535).astype(np.uint16))
        notes.append("brought from 16 to 8 bits")
    return _to_rgb(path, _to_srgb(upright, profile, notes) if profile else upright, notes, background)


def _to_srgb(image: Image.Image, profile: bytes, notes: list[str]) -> Image.Image:
    """Convert to sRGB; the image is unchanged if its profile is broken or belongs to another colour mode."""
    fault = "broken"
    try:
        source = ImageCms.getOpenProfile(io.BytesIO(profile))
        if _is_srgb(source):
            return image
        fault = "not meant for it"
        opaque = {"P": "RGB", "RGBA": "RGB", "PA": "RGB", "LA": "L"}.get(image.mode)
        colours = image.convert(opaque) if opaque else image
        converted = ImageCms.profileToProfile(colours, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        notes.append(f"taken without its colour profile, which is {fault}")
        return image
    if converted is None:
        return image
    notes.append("converted from its colour profile to sRGB")
    if image.has_transparency_data:
        converted.putalpha(image.convert("RGBA").getchannel("A"))
    return converted


def _is_srgb(profile: ImageCms.ImageCmsProfile) -> bool:
    """Whether a profile named sRGB converts greys as sRGB does; linear profiles can have that name, too."""
    if "sRGB" not in ImageCms.getProfileDescription(profile):
        return False
    greys = Image.linear_gradient("L").convert("RGB")
    converted = ImageCms.profileToProfile(greys, profile, ImageCms.createProfile("sRGB"))
    if converted is None:
        return False
    return bool((abs(np.asarray(greys, dtype=int) - np.asarray(converted)) <= SRGB_TOLERANCE).all())


def _to_rgb(path: Path, image: Image.Image, notes: list[str], background: Background) -> Image.Image:
    """Any colour mode as opaque 8-bit RGB."""
    if image.mode == "F":
        raise ImageError(f"{path} holds floating-point values.", "Save it as 8-bit JPEG or PNG.")
    if image.mode == "I;16":
        return Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        if layer.getchannel("A").getextrema() != (255, 255):
            notes.append(f"laid on {background} where it is transparent")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, background), layer)
    elif image.mode != "RGB":
        notes.append(f"converted from {image.mode} to RGB")
    return image.convert("RGB")
