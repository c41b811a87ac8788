"""Decode image files to upright, opaque 8-bit sRGB."""

from __future__ import annotations

import io
import stat
import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import ExifTags, Image, ImageCms, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError

from g2s_cli.errors import ImageError
from g2s_cli.photo.damaged import read_damaged

MAX_BYTES = 2**29
MAX_PIXELS = 200_000_000
MAX_WHOLE_PIXELS = 2**26  # of a picture that is decoded whole; larger ones are halved, which keeps memory below 2 GB
MAX_METADATA_BYTES = 2**26  # of a PNG's text and profile, unpacked; Pillow's own limit is 1 MiB
SRGB_TOLERANCE = 4  # grey levels by which two sRGB profiles may differ
TWELVE_BITS = 4095
ALPHA_TOLERANCE = 8  # levels between opacities that count as one

Background = Literal["white", "black"]
Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels

# Formats of cameras and editors. Pillow supports more, but opening PostScript would run Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM")
HEIF_SUFFIXES = {".heic", ".heif"}  # registered with Pillow on demand

# What makes pictures of an EXIF orientation upright.
TRANSPOSITIONS = dict(enumerate(map(Image.Transpose, (0, 3, 1, 5, 4, 6, 2)), start=2))

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


@dataclass(frozen=True)
class Picture:
    """An upright image in opaque 8-bit sRGB.

    Args:
        colours: its pixels.
        alpha: opacity, if it varies.
        size: width and height of the whole picture in the file's pixels.
        reduction: how many of the file's pixels a side one of `colours` averages.
        missing: share of the pixels that the file lacks.
    """

    colours: Image.Image
    alpha: Image.Image | None
    size: tuple[int, int]
    reduction: int = 1
    missing: float = 0.0


