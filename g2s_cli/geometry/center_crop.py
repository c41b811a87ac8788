"""What of the GAN's picture the relief covers (the authors crop cats and BFM faces to the middle 170 of 256 px)."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from g2s_cli.geometry.resample import center_slice


@dataclass(frozen=True)
class CenterCrop:
    """The middle `share` of each side of a square picture, at `size` pixels."""

    share: float
    size: int

    def __call__(self, pictures: Float[Tensor, "b c s s"]) -> Float[Tensor, "b c t t"]:
        """Crop pictures or masks, and average areas; where there are too few pixels, interpolate."""
        kept = center_slice(pictures.shape[-1], self.share)
        cropped = pictures[..., kept, kept]
        side = cropped.shape[-1]
        if side == self.size:
            return cropped
        if side < self.size:
            return interpolate(cropped, size=(self.size, self.size), mode="bilinear", align_corners=False)
        return interpolate(cropped, size=(self.size, self.size), mode="area")
