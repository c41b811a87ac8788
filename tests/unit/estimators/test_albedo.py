"""The albedo fit of presets without GAN2Shape."""

from __future__ import annotations

import torch
from recording import ProgressLog, Snapshot

from g2s_cli.estimators.albedo import fit_albedo
from g2s_cli.estimators.base import Observation
from g2s_cli.estimators.feedforward import FactorNets
from g2s_cli.estimators.optimize import Fit
from g2s_cli.gan.losses import DiscriminatorDistance

FIT = Fit(8, rate=2e-3, decay=0.0)


def test_fit_albedo_changes_only_a_copy_of_a(
    nets: FactorNets,
    snapshot: Snapshot,
    observation: Observation,
    distance: DiscriminatorDistance,
    progress: ProgressLog,
) -> None:
    before = nets.factors_of(observation.image)
    after = fit_albedo(nets, before, observation, distance, FIT, progress)
    assert snapshot.changed() == set()
    assert progress.steps == ["albedo 8"]
    assert progress.losses[-1] < 0.9 * progress.losses[0]
    assert (after.albedo - before.albedo).abs().max() > 0.01
    for name in ("depth", "view", "light"):
        assert torch.equal(getattr(after, name), getattr(before, name))
    again = fit_albedo(nets, before, observation, distance, FIT, progress)
    assert torch.equal(again.albedo, after.albedo)