def read_image(
    path: Path, notes: list[str], data: bytes | None = None, background: Background = "white", box: Box | None = None
) -> Picture:
    """Decode an image: apply EXIF orientation and colour profile, flatten transparency.

    Args:
        notes: receives a sentence fragment for each conversion.
        data: the file's bytes, if they are already in memory.
        background: colour behind transparent pixels.
        box: the part to return, in the file's pixels; without it pictures of more than 67 megapixels are halved.

    Raises:
        ImageError: the image cannot be used. Images above 200 megapixels are refused before they are decoded.
    """
    if data is None:
        check_file(path)
    try:
        data = path.read_bytes() if data is None else data
        formats = (*FORMATS, _register_heif(path)) if data[4:12] in HEIC else FORMATS
        with _raised_limits():
            try:
                with Image.open(io.BytesIO(data), formats=formats) as image:
                    return _decode(path, image, notes, background, box)
            except (ImageError, MemoryError, Image.DecompressionBombError, Image.DecompressionBombWarning):
                raise
            except Exception as error:  # Pillow's decoders raise anything on damaged files
                damaged, missing = read_damaged(data, formats, MAX_WHOLE_PIXELS)
                if damaged is None:
                    raise
                fault = "metadata above 64 MiB" if "too large" in str(error) else "damage"
            loss = f"without {100 * missing:.1f} % of its pixels" if missing else "all its pixels are there"
            notes.append(f"read in spite of {fault}, {loss}")
            return replace(_decode(path, damaged, notes, background, box), missing=missing)
    except (ImageError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"{path} is not an image that g2s can read.", "Save it as JPEG or PNG.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(path) from error
    except Exception as error:
        raise _refusal(path, error) from error


def notable(notes: Sequence[str]) -> list[str]:
    """Those of `read_image`'s notes that a user should hear of: the file is unusual, and may not show what is meant."""
    return [note for note in notes if note.startswith(("read in spite of", "taken from page", "stretched from"))]


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


def size_text(image: Image.Image | Picture) -> str:
    """Width and height for messages."""
    return "x".join(map(str, image.size))


@contextmanager
def _raised_limits() -> Iterator[None]:
    """Pillow without its limits below ours; it warns of damage that it can repair, and of bombs, which are errors."""
    limits = [
        (Image, "MAX_IMAGE_PIXELS", MAX_PIXELS),
        (PngImagePlugin, "MAX_TEXT_CHUNK", MAX_METADATA_BYTES),
        (PngImagePlugin, "MAX_TEXT_MEMORY", 2 * MAX_METADATA_BYTES),
    ]
    before = [getattr(module, name) for module, name, _ in limits]
    for module, name, value in limits:
        setattr(module, name, value)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    finally:
        for (module, name, _), value in zip(limits, before, strict=True):
            setattr(module, name, value)


def _refusal(path: Path, error: Exception) -> ImageError:
    """The sentence on an error of Pillow: of the disk, a limit or a variant of the format, or damage."""
    if isinstance(error, OSError) and error.strerror:
        return _unreadable(path, error)
    text = str(error).lower()
    if "too large" in text or "too much memory" in text:
        size = f"{MAX_METADATA_BYTES >> 20} MiB"
        return ImageError(f"{path} has more than {size} of metadata, which g2s does not read.", "Save it without them.")
    if any(word in text for word in ("unsupported", "not supported", "not available")):
        return ImageError(f"{path} is of a variant of its format that g2s cannot read.", "Save it as JPEG or PNG.")
    return ImageError(f"{path} is damaged or incomplete.", "Copy or download it again.")


def _unreadable(path: Path, error: OSError) -> ImageError:
    if isinstance(error, FileNotFoundError):
        return ImageError(f"There is no file {path}.", "Check the path.")
    if isinstance(error, PermissionError):
        return ImageError(f"{path} may not be read.", f'Allow it: chmod u+r "{path}"')
    return ImageError(f"{path} cannot be opened: {error.strerror}.", "Check the path and the disk.")


def _too_large(path: Path, size: str = "") -> ImageError:
    return ImageError(
        f"{path} is too large{size}: g2s takes up to {MAX_PIXELS // 10**6} megapixels.", "Scale it down, or crop it."
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


def _decode(path: Path, image: Image.Image, notes: list[str], background: Background, box: Box | None) -> Picture:
    _choose_page(path, image, notes)
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _too_large(path, f", {size_text(image)}")
    if _orientation(image) in TRANSPOSITIONS:
        notes.append("turned by its EXIF orientation")
    reduction = 2 if width * height > MAX_WHOLE_PIXELS and box is None else 1
    if reduction > 1:
        image.draft(None, (width // reduction, height // reduction))  # a JPEG's decoder reduces by itself
    image.load()
    orientation = _orientation(image)  # Pillow has turned a TIFF, and HEIC has an orientation of its own
    profile = image.info.get("icc_profile")
    part = image
    if box:
        part = image.crop(_stored_box(box, image.size, orientation))
    elif image.size == (width, height) and reduction > 1:
        part = _reduce(image, reduction)
    if part is not image:
        image.close()  # 4 bytes a pixel
    if orientation in TRANSPOSITIONS:
        part = part.transpose(TRANSPOSITIONS[orientation])
    if part.mode.startswith("I"):  # grey of more than 8 bits, in one of several modes of Pillow
        part = _to_16_bits(part, notes)
    colours, alpha = _to_rgb(path, _to_srgb(part, profile, notes) if profile else part, notes, background)
    size = (height, width) if orientation in range(5, 9) else (width, height)
    return Picture(colours, alpha, size, reduction)


def _choose_page(path: Path, image: Image.Image, notes: list[str]) -> None:
    """Go to the picture of a TIFF whose other pages are its thumbnails or masks; refuse other files of several."""
    # An MPO is a JPEG followed by a second view or a preview; its first image is the photo.
    count = getattr(image, "n_frames", 1)
    if count == 1 or image.format in {"MPO", "HEIF"}:
        return
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        pages = []
        for index in range(count):
            image.seek(index)
            # NewSubfileType (TIFF 6.0): bit 0 a reduced image of another page, bit 2 a transparency mask
            if not image.tag_v2.get(254, 0) & 5:
                pages.append((image.width * image.height, index))
        pages.sort(reverse=True)
        if pages and (len(pages) == 1 or pages[0][0] >= 4 * pages[1][0]):
            image.seek(pages[0][1])
            notes.append(f"taken from page {pages[0][1] + 1} of {count}, the largest")
            return
    raise ImageError(f"{path} holds several pictures.", "Save the one you mean as JPEG or PNG.")


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 if the EXIF data are damaged."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except (ValueError, TypeError, KeyError, SyntaxError, struct.error):
        return 1


def _stored_box(box: Box, size: tuple[int, int], orientation: int) -> Box:
    """A box of the upright picture in the file's rows and columns."""
    left, top, right, bottom = box
    if orientation in range(5, 9):  # rows and columns are exchanged
        left, top, right, bottom = top, left, bottom, right
    width, height = size
    if orientation in {2, 3, 7, 8}:
        left, right = width - right, width - left
    if orientation in {3, 4, 6, 7}:
        top, bottom = height - bottom, height - top
    return left, top, right, bottom


def _reduce(image: Image.Image, factor: int) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(np.asarray(image)[::factor, ::factor])
    modes = {"P": "RGBA" if image.has_transparency_data else "RGB", "PA": "RGBA", "1": "L"}
    return image.convert(modes[image.mode]).reduce(factor) if image.mode in modes else image.reduce(factor)


def _to_16_bits(image: Image.Image, notes: list[str]) -> Image.Image:
    """Grey of more than 8 bits in the whole range of 16 bits."""
    values = np.asarray(image).clip(0, 65535)
    most = int(values.max())
    if 255 < most <= TWELVE_BITS:  # 10 or 12 bits, as of scanners and cameras of industry, would be black
        bits = 10 if most < 2**10 else 12
        notes.append(f"stretched from {bits} to 8 bits")
        values = values * (65535 / (2**bits - 1))
    else:
        notes.append("brought from 16 to 8 bits")
    return Image.fromarray(values.astype(np.uint16))


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


def _to_rgb(
    path: Path, image: Image.Image, notes: list[str], background: Background
) -> tuple[Image.Image, Image.Image | None]:
    """Any colour mode as opaque 8-bit RGB, and the opacity if it varies."""
    if image.mode == "F":
        raise ImageError(f"{path} holds floating-point values.", "Save it as 8-bit JPEG or PNG.")
    if image.mode == "I;16":
        return Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8)).convert("RGB"), None
    if not image.has_transparency_data:
        if image.mode != "RGB":
            notes.append(f"converted from {image.mode} to RGB")
        return image.convert("RGB"), None
    layer = image.convert("RGBA")
    alpha = layer.getchannel("A")
    levels = np.asarray(alpha)
    least, most = int(levels.min()), int(levels.max())
    if least == most == 255:
        return layer.convert("RGB"), None
    notes.append(f"laid on {background} where it is transparent")
    flat = Image.alpha_composite(Image.new("RGBA", layer.size, background), layer).convert("RGB")
    return flat, alpha if most - least > ALPHA_TOLERANCE else None
