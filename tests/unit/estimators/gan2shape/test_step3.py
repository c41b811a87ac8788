"""Step 3: one shape that reconstructs the photo and its projected samples."""

from __future__ import annotations

import pytest
import torch
from recording import ProgressLog, Snapshot, weights_of

from g2s_cli.estimators.base import MaskedImages, Observation
from g2s_cli.estimators.feedforward import FactorNets
from g2s_cli.estimators.gan2shape.step2 import GanPrior
from g2s_cli.estimators.gan2shape.step3 import shape_loss, train_shape
from g2s_cli.estimators.optimize import Fit


@pytest.fixture
def samples(observation: Observation) -> MaskedImages:
    return observation.batch.pick(torch.zeros(2, dtype=torch.long))


@pytest.mark.parametrize("symmetric", [False, True])
def test_step_3_changes_the_four_networks_alone(
    nets: FactorNets,
    snapshot: Snapshot,
    observation: Observation,
    gan: GanPrior,
    samples: MaskedImages,
    progress: ProgressLog,
    symmetric: bool,
) -> None:
    frozen = (gan.generator, gan.distance.discriminator)
    before = [weights_of(net) for net in frozen]
    fit = Fit(5, rate=1e-3, decay=0.0)
    train_shape(nets, observation, lambda: samples, gan.perceptual, fit, progress, symmetric=symmetric)
    assert snapshot.changed() == {"depth", "albedo", "view", "light"}
    assert all(torch.equal(old, weights_of(net)) for old, net in zip(before, frozen, strict=True))
    assert progress.steps == ["step 3: shape 5"]
    assert progress.losses[-1] < progress.losses[0]


@torch.no_grad()
def test_both_the_mirrored_shape_and_the_samples_count(
    nets: FactorNets, observation: Observation, gan: GanPrior, samples: MaskedImages
) -> None:
    def loss(samples: MaskedImages, *, symmetric: bool = False) -> float:
        return shape_loss(nets, observation, samples, gan.perceptual, symmetric=symmetric).item()

    assert loss(samples) != pytest.approx(loss(samples, symmetric=True), abs=1e-5)
    assert loss(MaskedImages(-samples.image, samples.mask)) != pytest.approx(loss(samples), abs=1e-3)
