"""Random latents, their statistics, and truncation."""

from __future__ import annotations

import pytest
import torch

from g2s_cli.gan.latents import MEAN_SAMPLES, LatentStatistics, random_latents, truncated_latents
from g2s_cli.gan.stylegan2 import Generator


@pytest.fixture(scope="module")
def mean(generator: Generator) -> torch.Tensor:
    return random_latents(generator, MEAN_SAMPLES, torch.Generator().manual_seed(0)).mean(dim=0)


def test_a_latent_does_not_depend_on_the_count(generator: Generator) -> None:
    many = truncated_latents(generator, 21, 0.7, seed=3)
    for count in (1, 2, 20):
        assert torch.equal(truncated_latents(generator, count, 0.7, seed=3), many[:count])
    assert not torch.equal(truncated_latents(generator, 1, 0.7, seed=4), many[:1])
    assert len(many.unique(dim=0)) == 21


def test_truncation_interpolates_towards_the_mean(generator: Generator, mean: torch.Tensor) -> None:
    whole = truncated_latents(generator, 4, 1.0, seed=0)
    torch.testing.assert_close(whole[:1], random_latents(generator, 1, torch.Generator().manual_seed(0)))
    for truncation in (0.0, 0.5):
        latents = truncated_latents(generator, 4, truncation, seed=0)
        torch.testing.assert_close(latents, mean + truncation * (whole - mean))


def test_the_mean_is_that_of_many_latents(generator: Generator, mean: torch.Tensor) -> None:
    statistics = LatentStatistics.of(random_latents(generator, 20_000, torch.Generator().manual_seed(1)))
    assert (mean - statistics.mean).norm() / statistics.rms_distance < 3 * MEAN_SAMPLES**-0.5


def test_statistics_of_latents() -> None:
    statistics = LatentStatistics.of(torch.tensor([[3.0, 0.0], [-1.0, 0.0], [1.0, 2.0], [1.0, -2.0]]))
    assert statistics.mean.tolist() == [1, 0]
    assert statistics.rms_distance == 2
