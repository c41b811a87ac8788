"""What tests of fits compare: the steps and losses that were reported, and the networks that changed."""

from __future__ import annotations

from dataclasses import fields

import torch
from torch import Tensor, nn

from g2s_cli.estimators.feedforward import FactorNets
from g2s_cli.estimators.gan2shape.offsets import PseudoSamples
from g2s_cli.progress import SilentProgress


class ProgressLog(SilentProgress):
    """A listener that keeps the steps with their iterations, all losses, and the pictures."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.losses: list[float] = []
        self.pictures: dict[str, Tensor] = {}

    def begin(self, name: str, total: int, quantity: str = "loss") -> None:  # noqa: ARG002
        self.steps.append(f"{name} {total}")

    def advance(self, done: int, value: float) -> None:  # noqa: ARG002
        self.losses.append(value)

    def picture(self, name: str, image: Tensor) -> None:
        self.pictures[name] = image


class StopAt(SilentProgress):
    """Interrupts a fit after so many of its iterations; None: never."""

    def __init__(self, iterations: int | None = None) -> None:
        self.left = iterations

    def advance(self, done: int, value: float) -> None:  # noqa: ARG002
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt


class Changes(SilentProgress):
    """Which modules each step changes, and each step's losses."""

    def __init__(self, modules: dict[str, nn.Module]) -> None:
        self.modules = modules
        self.changed: dict[str, set[str]] = {}
        self.losses: dict[str, list[float]] = {}

    def begin(self, name: str, total: int, quantity: str = "loss") -> None:  # noqa: ARG002
        self.step, self.before = name, {key: weights_of(module) for key, module in self.modules.items()}

    def advance(self, done: int, value: float) -> None:  # noqa: ARG002
        after = {key: weights_of(module) for key, module in self.modules.items()}
        self.changed[self.step] = {key for key in after if not torch.equal(after[key], self.before[key])}
        self.losses.setdefault(self.step, []).append(value)


class Snapshot:
    """The weights of D, A, V and L at one time."""

    def __init__(self, nets: FactorNets) -> None:
        self.nets = nets
        self.weights = {field.name: weights_of(getattr(nets, field.name)) for field in fields(nets)[:4]}

    def changed(self) -> set[str]:
        """Which of the networks have other weights now."""
        return {
            name for name, old in self.weights.items() if not torch.equal(old, weights_of(getattr(self.nets, name)))
        }


def weights_of(net: nn.Module) -> Tensor:
    return torch.cat([value.detach().clone().flatten() for value in net.state_dict().values()])


def pseudo_samples(count: int, seed: int = 0) -> PseudoSamples:
    """Random images of 16 px that count everywhere, with random views and lights."""
    rng = torch.Generator().manual_seed(seed)
    view, light = (torch.randn(count, n, generator=rng) for n in (6, 4))
    return PseudoSamples(torch.rand(count, 3, 16, 16, generator=rng), torch.ones(count, 1, 16, 16), view, light)
