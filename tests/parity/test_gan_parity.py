"""The embedded GAN computes what the original implementation does with the same file (float32, CPU)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from g2s_cli.gan.discriminator import Discriminator
from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.weights.cache import models_root
from g2s_cli.weights.tensors import load_tensors, submodule_state

DATA = Path(__file__).parents[1] / "data" / "gan_outputs.npz"


@pytest.fixture(scope="module")
def wanted() -> dict[str, Tensor]:
    """w and G(w), D's logits of those images as one batch, and of two images every fourth feature map."""
    with np.load(DATA) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays}


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return load_tensors(models_root() / "synface" / "gan.safetensors")


def test_latents(weights: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    z = torch.sin(0.61 * torch.arange(4 * 512, dtype=torch.float64) + 0.2).float().view(4, 512)
    torch.testing.assert_close(Generator(submodule_state(weights, "g_ema")).mapping(z), wanted["w"], rtol=0, atol=2e-5)


def test_images(weights: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    image = Generator(submodule_state(weights, "g_ema"))(wanted["w"])
    torch.testing.assert_close(image, wanted["image"], rtol=0, atol=2e-5)


def test_logits(weights: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    logit = Discriminator(submodule_state(weights, "d"))(wanted["image"])
    torch.testing.assert_close(logit, wanted["logit"], rtol=0, atol=2e-5)


def test_features(weights: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    features = Discriminator(submodule_state(weights, "d")).features(wanted["image"][:2])
    for block, maps in enumerate(features):
        torch.testing.assert_close(maps[:, ::4], wanted[f"feature{block}"], rtol=0, atol=5e-5)


def test_bfloat16_images(weights: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    image = Generator(submodule_state(weights, "g_ema")).with_dtype(torch.bfloat16)(wanted["w"])
    assert (image - wanted["image"]).abs().mean() < 0.005
