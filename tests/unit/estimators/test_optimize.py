"""The loops of the fits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from recording import ProgressLog
from torch import Tensor, nn

from g2s_cli.estimators.optimize import Fit, anneal, minimise


def fitted(parts: int, fit: Fit) -> tuple[Tensor, ProgressLog]:
    """A parameter after a fit to 3, with the loss in some equal parts, and what the listener heard."""
    weight, progress = nn.Parameter(torch.tensor(1.0)), ProgressLog()

    def loss() -> Iterator[Tensor]:
        for _ in range(parts):
            yield (weight - 3).square() / parts

    minimise(loss, [weight], fit, "fit", progress)
    return weight.detach(), progress


def test_the_parts_of_a_loss_add_up() -> None:
    fit = Fit(5, rate=0.1, decay=0.0)
    (whole, progress), (in_parts, other) = fitted(1, fit), fitted(4, fit)
    assert progress.losses == other.losses
    assert torch.equal(whole, in_parts)


def test_progress_has_every_iteration_and_its_loss() -> None:
    weight, progress = fitted(2, Fit(3, rate=0.1, decay=0.0))
    assert progress.steps == ["fit 3"]
    losses = progress.losses
    assert len(losses) == 3
    assert losses[0] == pytest.approx(4.0)
    assert losses[2] < losses[1] < losses[0]
    assert weight.item() == pytest.approx(1.3, abs=0.01)  # Adam's first steps are as long as its rate


def test_weight_decay_pulls_towards_zero() -> None:
    free, decayed = (fitted(1, Fit(200, rate=0.05, decay=decay))[0] for decay in (0.0, 2.0))
    assert free.item() == pytest.approx(3.0, abs=0.05)
    assert decayed.item() == pytest.approx(1.5, abs=0.05)


def test_without_iterations_nothing_changes() -> None:
    weight, progress = fitted(1, Fit(0))
    assert weight == 1
    assert (progress.steps, progress.losses) == (["fit 0"], [])


def test_annealing_lowers_the_learning_rate_each_iteration() -> None:
    """Adam's steps on a linear loss are as long as its rate."""
    weight, iterations = nn.Parameter(torch.tensor(0.0)), []
    anneal(lambda iteration: iterations.append(iteration) or -weight, {weight: 1.0}, 3, 0.5)
    assert iterations == [0, 1, 2]
    assert weight.item() == pytest.approx(1 + 0.5 + 0.25, abs=1e-4)
