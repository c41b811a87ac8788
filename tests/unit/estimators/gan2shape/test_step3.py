"""Step 3: one shape that reconstructs the photo and its projected samples."""

from __future__ import annotations

import pytest
import torch

from g2s_cli.estimators.base import MaskedImages, Observation
from g2s_cli.estimators.feedforward import FactorNets
from g2s_cli.estimators.gan2shape.step2 import GanPrior
from g2s_cli.estimators.gan2shape.step3 import shape_loss


@pytest.fixture
def samples(observation: Observation) -> MaskedImages:
    return observation.batch.pick(torch.zeros(2, dtype=torch.long))


@torch.no_grad()
def test_both_the_mirrored_shape_and_the_samples_count(
    nets: FactorNets, observation: Observation, gan: GanPrior, samples: MaskedImages
) -> None:
    def loss(samples: MaskedImages, *, symmetric: bool = False) -> float:
        return shape_loss(nets, observation, samples, gan.perceptual, symmetric=symmetric).item()

    assert loss(samples) != pytest.approx(loss(samples, symmetric=True), abs=1e-5)
    assert loss(MaskedImages(-samples.image, samples.mask)) != pytest.approx(loss(samples), abs=1e-3)
