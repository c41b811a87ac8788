"""The progress protocol: a run reports its steps, a listener shows or times them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from jaxtyping import Float

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class Progress(Protocol):
    """A listener to a run: the console's display, a log, or none."""

    def begin(self, name: str, total: int, quantity: str = "loss") -> None:
        """Start a step.

        Args:
            name: the step's name, as the console prints it.
            total: its number of iterations.
            quantity: what the value of `advance` measures, such as "loss" or "residual"; "" if it has no value.
        """

    def advance(self, done: int, value: float) -> None:
        """Report that `done` iterations of the current step are over, and the last one's value."""

    def note(self, text: str) -> None:
        """Report a sentence that the user should read."""

    def picture(self, name: str, image: Float[Tensor, "3 h w"]) -> None:
        """Report an intermediate picture in [-1, 1]; a later one of the same name replaces it.

        name: "photo" (the aligned crop), "inversion", "mask" or "shape".
        """


class SilentProgress:
    """A listener that does nothing."""

    def begin(self, name: str, total: int, quantity: str = "loss") -> None:
        """Ignore."""

    def advance(self, done: int, value: float) -> None:
        """Ignore."""

    def note(self, text: str) -> None:
        """Ignore."""

    def picture(self, name: str, image: Float[Tensor, "3 h w"]) -> None:
        """Ignore."""


class Stopwatch:
    """A listener that measures the seconds of each step and forwards every call; `first` is the step under way."""

    def __init__(self, progress: Progress, first: str) -> None:
        self.progress = progress
        self.started = [(first, time.perf_counter())]

    def begin(self, name: str, total: int, quantity: str = "loss") -> None:
        """Start a step, which ends the one before."""
        self.started.append((name, time.perf_counter()))
        self.progress.begin(name, total, quantity)

    def advance(self, done: int, value: float) -> None:
        """Forward."""
        self.progress.advance(done, value)

    def note(self, text: str) -> None:
        """Forward."""
        self.progress.note(text)

    def picture(self, name: str, image: Float[Tensor, "3 h w"]) -> None:
        """Forward."""
        self.progress.picture(name, image)

    def seconds(self) -> dict[str, float]:
        """Seconds of each step up to now; steps of one name, as in several cycles, are summed."""
        ends = [start for _, start in self.started[1:]] + [time.perf_counter()]
        spent: dict[str, float] = {}
        for (name, start), end in zip(self.started, ends, strict=True):
            spent[name] = spent.get(name, 0.0) + end - start
        return spent


def add_seconds(seconds: dict[str, float], more: dict[str, float], share: float = 1.0) -> dict[str, float]:
    """Seconds of each step, with a share of other ones."""
    return {step: seconds.get(step, 0.0) + share * more.get(step, 0.0) for step in seconds | more}


def rounded_seconds(seconds: dict[str, float], wall_s: float | None = None) -> dict[str, float]:
    """Seconds of each step, and in all, for the report.

    Args:
        wall_s: seconds of the whole command; what the steps leave of them is "start": imports and checks.
    """
    total = sum(seconds.values())
    if wall_s is not None:
        seconds, total = {"start": max(0.0, wall_s - total)} | seconds, max(wall_s, total)
    return {step: round(value, 2) for step, value in (seconds | {"total": total}).items()}
