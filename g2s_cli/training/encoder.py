"""An encoder of images into W, by which a GAN is also trained to reconstruct real images.

At 128 px the adversarial loss alone did not converge within what a CPU can do (docs/experiments/gan-128px.md). That
was measured when fused Adam read the discriminator's gradients in the wrong memory layout (`trainer.descend`).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from g2s_cli.training.gan_networks import LATENT

CHANNELS, MAX_CHANNELS = 32, 512  # after the first halving, and at most
GROUPS = 8


class Encoder(nn.Module):
    """Images (b 3 s s) in [-1, 1] to latents in W (b d); s is a power of two, 8 or more."""

    def __init__(self, size: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before, after = 3, CHANNELS
        while size > 4:
            layers += [nn.Conv2d(before, after, 4, 2, 1), nn.GroupNorm(GROUPS, after), nn.LeakyReLU(0.2)]
            before, after, size = after, min(MAX_CHANNELS, 2 * after), size // 2
        self.body = nn.Sequential(*layers, nn.Conv2d(before, MAX_CHANNELS, 4), nn.LeakyReLU(0.2), nn.Flatten())
        self.last = nn.Linear(MAX_CHANNELS, LATENT)

    def forward(self, image: Float[Tensor, "b 3 s s"], dtype: torch.dtype = torch.float32) -> Float[Tensor, "b d"]:
        """Latents; dtype: arithmetic of the convolutions."""
        image = image.contiguous(memory_format=torch.channels_last)
        with torch.autocast(image.device.type, dtype, enabled=dtype != torch.float32):
            features = self.body(image)
        return self.last(features.float())
