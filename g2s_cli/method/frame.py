"""What of the GAN's picture the relief covers (the authors crop cats and BFM faces to the middle 170 of 256 px)."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate


@dataclass(frozen=True)
class Frame:
    """The middle `share` of each side of a square picture, at `size` pixels."""

    share: float
    size: int

    def __call__(self, pictures: Float[Tensor, "b c s s"]) -> Float[Tensor, "b c t t"]:
        """Crop pictures or masks, and average areas; where there are too few pixels, interpolate."""
        whole = pictures.shape[-1]
        side = round(self.share * whole)
        start = (whole - side) // 2
        middle = pictures[..., start : start + side, start : start + side]
        if side == self.size:
            return middle
        if side < self.size:
            return interpolate(middle, size=(self.size, self.size), mode="bilinear", align_corners=False)
        return interpolate(middle, size=(self.size, self.size), mode="area")
