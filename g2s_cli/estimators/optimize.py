"""An optimiser for some iterations, as every step begins one, and going part of the way back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from g2s_cli.progress import Progress


@dataclass(frozen=True)
class Fit:
    """How long and how fast a step learns. decay: Adam's weight decay; the authors' is 5e-4."""

    iterations: int
    rate: float = 1e-4
    decay: float = 5e-4


def fresh_adam(parameters: Iterable[nn.Parameter], settings: Fit) -> torch.optim.Adam:
    """The optimiser of every step, new each time."""
    return torch.optim.Adam(
        list(parameters), lr=settings.rate, betas=(0.9, 0.999), weight_decay=settings.decay, fused=True
    )


def minimise(
    loss: Callable[[], Iterator[Tensor]],
    parameters: Iterable[nn.Parameter],
    settings: Fit,
    name: str,
    progress: Progress,
) -> None:
    """A fresh Adam for some iterations: the authors renew theirs at every step.

    loss: in parts that add up; each is propagated back before the next is made, so that memory holds one.
    """
    optimizer = fresh_adam(parameters, settings)
    progress.begin(name, settings.iterations)
    for done in range(settings.iterations):
        optimizer.zero_grad()
        total = 0.0
        for part in loss():
            part.backward()
            total += part.item()
        optimizer.step()
        progress.advance(done + 1, total)


@contextmanager
def going_back(parameters: Iterable[nn.Parameter], share: float) -> Iterator[None]:
    """Undo a share of what the block does to weights: robust fine-tuning (Wortsman et al. 2022).

    One photo says where D errs, and misleads it, too. Far on and part of the way back is better than stopping early.
    """
    weights = list(parameters)
    before = [weight.detach().clone() for weight in weights] if share else []
    yield
    if share:
        with torch.no_grad():
            for now, then in zip(weights, before, strict=True):
                now.lerp_(then, share)
