"""Random latents in W: how they are drawn, what their cloud looks like, and how near its middle they are taken."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from g2s_cli.gan.stylegan2 import Generator

MEAN_DRAWS = 4096  # latents whose mean stands for that of all


@dataclass(frozen=True)
class LatentStatistics:
    """What the mapping network's output looks like: its mean, and how far latents lie from it."""

    mean: Float[Tensor, d]
    spread: Float[Tensor, ""]

    @classmethod
    def of(cls, latents: Float[Tensor, "n d"]) -> LatentStatistics:
        """Mean, and root mean square distance from it, of some latents."""
        mean = latents.mean(dim=0)
        return cls(mean, (latents - mean).square().sum(dim=1).mean().sqrt())


@torch.no_grad()
def random_latents(generator: Generator, count: int, rng: torch.Generator) -> Float[Tensor, "n d"]:
    """Latents of the mapping network for `count` draws from N(0, I)."""
    device = next(iter(generator.buffers())).device
    z = torch.randn(count, generator.latent_size, generator=rng, device=rng.device).to(device)
    return generator.mapping(z)


def truncated_latents(generator: Generator, count: int, truncation: float, seed: int) -> Float[Tensor, "n d"]:
    """The first `count` random latents of a seed, drawn towards the mean: w̄ + ψ (w - w̄) (Karras et al. 2019, app. B).

    truncation: ψ, 1 leaves them where they are, 0 makes all of them the mean. How many are asked for changes none.
    """
    # One at a time: torch draws the tail of a large tensor otherwise, and BLAS rounds many rows otherwise than one.
    rng = torch.Generator().manual_seed(seed)
    latents = torch.cat([random_latents(generator, 1, rng) for _ in range(count)])
    # Not the average that checkpoints keep: not all do, and the mean is the GAN's, whatever the seed.
    mean = LatentStatistics.of(random_latents(generator, MEAN_DRAWS, torch.Generator().manual_seed(0))).mean
    return mean.lerp(latents, truncation)
