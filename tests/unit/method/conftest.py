"""The embedded GAN, two of its faces, and small untrained factor networks to teach."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from g2s_cli.method.losses import DiscriminatorDistance
from g2s_cli.method.model import FactorNets
from g2s_cli.method.parsing import Parser, parser_of
from g2s_cli.nets.discriminator import Discriminator
from g2s_cli.nets.factors import CodeNet, MapNet
from g2s_cli.nets.stylegan2 import Generator
from g2s_cli.scene.camera import Camera
from g2s_cli.zoo.store import models_root
from g2s_cli.zoo.tensors import load_tensors, part_of

SIZE = 16


@pytest.fixture(scope="session")
def weights() -> dict[str, Tensor]:
    return load_tensors(models_root() / "synface" / "gan.safetensors")


@pytest.fixture(scope="session")
def generator(weights: dict[str, Tensor]) -> Generator:
    return Generator(part_of(weights, "g_ema"), weights["latent_avg"])


@pytest.fixture(scope="session")
def distance(weights: dict[str, Tensor]) -> DiscriminatorDistance:
    return DiscriminatorDistance(Discriminator(part_of(weights, "d")))


@pytest.fixture(scope="session")
def latents(generator: Generator) -> Tensor:
    z = torch.randn(2, generator.latent_size, generator=torch.Generator().manual_seed(5))
    return generator.mapping(z)


@pytest.fixture(scope="session")
def parser(generator: Generator) -> Parser:
    return parser_of(generator)


@pytest.fixture
def nets() -> FactorNets:
    """Untrained networks of 16 px; the depth net is made louder, so that what it says is no plane."""
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
        base=None,
        mean_view=torch.tensor([0.05, -0.1, 0, 0, 0, 0]),
        mean_light=torch.zeros(4),
    )
