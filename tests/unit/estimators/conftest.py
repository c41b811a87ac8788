"""An observation of one of the embedded GAN's faces at 16 px, what GAN2Shape takes from the GAN, and a progress log."""

from __future__ import annotations

import pytest
import torch
from recording import ProgressLog, Snapshot
from torch import Tensor

from g2s_cli.config import LightRanges
from g2s_cli.estimators.base import Observation
from g2s_cli.estimators.feedforward import FactorNets
from g2s_cli.estimators.gan2shape.offset_encoder import OffsetEncoder
from g2s_cli.estimators.gan2shape.sampling import ViewPrior
from g2s_cli.estimators.gan2shape.step2 import GanPrior
from g2s_cli.gan.losses import DiscriminatorDistance
from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.geometry.center_crop import CenterCrop

SIZE = 16


@pytest.fixture
def progress() -> ProgressLog:
    return ProgressLog()


@pytest.fixture
def snapshot(nets: FactorNets) -> Snapshot:
    return Snapshot(nets)


@pytest.fixture(scope="session")
def observation(generator: Generator, latents: Tensor) -> Observation:
    crop, mask = CenterCrop(1.0, SIZE), torch.ones(SIZE, SIZE)
    mask[:, :2] = mask[:, -2:] = 0
    return Observation(crop(generator(latents[:1]).clamp(-1, 1))[0] * mask, mask, latents[0], crop)


@pytest.fixture(scope="session")
def gan(generator: Generator, distance: DiscriminatorDistance) -> GanPrior:
    views = ViewPrior(torch.zeros(6), torch.diag(torch.tensor([0.01, 0.04, 0.001, 0.0, 0.0, 0.0])))
    lights = LightRanges(x=(-0.9, 0.9), y=(-0.3, 0.8), diffuse=(-0.1, 0.7), alpha=-0.4)
    return GanPrior(generator, distance, distance, views, lights)


@pytest.fixture
def encoder(generator: Generator) -> OffsetEncoder:
    """An untrained E, scaled up so that its offsets are not close to 0."""
    torch.manual_seed(0)
    encoder = OffsetEncoder(SIZE, generator.latent_size, width=8)
    with torch.no_grad():
        encoder.network[-1].weight.mul_(30)
    return encoder
