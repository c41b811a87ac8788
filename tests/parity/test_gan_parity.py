"""The embedded GAN computes what the original implementation does with the same file (float32, CPU)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from g2s_cli.gan.discriminator import Discriminator
from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.weights.store import models_root
from g2s_cli.weights.tensors import load_tensors, part_of

DATA = Path(__file__).parents[1] / "data" / "gan_outputs.npz"


@pytest.fixture(scope="module")
def expected() -> dict[str, Tensor]:
    """w and G(w), D's logits of those images as one batch, and of two images every fourth feature map."""
    with np.load(DATA) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays}


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return load_tensors(models_root() / "synface" / "gan.safetensors")


@pytest.fixture
def generator(weights: dict[str, Tensor]) -> Generator:
    return Generator(part_of(weights, "g_ema"))


@pytest.fixture(scope="module")
def discriminator(weights: dict[str, Tensor]) -> Discriminator:
    return Discriminator(part_of(weights, "d"))


def test_latents(generator: Generator, expected: dict[str, Tensor]) -> None:
    z = torch.sin(0.61 * torch.arange(4 * 512, dtype=torch.float64) + 0.2).float().view(4, 512)
    torch.testing.assert_close(generator.mapping(z), expected["w"], rtol=0, atol=2e-5)


def test_images(generator: Generator, expected: dict[str, Tensor]) -> None:
    torch.testing.assert_close(generator(expected["w"]), expected["image"], rtol=0, atol=2e-5)


def test_bfloat16_images(generator: Generator, expected: dict[str, Tensor]) -> None:
    image = generator.with_dtype(torch.bfloat16)(expected["w"])
    assert (image - expected["image"]).abs().mean() < 0.005


def test_logits(discriminator: Discriminator, expected: dict[str, Tensor]) -> None:
    torch.testing.assert_close(discriminator(expected["image"]), expected["logit"], rtol=0, atol=2e-5)


def test_features(discriminator: Discriminator, expected: dict[str, Tensor]) -> None:
    for block, maps in enumerate(discriminator.features(expected["image"][:2])):
        torch.testing.assert_close(maps[:, ::4], expected[f"feature{block}"], rtol=0, atol=5e-5)
