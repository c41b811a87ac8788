"""Data with known depth, in the layout of the BFM benchmark: image/NAME_image.png beside depth/NAME_depth.png."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from g2s_cli.errors import ImageError, UsageError
from g2s_cli.geometry.resample import middle
from g2s_cli.photo.decode import pictures_in

NEAR, FAR = 0.9, 1.1  # what the brightest and the darkest value of a depth image say
FULL_COVERAGE = 0.99  # a pixel is object when all that it averages is


@dataclass(frozen=True)
class DepthPair:
    """A photo and the image of its true depth."""

    photo: Path
    depth: Path


@dataclass(frozen=True)
class GroundTruth:
    """True depth in scene units, and where there is an object to have one."""

    depth: Float[Tensor, "h w"]
    mask: Bool[Tensor, "h w"]


def find_pairs(folder: Path) -> list[DepthPair]:
    """The pairs of a folder, by name. Raises UsageError if there are none, or if a photo has no depth.

    What else lies in image/, .DS_Store and the like, is passed over.
    """
    try:
        photos = sorted(pictures_in(folder / "image")[0])
    except (FileNotFoundError, NotADirectoryError):
        photos = []
    except OSError as error:
        raise UsageError(f"{folder / 'image'} cannot be read: {error.strerror}.", "Allow it.") from error
    if not photos:
        raise UsageError(
            f"{folder} has no photos.", "Name a folder with image/NAME_image.png and depth/NAME_depth.png."
        )
    pairs = [DepthPair(path, folder / "depth" / f"{path.stem.removesuffix('_image')}_depth.png") for path in photos]
    for pair in pairs:
        if not pair.depth.is_file():
            raise UsageError(f"{pair.photo} has no depth: {pair.depth} is missing.", "Add it, or move the photo away.")
    return pairs


def read_ground_truth(path: Path, share: float, size: int) -> GroundTruth:
    """A depth image of 8 or 16 bits, its middle `share` averaged to `size` pixels: (1.1 - depth) / 0.2, 0 = nothing.

    Raises ImageError if it is none.
    """
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            picture.load()
            bits = 16 if picture.mode.startswith("I") else 8
            value = np.asarray(picture if bits == 16 else picture.convert("L"), dtype=np.float32)
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageError(f"{path} is not a depth image.", "It must be a PNG of 8 or 16 bits.") from error
    if value.shape[0] != value.shape[1] or round(share * len(value)) < size:
        raise ImageError(
            f"{path} is {value.shape[1]}x{value.shape[0]} pixels.", f"Use square images of {size} or more."
        )
    kept = middle(len(value), share)
    code = torch.from_numpy(value)[kept, kept][None] / (2**bits - 1)
    depth = adaptive_avg_pool2d(FAR - code * (FAR - NEAR), size)[0]
    return GroundTruth(depth, adaptive_avg_pool2d((code > 0).float(), size)[0] > FULL_COVERAGE)
