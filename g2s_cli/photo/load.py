"""An image file → Photo: decoded, aligned, cropped and resampled to the GAN's size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from g2s_cli.errors import ImageError
from g2s_cli.geometry.placement import FaceTemplate, Placement
from g2s_cli.photo.align import Alignment, CropOptions, align
from g2s_cli.photo.crop import Matte, crop_matte, crop_photo, resize_square, share_outside
from g2s_cli.photo.decode import read_image, size_text

MIN_SIDE_PX = 16
MAX_ALIGNED_PX = 2048  # side of the crop that textures are made from
SURROUNDINGS = 2.0  # side of the crop with its surroundings, in sides of the crop
USER_MATTE_SPAN = 4.0  # of the matte that a user's mask makes, in sides of the crop
MIN_MASK_SHARE = 0.01  # of the crop, inside the mask; outside it, less is worth a warning
MAX_OUTSIDE_SHARE = 0.05  # of the crop; more is worth a warning
MASK_COLOURS = "White is the object, black is the rest."


@dataclass(frozen=True)
class Photo:
    """A photo, cropped as the GAN's training images are.

    Args:
        name: of the file.
        image: the crop at the GAN's size, in [-1, 1].
        aligned: the crop at the photo's resolution, from the GAN's size to 2048 pixels a side.
        surroundings: a square around the crop, twice as wide, at the same resolution but 2048 pixels a side at most.
        placement: the crop's place in the upright photo.
        mask: the user's object mask in [0, 1] at the GAN's size.
        matte: the user's object mask around the crop, at the photo's resolution.
        original: the file's bytes.
        alignment: how the crop was chosen, for report.json.
        notes: sentence fragments about each conversion.
        warnings: sentences for the user.
    """

    name: str
    image: Float[Tensor, "3 s s"]
    aligned: UInt8[np.ndarray, "n n 3"]
    surroundings: UInt8[np.ndarray, "m m 3"]
    placement: Placement
    mask: Float[Tensor, "s s"] | None
    matte: Matte | None
    original: bytes
    alignment: dict[str, Any]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def open_photo(
    path: Path, size: int, template: FaceTemplate | None = None, crop_options: CropOptions | None = None
) -> Photo:
    """Open an image file.

    Args:
        size: of the GAN's images, in pixels a side.
        template: landmarks of the category's crops; without them the centre square is taken.

    Raises:
        ImageError: the image or the mask cannot be used, or shows no face.
        UsageError: the options do not fit the photo or the category.
    """
    options = (crop_options or CropOptions()).check()
    notes: list[str] = []
    upright = read_image(path, notes)
    if min(upright.size) < MIN_SIDE_PX:
        raise ImageError(
            f"{path} is {size_text(upright)} pixels; g2s needs {MIN_SIDE_PX} a side at least.",
            "Use a larger picture of the same object.",
        )
    alignment = align(path, upright, template, options)
    placement, side = alignment.placement, round(alignment.placement.side)
    if side < MIN_SIDE_PX:
        raise ImageError(
            f"The object in {path} is {side} pixels a side; g2s needs {MIN_SIDE_PX} at least.",
            "Use a larger picture of the same object.",
        )
    outside = share_outside(placement, *upright.size)
    crop = crop_photo(upright, placement, _aligned_size(placement, size))
    aligned = np.array(crop)
    if (np.ptp(aligned, axis=(0, 1)) == 0).all():
        raise ImageError(f"{path} shows nothing: its crop has one colour.", "Name another photo.")
    wide = placement.subsquare((1 - SURROUNDINGS) / 2, SURROUNDINGS)
    wide_px = min(round(SURROUNDINGS * crop.width), MAX_ALIGNED_PX)
    whole = _read_mask(options.mask, path, upright) if options.mask else None
    mask = None if whole is None else _crop_mask(whole, options.mask, placement, size)
    return Photo(
        name=path.name,
        image=torch.from_numpy(np.array(resize_square(crop, size))).permute(2, 0, 1).float() / 127.5 - 1,
        aligned=aligned,
        surroundings=np.array(crop_photo(upright, wide, wide_px)),
        placement=placement,
        mask=mask,
        matte=None if whole is None else crop_matte(whole, placement, USER_MATTE_SPAN),
        original=path.read_bytes(),
        alignment=_report(upright, alignment, crop.width, outside),
        notes=(*notes, *_notes(upright, alignment, size, outside)),
        warnings=tuple(_warnings(path, alignment, options, outside, mask)),
    )


def _aligned_size(placement: Placement, size: int) -> int:
    return min(max(round(placement.side), size), MAX_ALIGNED_PX)


def _read_mask(path: Path, photo: Path, upright: Image.Image) -> Image.Image:
    """The user's mask of an upright photo; transparent pixels are background."""
    mask = read_image(path, [], background="black").convert("L")
    if mask.size != upright.size:
        raise ImageError(
            f"{path} is {size_text(mask)} pixels, {photo} is {size_text(upright)} upright.",
            "Give a mask of the photo's size, white where the object is.",
        )
    return mask


