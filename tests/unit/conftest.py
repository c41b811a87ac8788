"""The embedded GAN and two of its faces, small untrained networks, and the textbook StyleGAN2 of benchmarks/."""

from __future__ import annotations

from types import ModuleType

import fake_checkpoints
import pytest
import torch
from torch import Tensor

from g2s_cli.estimators.feedforward import FactorNets
from g2s_cli.estimators.networks import CodeNet, MapNet
from g2s_cli.gan.discriminator import Discriminator
from g2s_cli.gan.losses import DiscriminatorDistance
from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.geometry.camera import Camera
from g2s_cli.segmentation.gan_features import Segmenter, fit_segmenter
from g2s_cli.weights.cache import models_root
from g2s_cli.weights.tensors import load_tensors, submodule_state

SIZE = 16
WIDTHS = [7, 5, 3]  # at 4, 8 and 16 pixels
LATENT = 6
DEPTH = 3


@pytest.fixture(scope="session")
def weights() -> dict[str, Tensor]:
    return load_tensors(models_root() / "synface" / "gan.safetensors")


@pytest.fixture(scope="session")
def generator(weights: dict[str, Tensor]) -> Generator:
    return Generator(submodule_state(weights, "g_ema"), weights["latent_avg"])


@pytest.fixture(scope="session")
def distance(weights: dict[str, Tensor]) -> DiscriminatorDistance:
    return DiscriminatorDistance(Discriminator(submodule_state(weights, "d")))


@pytest.fixture(scope="session")
def latents(generator: Generator) -> Tensor:
    z = torch.randn(2, generator.latent_size, generator=torch.Generator().manual_seed(5))
    return generator.mapping(z)


@pytest.fixture(scope="session")
def segmenter(generator: Generator) -> Segmenter:
    return fit_segmenter(generator)


@pytest.fixture
def nets() -> FactorNets:
    """Untrained networks of 16 px; the depth net is scaled up, so that its output is not flat."""
    torch.manual_seed(0)
    depth = MapNet(SIZE, 1, 8, bounded=False)
    with torch.no_grad():
        depth.network[-1].weight.mul_(3)
    return FactorNets(
        depth=depth,
        albedo=MapNet(SIZE, 3, 8, bounded=True),
        view=CodeNet(SIZE, 6, 8),
        light=CodeNet(SIZE, 4, 8),
        camera=Camera(SIZE),
        mean_depth=None,
        mean_view=torch.tensor([0.05, -0.1, 0, 0, 0, 0]),
        mean_light=torch.zeros(4),
    )


@pytest.fixture(scope="session")
def textbook() -> ModuleType:
    return fake_checkpoints.textbook()


@pytest.fixture(scope="session")
def generator_state(textbook: ModuleType) -> dict[str, Tensor]:
    state = fake_checkpoints.drawn(textbook.Generator(WIDTHS, LATENT, DEPTH), 3)
    return {name: 100 * value if name.startswith("style.") else value for name, value in state.items()}


@pytest.fixture(scope="session")
def discriminator_state(textbook: ModuleType) -> dict[str, Tensor]:
    return fake_checkpoints.drawn(textbook.Discriminator(WIDTHS), 3)
