"""An image file → Photo: decoded, aligned, cropped and resampled to the GAN's size."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
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
from g2s_cli.photo.crop import MAX_ALIGNED_PX, aligned_size, crop_photo, resize_square, share_outside
from g2s_cli.photo.decode import Picture, notable, read_image, size_text
from g2s_cli.photo.mask import PhotoMask, own_mask, read_mask

MIN_SIDE_PX = 16
SURROUNDINGS = 2.0  # side of the crop with its surroundings, in sides of the crop
MAX_OUTSIDE_SHARE = 0.05  # of the crop; more is worth a warning
MIN_FACE_PX = 40  # of a face's box; smaller ones are worth a warning
MIN_CONFIDENCE = 0.9  # of the detector that a photo shows a face; less is worth a warning
MIN_PROFILE_YAW_DEG = 35.0  # of `FaceTemplate.yaw_deg`, which is too small there; more is worth a warning
MARGIN_PX = 8  # around a crop, for the filter that shrinks it by up to a half


@dataclass(frozen=True)
class Photo:
    """A photo, cropped as the GAN's training images are.

    Args:
        name: of the file.
        image: the crop at the GAN's size, in [-1, 1].
        aligned: the crop at the photo's resolution, from the GAN's size to 2048 pixels a side.
        surroundings: a square around the crop, twice as wide, at the same resolution but 2048 pixels a side at most.
        placement: the crop's place in the upright photo.
        mask: the user's object mask, or the photo's own; None if there is none.
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
    mask: PhotoMask | None
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
    picture = read_image(path, notes)
    if min(picture.size) < MIN_SIDE_PX:
        raise ImageError(
            f"{path} is {size_text(picture)} pixels; g2s needs {MIN_SIDE_PX} a side at least.",
            "Use a larger picture of the same object.",
        )
    alignment = align(path, picture, template, options)
    placement, side = alignment.placement, round(alignment.placement.side)
    if side < MIN_SIDE_PX:
        raise ImageError(
            f"The object in {path} is {side} pixels a side; g2s needs {MIN_SIDE_PX} at least.",
            "Use a larger picture of the same object.",
        )
    outside = share_outside(placement, *picture.size)
    with ThreadPoolExecutor(1) as pool:
        surroundings = pool.submit(_surroundings, picture, placement, aligned_size(placement, size))
        crop = _crop(path, picture, placement, size)
    aligned = np.array(crop)
    if (aligned == aligned[0, 0]).all():
        raise ImageError(f"{path} shows nothing: its crop has one colour.", "Name another photo.")
    warnings = [f"{path.name} is {note}." for note in notable(notes)]
    warnings += _warnings(path, alignment, template, options, outside)
    if options.mask:
        mask: PhotoMask | None = read_mask(options.mask, path, picture, placement, size, warnings)
    elif mask := own_mask(picture, placement, size):
        notes.append("cut out by its own transparency")
    return Photo(
        name=path.name,
        image=torch.from_numpy(np.array(resize_square(crop, size))).permute(2, 0, 1).float() / 127.5 - 1,
        aligned=aligned,
        surroundings=surroundings.result(),
        placement=placement,
        mask=mask,
        original=path.read_bytes(),
        alignment=_report(picture, alignment, crop.width, outside),
        notes=(*notes, *_notes(picture, alignment, size, outside)),
        warnings=tuple(warnings),
    )


def _surroundings(picture: Picture, placement: Placement, crop_px: int) -> UInt8[np.ndarray, "m m 3"]:
    """The crop and as much again around it."""
    wide = placement.subsquare((1 - SURROUNDINGS) / 2, SURROUNDINGS).scale(1 / picture.reduction)
    return np.array(crop_photo(picture.colours, wide, min(round(SURROUNDINGS * crop_px), MAX_ALIGNED_PX)))


def _crop(path: Path, picture: Picture, placement: Placement, size: int) -> Image.Image:
    """The crop at the file's resolution: that part of a picture which was decoded reduced is decoded again."""
    if picture.reduction == 1 or placement.side >= picture.reduction * MAX_ALIGNED_PX:
        return crop_photo(picture.colours, placement.scale(1 / picture.reduction), aligned_size(placement, size))
    corners = placement.to_photo(np.array(((0.0, 0), (1, 0), (0, 1), (1, 1))))
    left, top = np.maximum(np.floor(corners.min(axis=0)).astype(int) - MARGIN_PX, 0).tolist()
    right, bottom = np.minimum(np.ceil(corners.max(axis=0)).astype(int) + MARGIN_PX, picture.size).tolist()
    part = read_image(path, [], box=(left, top, right, bottom)).colours
    shifted = replace(placement, x=placement.x - left, y=placement.y - top)
    return crop_photo(part, shifted, aligned_size(placement, size))


def _notes(picture: Picture, alignment: Alignment, size: int, outside: float) -> list[str]:
    side, whole, notes = round(alignment.placement.side), size_text(picture), []
    if alignment.method == "aligned":
        roll_deg = np.degrees(alignment.placement.turn_rad)
        notes.append(f"aligned by the five points of a face: {side}x{side} of {whole}, turned {roll_deg:.0f}°")
    elif alignment.method == "as it is":
        notes.append("taken as a prepared crop")
    elif alignment.method == "crop":
        notes.append(f"cropped to {side}x{side} of {whole}, as asked")
    elif picture.size[0] != picture.size[1]:
        notes.append(f"cropped to the centre square, {side}x{side} of {whole}")
    if outside > 0:
        notes.append(f"mirrored at its edges to fill {100 * outside:.1f} % of the crop")
    if side != size:
        notes.append(f"{'resized' if side > size else 'enlarged'} from {side}x{side} to {size}x{size}")
    return notes


def _warnings(
    path: Path, alignment: Alignment, template: FaceTemplate | None, options: CropOptions, outside: float
) -> list[str]:
    warnings = []
    if alignment.faces:
        face = alignment.faces[(alignment.face or 1) - 1]
        if face.confidence < MIN_CONFIDENCE:
            warnings.append(f"{path.name} may show no face: the detector is {100 * face.confidence:.0f} % certain.")
        if face.size < MIN_FACE_PX:
            warnings.append(f"The face in {path.name} has {face.size:.0f} pixels a side: expect little detail.")
        if template and abs(template.yaw_deg(face.landmarks)) >= MIN_PROFILE_YAW_DEG:
            warnings.append(
                f"The face in {path.name} is turned far to a side, and its far half is a guess: "
                "a photo from nearer the front is better."
            )
    if alignment.method == "aligned" and len(alignment.faces) > 1 and options.face is None:
        count = len(alignment.faces)
        warnings.append(f"{path.name} shows {count} faces; this is the largest. --face 2 takes the next one.")
    if alignment.uncertain:
        warnings.append(f"{path.name} is taken as a prepared crop, but its face may lie elsewhere: --face 1 aligns it.")
    if outside > MAX_OUTSIDE_SHARE:
        warnings.append(f"{100 * outside:.0f} % of the crop lies beyond the edges of {path.name} and is mirrored.")
    return warnings


def _report(picture: Picture, alignment: Alignment, size: int, outside: float) -> dict[str, Any]:
    """The alignment's entry of report.json."""
    placement = alignment.placement
    return {
        "how": alignment.method,
        "photo_px": list(picture.size),
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
