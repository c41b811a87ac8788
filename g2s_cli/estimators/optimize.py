"""The loops of the fits: the authors' Adam, and Adam with falling learning rates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from g2s_cli.adam import Adam
from g2s_cli.progress import Progress


@dataclass(frozen=True)
class Fit:
    """Iterations, learning rate and weight decay of a fit; the defaults are the authors'."""

    iterations: int
    rate: float = 1e-4
    decay: float = 5e-4


def new_adam(parameters: Iterable[nn.Parameter], fit: Fit) -> torch.optim.Adam:
    """The optimiser of a step; the authors renew theirs at every step."""
    return torch.optim.Adam(list(parameters), lr=fit.rate, betas=(0.9, 0.999), weight_decay=fit.decay, fused=True)


def minimise(
    loss: Callable[[], Iterable[Tensor]], parameters: Iterable[nn.Parameter], fit: Fit, name: str, progress: Progress
) -> None:
    """Change parameters by some iterations of a new Adam.

    Args:
        loss: parts that add up; each is back-propagated before the next is made, so that memory holds one.
        name: of the step, for the progress.
    """
    optimizer = new_adam(parameters, fit)
    progress.begin(name, fit.iterations)
    for done in range(fit.iterations):
        optimizer.zero_grad()
        total = 0.0
        for part in loss():
            part.backward()
            total += part.item()
        optimizer.step()
        progress.advance(done + 1, total)


def anneal(loss: Callable[[int], Tensor], rates: Mapping[Tensor, float], iterations: int, decay: float) -> None:
    """Change tensors by Adam, whose learning rates fall by the factor `decay` each iteration.

    Args:
        loss: of an iteration, from 0.
        rates: initial learning rates of tensors.
    """
    adam = Adam(rates, betas=(0.8, 0.98))
    for iteration in range(iterations):
        adam.step(loss(iteration), decay**iteration)
