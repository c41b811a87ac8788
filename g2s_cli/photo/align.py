"""Where the crop lies: as the user says, where a face is, or the middle."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from g2s_cli.errors import ImageError, UsageError
from g2s_cli.geometry.placement import FaceTemplate, Placement
from g2s_cli.photo.decode import measures
from g2s_cli.photo.detect import Face, find_faces

# A square picture of at most so many pixels a side is taken for a crop that somebody prepared ...
PREPARED_PX = 256
# ... unless a face in it lies clearly elsewhere than prepared ones do: in shares of the crop, factors and degrees.
# Prepared renders of any pose stay within 0.16, 1.22 and 11 (docs/decisions/0009-alignment.md).
OFF_CENTRE, OFF_SCALE, OFF_TURN_DEG = 0.2, 1.3, 15.0
MOST_BEYOND = 2  # times the photo's longer side a crop may measure: about any point of it, that holds all of it
CLEARLY = 0.99  # how sure the detector must be of that face

How = Literal["aligned", "as it is", "middle", "crop"]


@dataclass(frozen=True)
class CropOptions:
    """What the user says about where the object is.

    align: look for a face where the category has a template. face: which one, 1 is the largest; None is the largest,
    too, but leaves prepared crops alone. crop: left, top, width and height in pixels of the upright photo. mask: a
    picture of the upright photo's size, white where the object is.
    """

    align: bool = True
    face: int | None = None
    crop: tuple[float, float, float, float] | None = None
    mask: Path | None = None

    def check(self) -> CropOptions:
        """The same. Raises UsageError for what cannot be meant, and for wishes that exclude each other."""
        if self.face is not None and self.face < 1:
            raise UsageError(f"There is no --face {self.face}.", "1 is the largest.")
        if self.crop is not None and not _is_box(self.crop):
            numbers = ",".join(f"{number:g}" for number in self.crop)
            raise UsageError(f"--crop {numbers} is no box.", "Give left, top, width and height in pixels.")
        given = [("--no-align", not self.align), ("--face", self.face is not None), ("--crop", self.crop is not None)]
        named = [name for name, there in given if there]
        if len(named) > 1:
            raise UsageError(f"{' and '.join(named)} exclude each other.", "Leave all but one out.")
        return self


@dataclass(frozen=True)
class Placed:
    """A placement and how it came about.

    faces: those that were seen, the largest first. face: the one chosen, from 1. doubtful: a prepared crop in which a
    face may lie elsewhere.
    """

    placement: Placement
    how: How
    faces: tuple[Face, ...] = ()
    face: int | None = None
    doubtful: bool = False


def place(path: Path, picture: Image.Image, template: FaceTemplate | None, crop_options: CropOptions) -> Placed:
    """Where the crop lies in an upright photo; path is for messages.

    Raises ImageError if there is no face, UsageError for wishes that this photo or category cannot fulfil.
    """
    if crop_options.crop:
        return Placed(_boxed(path, picture, crop_options.crop), "crop")
    if template is None and crop_options.face is not None:
        raise UsageError("--face is for categories of faces.", "Name the place with --crop x,y,w,h.")
    if template is None or not crop_options.align:
        return Placed(_middle(picture), "middle")
    faces = tuple(find_faces(picture))
    if picture.width == picture.height <= PREPARED_PX and crop_options.face is None:
        elsewhere = bool(faces) and not _agrees(template.align(faces[0].points), _middle(picture))
        if not elsewhere or faces[0].sure < CLEARLY:
            return Placed(_middle(picture), "as it is", faces, doubtful=elsewhere)
    if not faces:
        raise ImageError(
            f"{path} shows no face that g2s can find.",
            "Say where the object is with --crop x,y,w,h, or take the middle square with --no-align.",
        )
    face = crop_options.face or 1
    if face > len(faces):
        raise UsageError(f"{path} shows {_counted(len(faces))}; there is no --face {face}.", "1 is the largest.")
    return Placed(template.align(faces[face - 1].points), "aligned", faces, face)


def _is_box(crop: tuple[float, ...]) -> bool:
    return len(crop) == 4 and all(map(math.isfinite, crop)) and min(crop[2:]) > 0


def _counted(faces: int) -> str:
    return "one face" if faces == 1 else f"{faces} faces"


def _middle(picture: Image.Image) -> Placement:
    """The middle square; of an odd rest the larger half is on the right, or below."""
    side = min(picture.size)
    return Placement.from_box((picture.width - side) // 2, (picture.height - side) // 2, side)


def _boxed(path: Path, picture: Image.Image, crop: tuple[float, float, float, float]) -> Placement:
    """The square about the middle of a box that holds all of it."""
    left, top, width, height = crop
    side = max(width, height)
    place = Placement.from_box(left + (width - side) / 2, top + (height - side) / 2, side)
    if not (0 <= left + width / 2 <= picture.width and 0 <= top + height / 2 <= picture.height):
        raise UsageError(
            f"--crop {left:g},{top:g},{width:g},{height:g} lies outside {path}, {measures(picture)} pixels upright.",
            "Give left, top, width and height in pixels.",
        )
    if side > MOST_BEYOND * max(picture.size):
        raise UsageError(
            f"--crop {left:g},{top:g},{width:g},{height:g} is far larger than {path}, {measures(picture)} pixels.",
            f"Give a width and a height of {MOST_BEYOND * max(picture.size)} at most.",
        )
    return place


def _agrees(found: Placement, prepared: Placement) -> bool:
    """Whether a face lies about where prepared crops have theirs."""
    away = max(abs(found.x - prepared.x), abs(found.y - prepared.y)) / prepared.side
    scale = abs(math.log(found.side / prepared.side))
    return away < OFF_CENTRE and scale < math.log(OFF_SCALE) and abs(math.degrees(found.turn_rad)) < OFF_TURN_DEG
