"""The central part of the GAN's image that the canonical frame covers (the authors crop cats to 170 of 256 px)."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from g2s_cli.geometry.resample import center_slice


@dataclass(frozen=True)
class CenterCrop:
    """The middle `share` of each side of a square image, resized to `size` pixels."""

    share: float
    size: int

    def __call__(self, images: Float[Tensor, "b c s s"]) -> Float[Tensor, "b c t t"]:
        """Crop images or masks; average areas going down, interpolate bilinearly going up."""
        window = center_slice(images.shape[-1], self.share)
        cropped = images[..., window, window]
        side = cropped.shape[-1]
        if side == self.size:
            return cropped
        if side < self.size:
            return interpolate(cropped, size=(self.size, self.size), mode="bilinear", align_corners=False)
        return interpolate(cropped, size=(self.size, self.size), mode="area")
