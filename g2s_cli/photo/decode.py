"""Any image file as people see it: turned upright, opaque, 8-bit sRGB."""

from __future__ import annotations

import io
import stat
import warnings
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError

from g2s_cli.errors import ImageError

MOST_SIDE, MOST_BYTES = 8192, 2**29  # 16 bits and three channels of that take three quarters of it

ROUNDED = 4  # levels by which profiles of the same colours differ

Behind = Literal["white", "black"]

# Still pictures that cameras and editors write. Pillow knows more, but opening a PostScript file would run
# Ghostscript on it.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM")

# What stands at bytes 4 to 12 of the pictures of iPhones (ISO 23008-12).
HEIC = {b"ftyp" + brand for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")}

HEIF = {".heic", ".heif"}  # Pillow knows them once it has been taught to


def list_images(folder: Path) -> tuple[list[Path], list[Path]]:
    """The files of a folder that are called as pictures are, and its other ones; hidden ones and folders are neither.

    Raises OSError.
    """
    suffixes = {suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS} | HEIF
    files = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    is_picture = {path: path.suffix.lower() in suffixes for path in files}
    return [path for path in files if is_picture[path]], [path for path in files if not is_picture[path]]


def read_image(path: Path, notes: list[str], data: bytes | None = None, behind: Behind = "white") -> Image.Image:
    """A picture as upright, opaque 8-bit sRGB.

    EXIF orientation and colour profile are applied, transparency is laid on what is behind it. notes: gets a fragment
    of a sentence for each. data: the file's bytes, if they are at hand. Raises ImageError for whatever cannot be used;
    pictures larger than 8192 pixels a side are refused before they are decoded.
    """
    if data is None:
        check_file(path)
    try:
        source = io.BytesIO(path.read_bytes() if data is None else data)
        formats = FORMATS if source.getvalue()[4:12] not in HEIC else (*FORMATS, _heif_format(path))
        with warnings.catch_warnings():
            # What Pillow grumbles about and still decodes is fine, except a picture beyond its bomb limit.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(source, formats=formats) as picture:
                return _decode(path, picture, notes, behind)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"{path} is not an image that g2s can read.", "Save it as JPEG or PNG.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(path, "") from error
    except Exception as error:  # Pillow's decoders raise whatever a damaged file makes them run into
        if isinstance(error, OSError) and error.strerror:
            raise _unopened(path, error) from error
        raise ImageError(f"{path} is damaged or incomplete.", "Copy or download it again.") from error


def check_file(path: Path) -> None:
    """Raises ImageError for what cannot be a photo, whatever is in it."""
    try:
        status = path.stat()
    except OSError as error:
        raise _unopened(path, error) from error
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(f"{path} is a folder, not a photo.", "Name one image file.")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(f"{path} is not a regular file.", "Save the picture to a file and name that.")
    if status.st_size > MOST_BYTES:
        raise _too_large(path, f", {status.st_size >> 20} MiB")


def _unopened(path: Path, error: OSError) -> ImageError:
    """What to say where the system refuses."""
    if isinstance(error, FileNotFoundError):
        return ImageError(f"There is no file {path}.", "Check the path.")
    if isinstance(error, PermissionError):
        return ImageError(f"{path} may not be read.", f'Allow it: chmod u+r "{path}"')
    return ImageError(f"{path} cannot be opened: {error.strerror}.", "Check the path and the disk.")


def measures(picture: Image.Image) -> str:
    """Width and height for people."""
    return f"{picture.width}x{picture.height}"


def _heif_format(path: Path) -> str:
    """Teach Pillow to open HEIC. Raises ImageError if nothing here can."""
    try:
        from pillow_heif import register_heif_opener  # noqa: PLC0415  an extra that most people do without
    except ImportError as error:
        raise ImageError(
            f"{path} is HEIC, which needs pillow-heif.", "pip install 'g2s-cli[heic]', or save it as JPEG."
        ) from error
    register_heif_opener()
    return "HEIF"


def _decode(path: Path, picture: Image.Image, notes: list[str], behind: Behind) -> Image.Image:
    if max(picture.size) > MOST_SIDE:
        raise _too_large(path, f", {measures(picture)}")
    # An MPO is a JPEG with a second view or a preview behind it; its first picture is the photo.
    if getattr(picture, "is_animated", False) and picture.format not in {"MPO", "HEIF"}:
        raise ImageError(f"{path} holds several pictures.", "Save the one you mean as JPEG or PNG.")
    orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
    picture.load()
    profile = picture.info.get("icc_profile")
    upright = ImageOps.exif_transpose(picture)
    if orientation in range(2, 9):
        notes.append("turned by its EXIF orientation")
    if upright.mode.startswith("I"):
        upright = _in_16_bits(upright)
        notes.append("brought from 16 to 8 bits")
    return _as_rgb(path, _as_srgb(upright, profile, notes) if profile else upright, notes, behind)


def _as_srgb(picture: Image.Image, profile: bytes, notes: list[str]) -> Image.Image:
    """The same colours in sRGB; the picture as it is if its profile is broken or is not meant for its mode."""
    fault = "broken"
    try:
        source = ImageCms.getOpenProfile(io.BytesIO(profile))
        if _is_srgb(source):
            return picture
        fault = "not meant for it"
        opaque = {"P": "RGB", "RGBA": "RGB", "PA": "RGB", "LA": "L"}.get(picture.mode)
        colours = picture.convert(opaque) if opaque else picture
        converted = ImageCms.profileToProfile(colours, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        notes.append(f"taken without its colour profile, which is {fault}")
        return picture
    if converted is None:
        return picture
    notes.append("converted from its colour profile to sRGB")
    if picture.has_transparency_data:
        converted.putalpha(picture.convert("RGBA").getchannel("A"))
    return converted


def _is_srgb(profile: ImageCms.ImageCmsProfile) -> bool:
    """Whether a profile that is called sRGB is it. Linear ones are called so, too, and show grey as another grey."""
    if "sRGB" not in ImageCms.getProfileDescription(profile):
        return False
    greys = Image.linear_gradient("L").convert("RGB")
    shown = ImageCms.profileToProfile(greys, profile, ImageCms.createProfile("sRGB"))
    return shown is not None and bool((abs(np.asarray(greys, dtype=int) - np.asarray(shown)) <= ROUNDED).all())


def _in_16_bits(picture: Image.Image) -> Image.Image:
    """Grey of more than 8 bits, whichever way Pillow holds it, as that of 16 which colour profiles are applied to."""
    return Image.fromarray(np.asarray(picture).clip(0, 65535).astype(np.uint16))


def _as_rgb(path: Path, picture: Image.Image, notes: list[str], behind: Behind) -> Image.Image:
    """Any colour mode as 8-bit RGB."""
    if picture.mode == "F":
        raise ImageError(f"{path} holds floating-point values.", "Save it as 8-bit JPEG or PNG.")
    if picture.mode == "I;16":
        return Image.fromarray((np.asarray(picture) / 257).round().astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        if layer.getchannel("A").getextrema() != (255, 255):
            notes.append(f"laid on {behind} where it is transparent")
        picture = Image.alpha_composite(Image.new("RGBA", layer.size, behind), layer)
    elif picture.mode != "RGB":
        notes.append(f"converted from {picture.mode} to RGB")
    return picture.convert("RGB")


def _too_large(path: Path, size: str) -> ImageError:
    return ImageError(
        f"{path} is too large{size}: g2s takes up to {MOST_SIDE} pixels a side.", "Scale it down, or crop it."
    )
