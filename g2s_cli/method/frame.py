"""What of the GAN's picture the relief covers (the authors crop cats and BFM faces to the middle 170 of 256 px)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate


@dataclass(frozen=True)
class Frame:
    """The middle `share` of each side of a square picture, at `size` pixels."""

    share: float
    size: int

    def __call__(self, pictures: Float[Tensor, "b c s s"]) -> Float[Tensor, "b c t t"]:
        """Crop pictures or masks, and average areas; where there are too few pixels, interpolate."""
        kept = self._kept(pictures.shape[-1])
        middle = pictures[..., kept, kept]
        side = middle.shape[-1]
        if side == self.size:
            return middle
        if side < self.size:
            return interpolate(middle, size=(self.size, self.size), mode="bilinear", align_corners=False)
        return interpolate(middle, size=(self.size, self.size), mode="area")

    def crop(self, picture: UInt8[np.ndarray, "n n 3"]) -> UInt8[np.ndarray, "m m 3"]:
        """The same part of a picture of any size, at its own pixels."""
        kept = self._kept(len(picture))
        return np.ascontiguousarray(picture[kept, kept])

    def _kept(self, whole: int) -> slice:
        """Which of a side's pixels are kept."""
        side = round(self.share * whole)
        start = (whole - side) // 2
        return slice(start, start + side)
