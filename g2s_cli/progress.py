"""How the method tells whoever watches where it is."""

from __future__ import annotations

import time
from typing import Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """A listener to a run: the console's live display, a log, or nobody."""

    def begin(self, step: str, total: int) -> None:
        """A step of `total` iterations starts."""

    def advance(self, done: int, loss: float) -> None:
        """`done` iterations of the current step are over; the last one's loss."""

    def note(self, text: str) -> None:
        """Something the user should know, in a sentence."""


class SilentProgress:
    """A watch that listens to nothing."""

    def begin(self, step: str, total: int) -> None:
        """Ignore."""

    def advance(self, done: int, loss: float) -> None:
        """Ignore."""

    def note(self, text: str) -> None:
        """Ignore."""


class Stopwatch:
    """A watch that passes everything on and keeps the seconds each step took; `first` is the one under way."""

    def __init__(self, progress: Progress, first: str) -> None:
        self.progress = progress
        self.started = [(first, time.perf_counter())]

    def begin(self, step: str, total: int) -> None:
        """A step starts, so the one before is over."""
        self.started.append((step, time.perf_counter()))
        self.progress.begin(step, total)

    def advance(self, done: int, loss: float) -> None:
        """Pass on."""
        self.progress.advance(done, loss)

    def note(self, text: str) -> None:
        """Pass on."""
        self.progress.note(text)

    def seconds(self) -> dict[str, float]:
        """Seconds a step, summed over cycles, up to now."""
        ends = [start for _, start in self.started[1:]] + [time.perf_counter()]
        spent: dict[str, float] = {}
        for (step, start), end in zip(self.started, ends, strict=True):
            spent[step] = spent.get(step, 0.0) + end - start
        return spent
