"""Choose the square crop of a photo: the user's box, the template fitted to a face, or the centre square."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float
from PIL import Image

from g2s_cli.errors import ImageError, UsageError
from g2s_cli.geometry.placement import FaceTemplate, Placement
from g2s_cli.photo.decode import Picture, size_text
from g2s_cli.photo.detect import Face, detect_faces

# A square image of at most this many pixels a side is a prepared crop ...
MAX_PREPARED_PX = 256
# ... unless its face deviates from the template by more than this: share of the crop's side, scale ratio, degrees.
# Aligned renders of any pose stay within 0.16, 1.22 and 11 (docs/decisions/0009-alignment.md).
MAX_OFFSET, MAX_SCALE, MAX_ROLL_DEG = 0.2, 1.3, 15.0
MIN_CONFIDENCE = 0.95  # of the detection that overrides such a crop
MAX_CROP = 2  # side of a crop, in units of the photo's longer side

Box = tuple[float, float, float, float]
Points = Float[np.ndarray, "*k 2"]
Method = Literal["aligned", "as it is", "middle", "crop"]  # as report.json names them


@dataclass(frozen=True)
class CropOptions:
    """The user's choices of crop and mask.

    Args:
        align: detect a face if the category has a template; otherwise take the centre square.
        face: index of the face, 1 is the largest; None takes the largest but leaves prepared crops unchanged.
        crop: left, top, width and height in pixels of the upright photo.
        mask: image of the upright photo's size, white on the object.
    """

    align: bool = True
    face: int | None = None
    crop: Box | None = None
    mask: Path | None = None

    def check(self) -> CropOptions:
        """Return the options unchanged.

        Raises:
            UsageError: a value is out of range, or options exclude each other.
        """
        if self.face is not None and self.face < 1:
            raise UsageError(f"There is no --face {self.face}.", "1 is the largest.")
        if self.crop is not None and not _is_box(self.crop):
            numbers = ",".join(f"{number:g}" for number in self.crop)
            raise UsageError(f"--crop {numbers} is no box.", "Give left, top, width and height in pixels.")
        flags = {"--no-align": not self.align, "--face": self.face is not None, "--crop": self.crop is not None}
        active = [name for name, is_set in flags.items() if is_set]
        if len(active) > 1:
            raise UsageError(f"{' and '.join(active)} exclude each other.", "Leave all but one out.")
        return self


@dataclass(frozen=True)
class Alignment:
    """The crop of a photo and how it was chosen.

    Args:
        faces: detected faces, the largest first.
        face: index of the chosen face, from 1.
        uncertain: a prepared crop was kept although a low-confidence face deviates from the template.
    """

    placement: Placement
    method: Method
    faces: tuple[Face, ...] = ()
    face: int | None = None
    uncertain: bool = False


def align(path: Path, picture: Picture, template: FaceTemplate | None, options: CropOptions) -> Alignment:
    """Choose the crop of an upright photo, in pixels of its file.

    Args:
        path: file name for messages.
        template: landmarks of the category's crops; None for categories without faces.

    Raises:
        ImageError: no face is detected.
        UsageError: the options do not fit this photo or category.
    """
    centre = _centre_square(picture)
    if options.crop:
        return Alignment(_enclosing_square(path, picture, options.crop), "crop")
    if template is None and options.face is not None:
        raise UsageError("--face is for categories of faces.", "Set the crop with --crop x,y,w,h.")
    if template is None or not options.align:
        return Alignment(centre, "middle")
    faces = find_faces(picture)
    is_prepared = picture.size[0] == picture.size[1] <= MAX_PREPARED_PX and options.face is None
    if is_prepared and faces:
        deviates = not _is_close(template.align(faces[0].landmarks), centre)
        if not deviates or faces[0].confidence < MIN_CONFIDENCE:
            return Alignment(centre, "as it is", faces, uncertain=deviates)
    if not faces:
        raise ImageError(
            f"{path} shows no face that g2s can find, upright or turned.",
            "Set the crop with --crop x,y,w,h, or take the centre square with --no-align.",
        )
    face = options.face or 1
    if face > len(faces):
        count = "one face" if len(faces) == 1 else f"{len(faces)} faces"
        raise UsageError(f"{path} shows {count}; there is no --face {face}.", "1 is the largest.")
    return Alignment(template.align(faces[face - 1].landmarks), "aligned", faces, face)


def find_faces(picture: Picture) -> tuple[Face, ...]:
    """The faces of a picture, the largest first, in pixels of its file. `--face` counts them."""
    return tuple(scale_face(face, picture.reduction) for face in _detect_enlarged(picture.colours))


def _detect_enlarged(image: Image.Image) -> list[Face]:
    """The faces of an image; a small one is enlarged if none is found."""
    factor = MAX_PREPARED_PX / max(image.size)
    faces = detect_faces(image)
    if faces or factor <= 1:
        return faces
    enlarged = image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC)
    return [scale_face(face, 1 / factor) for face in detect_faces(enlarged)]


def scale_face(face: Face, factor: float | int) -> Face:
    """A face in the image enlarged by a factor."""
    return replace(face, landmarks=(face.landmarks + 0.5) * factor - 0.5, size=face.size * factor)


def _is_box(crop: tuple[float, ...]) -> bool:
    return len(crop) == 4 and all(map(math.isfinite, crop)) and min(crop[2:]) > 0


def _centre_square(picture: Picture) -> Placement:
    """The largest centred square; an odd margin is larger on the right or below."""
    width, height = picture.size
    side = min(picture.size)
    return Placement.from_box((width - side) // 2, (height - side) // 2, side)


def _enclosing_square(path: Path, picture: Picture, crop: Box) -> Placement:
    """The smallest square around a box, with the same centre."""
    left, top, width, height = crop
    side, option = max(width, height), f"--crop {left:g},{top:g},{width:g},{height:g}"
    if not (0 <= left + width / 2 <= picture.size[0] and 0 <= top + height / 2 <= picture.size[1]):
        raise UsageError(
            f"{option} lies outside {path}, {size_text(picture)} pixels upright.",
            "Give left, top, width and height in pixels.",
        )
    if side > MAX_CROP * max(picture.size):
        raise UsageError(
            f"{option} is far larger than {path}, {size_text(picture)} pixels.",
            f"Give a width and a height of {MAX_CROP * max(picture.size)} at most.",
        )
    return Placement.from_box(left + (width - side) / 2, top + (height - side) / 2, side)


def _is_close(face: Placement, crop: Placement) -> bool:
    """Whether the template's fit to a face is about the given crop."""
    offset = max(abs(face.x - crop.x), abs(face.y - crop.y)) / crop.side
    scale = abs(math.log(face.side / crop.side))
    return offset < MAX_OFFSET and scale < math.log(MAX_SCALE) and abs(math.degrees(face.turn_rad)) < MAX_ROLL_DEG
