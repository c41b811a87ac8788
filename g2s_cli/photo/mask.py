"""The object mask that comes with a photo: the user's file, or the photo's own transparency."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from g2s_cli.errors import ImageError
from g2s_cli.geometry.placement import Placement
from g2s_cli.photo.crop import Matte, aligned_size, crop_matte, crop_photo, resize_square
from g2s_cli.photo.decode import Picture, read_image, size_text

MATTE_SPAN = 4.0  # of the matte around the crop, in sides of the crop
MIN_MASK_SHARE = 0.01  # of the crop, inside the mask; outside it, less is worth a warning
BLACK, WHITE = 26, 230  # grey levels of a mask below and from which it is unambiguous
MASK_COLOURS = "White is the object, black is the rest."


@dataclass(frozen=True)
class PhotoMask:
    """A photo's object mask.

    Attributes:
        mask: of the crop, in [0, 1], at the GAN's size.
        matte: around the crop, at the photo's resolution.
        source: what made it, for report.json.
    """

    mask: Float[Tensor, "s s"]
    matte: Matte
    source: str

    @classmethod
    def crop(cls, picture: Picture, opacity: Image.Image, placement: Placement, size: int, source: str) -> PhotoMask:
        """The mask of a crop. opacity: of the whole photo, white is the object, at any resolution."""
        place = placement.scale(opacity.width / picture.size[0])
        crop = resize_square(crop_photo(opacity, place, aligned_size(place, size), padding="black"), size)
        mask = torch.from_numpy(np.array(crop)).float() / 255
        return cls(mask, crop_matte(opacity, place, MATTE_SPAN), source)


def read_mask(
    path: Path, photo: Path, picture: Picture, placement: Placement, size: int, warnings: list[str]
) -> PhotoMask:
    """The user's mask: the opacity of a file with transparency, else its brightness. Raises ImageError."""
    file = read_image(path, [], background="black")
    if file.size != picture.size:
        raise ImageError(
            f"{path} is {size_text(file)} pixels, {photo} is {size_text(picture)} upright.",
            "Give a mask of the photo's size, white where the object is.",
        )
    opacity = file.alpha or file.colours.convert("L")
    levels = np.array(opacity.histogram())
    black, grey, white = levels[:BLACK].sum(), levels[BLACK:WHITE].sum(), levels[WHITE:].sum()
    share = f"{100 * grey / levels.sum():.0f} % of its pixels are neither black nor white"
    if 2 * grey > levels.sum():
        raise ImageError(f"{path} is no mask: {share}.", MASK_COLOURS)
    if grey > min(black, white) and min(black, white) < levels.sum() / 4 and not file.alpha:
        warnings.append(f"{path.name} may be no mask: {share}. {MASK_COLOURS}")
    result = PhotoMask.crop(picture, opacity, placement, size, "the user")
    if result.mask.mean() < MIN_MASK_SHARE:
        raise ImageError(f"{path} leaves nothing of the crop.", MASK_COLOURS)
    if result.mask.mean() > 1 - MIN_MASK_SHARE:
        warnings.append(f"{path.name} covers the whole crop. {MASK_COLOURS}")
    return result


def own_mask(picture: Picture, placement: Placement, size: int) -> PhotoMask | None:
    """The mask of a photo that is transparent around its object; None for one that is not."""
    if not picture.alpha:
        return None
    result = PhotoMask.crop(picture, picture.alpha, placement, size, "transparency of the photo")
    return result if MIN_MASK_SHARE <= result.mask.mean() <= 1 - MIN_MASK_SHARE else None
