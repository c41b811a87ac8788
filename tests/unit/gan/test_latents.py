"""Random latents: the same ones whoever asks, and how truncation moves them."""

from __future__ import annotations

import pytest
import torch

from g2s_cli.gan.latents import MEAN_DRAWS, LatentStatistics, random_latents, truncated_latents
from g2s_cli.gan.stylegan2 import Generator


def mean_of(generator: Generator) -> torch.Tensor:
    return random_latents(generator, MEAN_DRAWS, torch.Generator().manual_seed(0)).mean(dim=0)


def test_a_latent_does_not_depend_on_how_many_are_asked_for(generator: Generator) -> None:
    many = truncated_latents(generator, 21, 0.7, seed=3)
    for count in (1, 2, 20):
        assert torch.equal(truncated_latents(generator, count, 0.7, seed=3), many[:count])
    assert not torch.equal(truncated_latents(generator, 1, 0.7, seed=4), many[:1])
    assert len(many.unique(dim=0)) == 21


def test_truncation_draws_towards_the_mean(generator: Generator) -> None:
    mean, whole = mean_of(generator), truncated_latents(generator, 4, 1.0, seed=0)
    torch.testing.assert_close(whole[:1], random_latents(generator, 1, torch.Generator().manual_seed(0)))
    torch.testing.assert_close(truncated_latents(generator, 4, 0.0, seed=0), mean.expand(4, -1))
    half = truncated_latents(generator, 4, 0.5, seed=0)
    torch.testing.assert_close(half, mean + 0.5 * (whole - mean))


def test_the_mean_is_that_of_many(generator: Generator) -> None:
    cloud = LatentStatistics.of(random_latents(generator, 20_000, torch.Generator().manual_seed(1)))
    off = (mean_of(generator) - cloud.mean).norm() / cloud.spread
    assert off < 3 * MEAN_DRAWS**-0.5
    assert LatentStatistics.of(torch.tensor([[3.0], [1.0]])).mean == pytest.approx(2.0)
