"""Random latents in W: sampling, statistics and truncation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from g2s_cli.gan.stylegan2 import Generator

MEAN_SAMPLES = 4096  # latents that estimate the mean


@dataclass(frozen=True)
class LatentStatistics:
    """Mean of latents, and their root mean square distance from it."""

    mean: Float[Tensor, d]
    rms_distance: Float[Tensor, ""]

    @classmethod
    def of(cls, latents: Float[Tensor, "n d"]) -> LatentStatistics:
        """The statistics of latents."""
        mean = latents.mean(dim=0)
        return cls(mean, (latents - mean).square().sum(dim=1).mean().sqrt())


@torch.no_grad()
def random_latents(generator: Generator, count: int, rng: torch.Generator) -> Float[Tensor, "n d"]:
    """Map `count` samples of N(0, I) to W."""
    device = next(iter(generator.buffers())).device
    z = torch.randn(count, generator.latent_size, generator=rng, device=rng.device).to(device)
    return generator.mapping(z)


def truncated_latents(generator: Generator, count: int, truncation: float, seed: int) -> Float[Tensor, "n d"]:
    """The first `count` random latents of a seed, truncated: w̄ + ψ (w - w̄) (Karras et al. 2019, app. B).

    Args:
        truncation: ψ; 1 leaves latents unchanged, 0 gives the mean.
    """
    # One at a time: torch.randn and BLAS treat large tensors differently, and a latent must not depend on the count.
    rng = torch.Generator().manual_seed(seed)
    latents = torch.cat([random_latents(generator, 1, rng) for _ in range(count)])
    # Not the average of the checkpoint, which not all have.
    mean = LatentStatistics.of(random_latents(generator, MEAN_SAMPLES, torch.Generator().manual_seed(0))).mean
    return mean.lerp(latents, truncation)
