"""A network that reads latents off pictures, so that a GAN learns to show real ones too, and not to fool alone.

The discriminator says that a picture is not real; a copy of a real picture says where it differs. At 128 px
the first alone went in circles within what a CPU can do (docs/experiments/gan-128px.md).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from recipes.synface.states import LATENT

WIDTH, WIDEST = 32, 512  # channels after the first halving, and at most
GROUPS = 8


class Reader(nn.Module):
    """Pictures (b 3 s s) in [-1, 1] to latents in W (b d); s is a power of two, 8 or more."""

    def __init__(self, size: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before, after = 3, WIDTH
        while size > 4:
            layers += [nn.Conv2d(before, after, 4, 2, 1), nn.GroupNorm(GROUPS, after), nn.LeakyReLU(0.2)]
            before, after, size = after, min(WIDEST, 2 * after), size // 2
        self.body = nn.Sequential(*layers, nn.Conv2d(before, WIDEST, 4), nn.LeakyReLU(0.2), nn.Flatten())
        self.last = nn.Linear(WIDEST, LATENT)

    def forward(self, image: Float[Tensor, "b 3 s s"], dtype: torch.dtype = torch.float32) -> Float[Tensor, "b d"]:
        """Latents whose pictures should be these; dtype: arithmetic of the convolutions."""
        image = image.contiguous(memory_format=torch.channels_last)
        with torch.autocast(image.device.type, dtype, enabled=dtype != torch.float32):
            seen = self.body(image)
        return self.last(seen.float())


def misread(read: Float[Tensor, "b d"], truth: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    """Mean squared error of latents, in shares of their variance."""
    return (read - truth).square().mean() / truth.var()


def unlike(copies: Float[Tensor, "b 3 s s"], pictures: Float[Tensor, "b 3 s s"]) -> Float[Tensor, ""]:
    """Mean absolute difference of pixels, and of the differences to their neighbours, which a blurred copy lacks."""
    apart = copies - pictures
    return apart.abs().mean() + apart.diff(dim=-1).abs().mean() + apart.diff(dim=-2).abs().mean()