def _crop_mask(mask: Image.Image, path: Path | None, placement: Placement, size: int) -> Float[Tensor, "s s"]:
    """The user's mask, cropped and averaged like the photo."""
    crop = crop_photo(mask, placement, _aligned_size(placement, size), padding="black")
    result = torch.from_numpy(np.array(resize_square(crop, size))).float() / 255
    if result.mean() < MIN_MASK_SHARE:
        raise ImageError(f"{path} leaves nothing of the crop.", MASK_COLOURS)
    return result


def _notes(upright: Image.Image, alignment: Alignment, size: int, outside: float) -> list[str]:
    side, whole, notes = round(alignment.placement.side), size_text(upright), []
    if alignment.method == "aligned":
        roll_deg = np.degrees(alignment.placement.turn_rad)
        notes.append(f"aligned by the five points of a face: {side}x{side} of {whole}, turned {roll_deg:.0f}°")
    elif alignment.method == "as it is":
        notes.append("taken as an aligned crop")
    elif alignment.method == "crop":
        notes.append(f"cropped to {side}x{side} of {whole}, as asked")
    elif upright.width != upright.height:
        notes.append(f"cropped to the centre square, {side}x{side} of {whole}")
    if outside > 0:
        notes.append(f"mirrored at its edges to fill {100 * outside:.1f} % of the crop")
    if side != size:
        notes.append(f"{'resized' if side > size else 'enlarged'} from {side}x{side} to {size}x{size}")
    return notes


def _warnings(
    path: Path, alignment: Alignment, options: CropOptions, outside: float, mask: Float[Tensor, "s s"] | None
) -> list[str]:
    warnings = []
    if options.mask and mask is not None and mask.mean() > 1 - MIN_MASK_SHARE:
        warnings.append(f"{options.mask.name} covers the whole crop. {MASK_COLOURS}")
    if alignment.method == "aligned" and len(alignment.faces) > 1 and options.face is None:
        count = len(alignment.faces)
        warnings.append(f"{path.name} shows {count} faces; this is the largest. --face 2 takes the next one.")
    if alignment.uncertain:
        warnings.append(f"{path.name} counts as an aligned crop, but its face may lie elsewhere: --face 1 aligns it.")
    if outside > MAX_OUTSIDE_SHARE:
        warnings.append(f"{100 * outside:.0f} % of the crop lies beyond the edges of {path.name} and is mirrored.")
    return warnings


def _report(upright: Image.Image, alignment: Alignment, size: int, outside: float) -> dict[str, Any]:
    """The alignment's entry of report.json."""
    placement = alignment.placement
    return {
        "how": alignment.method,
        "photo_px": list(upright.size),
        "aligned_px": size,
        "centre_px": [round(placement.x, 3), round(placement.y, 3)],
        "side_px": round(placement.side, 3),
        "turn_deg": round(float(np.degrees(placement.turn_rad)), 3),
        "aligned_to_photo": placement.matrix(size).tolist(),
        "convention": "aligned_to_photo carries (column, row, 1) of aligned.png to (column, row) of the upright photo; "
        "pixel centres lie at whole numbers, and turn_deg is clockwise",
        "filled_share": round(outside, 4),
        "face": alignment.face,
        "faces": [
            {
                "points_px": face.landmarks.round(2).tolist(),
                "size_px": round(face.size, 1),
                "sure": round(face.confidence, 4),
            }
            for face in alignment.faces
        ],
    }
