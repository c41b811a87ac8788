"""Photos with known depth, in the layout of the BFM benchmark: image/NAME_image.png beside depth/NAME_depth.png."""

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
from g2s_cli.geometry.resample import center_slice
from g2s_cli.photo.decode import list_images

NEAR, FAR = 0.9, 1.1  # depth of the brightest and the darkest value of a depth image, scene units
MIN_MASK_SHARE = 0.99  # of the averaged pixels that must be object


@dataclass(frozen=True)
class DepthPair:
    """Paths of a photo and of its depth image."""

    photo: Path
    depth: Path


@dataclass(frozen=True)
class GroundTruth:
    """True depth in scene units, and the object mask."""

    depth: Float[Tensor, "h w"]
    mask: Bool[Tensor, "h w"]


def find_pairs(folder: Path) -> list[DepthPair]:
    """The pairs of a folder, sorted by name. Other files in image/ are ignored.

    Raises:
        UsageError: There are none, or a photo has no depth image.
    """
    try:
        photos = sorted(list_images(folder / "image")[0])
    except (FileNotFoundError, NotADirectoryError):
        photos = []
    except OSError as error:
        raise UsageError(f"{folder / 'image'} cannot be read: {error.strerror}.", "Allow it.") from error
    if not photos:
        remedy = "Name a folder with image/NAME_image.png and depth/NAME_depth.png."
        raise UsageError(f"{folder} has no photos.", remedy)
    pairs = [DepthPair(path, folder / "depth" / f"{path.stem.removesuffix('_image')}_depth.png") for path in photos]
    for pair in pairs:
        if not pair.depth.is_file():
            raise UsageError(f"{pair.photo} has no depth: {pair.depth} is missing.", "Add it, or move the photo away.")
    return pairs


def read_ground_truth(path: Path, share: float, size: int) -> GroundTruth:
    """Read a depth image: a PNG of 8 or 16 bits with values (1.1 - depth) / 0.2 of their range, 0 outside the object.

    Args:
        path: The file.
        share: Side of its centre crop, as a share of its own side.
        size: Pixels a side to which the crop is averaged.

    Raises:
        ImageError: It is not a square depth image of `size` pixels or more.
    """
    try:
        with Image.open(path, formats=("PNG",)) as image:
            image.load()
            bits = 16 if image.mode.startswith("I") else 8
            values = np.asarray(image if bits == 16 else image.convert("L"), dtype=np.float32)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(f"{path} is not a depth image.", "It must be a PNG of 8 or 16 bits.") from error
    height, width = values.shape
    if height != width or round(share * height) < size:
        raise ImageError(f"{path} is {width}x{height} pixels.", f"Use square images of {size} or more.")
    crop = center_slice(height, share)
    code = torch.from_numpy(values)[crop, crop][None] / (2**bits - 1)
    depth = adaptive_avg_pool2d(FAR - code * (FAR - NEAR), size)[0]
    return GroundTruth(depth, adaptive_avg_pool2d((code > 0).float(), size)[0] > MIN_MASK_SHARE)
