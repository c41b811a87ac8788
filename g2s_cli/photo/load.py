"""An image file → Photo: opened, turned upright, aligned, cut out, brought to the GAN's size."""

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
from g2s_cli.photo.align import CropOptions, Placed, place
from g2s_cli.photo.crop import cut, resized, share_outside
from g2s_cli.photo.decode import measures, read_upright

LEAST_SIDE = 16
MOST_ALIGNED = 2048  # pixels a side of the crop that textures are made from
LEAST_MASKED = 0.01  # of the crop, that a mask must leave, and should leave out
WHITE_IS = "White is the object, black is the rest."
MUCH_FILLED = 0.05  # of the crop: more is worth a warning


@dataclass(frozen=True)
class Photo:
    """The user's photo as the GAN would have made it.

    name: the file's name. image: in [-1, 1], square, at the GAN's size. aligned: the same square at the photo's own
    resolution, from the GAN's size to 2048 pixels a side. placement: where it lies in the upright photo. mask: what of
    it the user says is the object, from 0 to 1, at the GAN's size. original: the file, byte for byte. alignment: how
    the placement came about, for the report. notes: what was done to the photo, one sentence fragment each. warnings:
    sentences that the user should read.
    """

    name: str
    image: Float[Tensor, "3 s s"]
    aligned: UInt8[np.ndarray, "n n 3"]
    placement: Placement
    mask: Float[Tensor, "s s"] | None
    original: bytes
    alignment: dict[str, Any]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def open_photo(
    path: Path, size: int, template: FaceTemplate | None = None, crop_options: CropOptions | None = None
) -> Photo:
    """Open an image file as a square of `size` pixels a side.

    template: where the category's crops have a face; without one the middle square is kept. Raises ImageError for
    whatever cannot be used, UsageError for wishes that cannot be fulfilled.
    """
    crop_options = (crop_options or CropOptions()).check()
    notes: list[str] = []
    picture = read_upright(path, notes)
    if min(picture.size) < LEAST_SIDE:
        raise ImageError(
            f"{path} is {measures(picture)} pixels; g2s needs {LEAST_SIDE} a side at least.",
            "Use a larger picture of the same object.",
        )
    placed = place(path, picture, template, crop_options)
    side = round(placed.placement.side)
    if side < LEAST_SIDE:
        raise ImageError(
            f"The object in {path} is {side} pixels a side; g2s needs {LEAST_SIDE} at least.",
            "Use a larger picture of the same object.",
        )
    filled = share_outside(placed.placement, *picture.size)
    notes += _notes(picture, placed, size, filled)
    aligned = cut(picture, placed.placement, min(max(side, size), MOST_ALIGNED))
    pixels = np.array(aligned)
    if (np.ptp(pixels, axis=(0, 1)) == 0).all():
        raise ImageError(f"{path} shows nothing: what is taken of it has one colour.", "Name another photo.")
    mask = _mask(crop_options.mask, path, picture, placed.placement, size) if crop_options.mask else None
    return Photo(
        name=path.name,
        image=torch.from_numpy(np.array(resized(aligned, size))).permute(2, 0, 1).float() / 127.5 - 1,
        aligned=pixels,
        placement=placed.placement,
        mask=mask,
        original=path.read_bytes(),
        alignment=_facts(picture, placed, aligned.width, filled),
        notes=tuple(notes),
        warnings=tuple(_warnings(path, placed, crop_options, filled, mask)),
    )


def _mask(path: Path, photo: Path, picture: Image.Image, placement: Placement, size: int) -> Float[Tensor, "s s"]:
    """The user's mask, cut out as the photo was; what is transparent in it is not the object. Raises ImageError."""
    mask = read_upright(path, [], behind="black").convert("L")
    if mask.size != picture.size:
        raise ImageError(
            f"{path} is {measures(mask)} pixels, {photo} is {measures(picture)} upright.",
            "Give a mask of the photo's size, white where the object is.",
        )
    # Twice, so that it is averaged over the same areas as the photo.
    finer = cut(mask, placement, min(max(round(placement.side), size), MOST_ALIGNED), beyond="black")
    cropped = torch.from_numpy(np.array(resized(finer, size))).float() / 255
    if cropped.mean() < LEAST_MASKED:
        raise ImageError(f"{path} leaves nothing of the crop.", WHITE_IS)
    return cropped


def _notes(picture: Image.Image, placed: Placed, size: int, filled: float) -> list[str]:
    """What was done, in fragments of sentences."""
    side, notes = round(placed.placement.side), []
    if placed.how == "aligned":
        turn = np.degrees(placed.placement.turn_rad)
        notes.append(f"aligned by the five points of a face: {side}x{side} of {measures(picture)}, turned {turn:.0f}°")
    elif placed.how == "as it is":
        notes.append("taken as it is, a crop prepared by somebody")
    elif placed.how == "crop":
        notes.append(f"cropped to {side}x{side} of {measures(picture)}, as asked")
    elif picture.width != picture.height:
        notes.append(f"cropped to the middle square, {side}x{side} of {measures(picture)}")
    if filled > 0:
        notes.append(f"mirrored at its edges to fill {100 * filled:.1f} % of the crop")
    if side != size:
        notes.append(f"{'resized' if side > size else 'enlarged'} from {side}x{side} to {size}x{size}")
    return notes


def _warnings(
    path: Path, placed: Placed, crop_options: CropOptions, filled: float, mask: Float[Tensor, "s s"] | None
) -> list[str]:
    """What the user should read."""
    said = []
    if crop_options.mask and mask is not None and mask.mean() > 1 - LEAST_MASKED:
        said.append(f"{crop_options.mask.name} leaves nothing of the crop out. {WHITE_IS}")
    if placed.how == "aligned" and len(placed.faces) > 1 and crop_options.face is None:
        said.append(f"{path.name} shows {len(placed.faces)} faces; this is the largest. --face 2 takes the next one.")
    if placed.doubtful:
        said.append(f"{path.name} counts as cropped already, but a face may lie elsewhere in it: --face 1 aligns it.")
    if filled > MUCH_FILLED:
        said.append(f"{100 * filled:.0f} % of the crop lies beyond the edges of {path.name} and had to be made up.")
    return said


def _facts(picture: Image.Image, placed: Placed, size: int, filled: float) -> dict[str, Any]:
    """The alignment as the report has it."""
    placement = placed.placement
    return {
        "how": placed.how,
        "photo_px": list(picture.size),
        "aligned_px": size,
        "centre_px": [round(placement.x, 3), round(placement.y, 3)],
        "side_px": round(placement.side, 3),
        "turn_deg": round(float(np.degrees(placement.turn_rad)), 3),
        "aligned_to_photo": placement.matrix(size).tolist(),
        "convention": "aligned_to_photo carries (column, row, 1) of aligned.png to (column, row) of the upright photo; "
        "pixel centres lie at whole numbers, and turn_deg is clockwise",
        "filled_share": round(filled, 4),
        "face": placed.face,
        "faces": [
            {"points_px": face.points.round(2).tolist(), "size_px": round(face.size, 1), "sure": round(face.sure, 4)}
            for face in placed.faces
        ],
    }
