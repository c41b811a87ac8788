"""The paper's three steps (3.1, Fig. 3), each a function of values; only the networks it is given change."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from g2s_cli.method.losses import DiscriminatorDistance, Perceptual, l1
from g2s_cli.method.model import Canonical, FactorNets, Seen, see
from g2s_cli.method.progress import Watch
from g2s_cli.method.sampling import LightPrior, ViewPrior
from g2s_cli.nets.offset import OffsetEncoder
from g2s_cli.nets.stylegan2 import Generator
from g2s_cli.scene.camera import Camera
from g2s_cli.scene.surface import roughness
from g2s_cli.scene.warp import sample, forward_grid, warp

PERCEPTUAL_WEIGHT = 0.5
SMOOTHNESS_WEIGHT = 0.01  # the paper's λ₂
OFFSET_WEIGHT = 0.01  # the paper's λ₁
WEIGHT_DECAY = 5e-4


@dataclass(frozen=True)
class Target:
    """The photo at the working size, and what is known of it: its object's mask (all ones: no masking) and w."""

    image: Float[Tensor, "3 h w"]
    mask: Float[Tensor, "h w"]
    latent: Float[Tensor, "d"]


@dataclass(frozen=True)
class Samples:
    """Projected samples: images the GAN made of the same object, seen and lit differently, with their masks."""

    image: Float[Tensor, "n 3 h w"]
    mask: Float[Tensor, "n 1 h w"]

    def pick(self, index: Tensor) -> Samples:
        """Some of them."""
        return Samples(self.image[index], self.mask[index])
