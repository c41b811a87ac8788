"""Progress reports of a run."""

from __future__ import annotations

import time
from typing import Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """A listener: the console's live display, a log, or nobody."""

    def begin(self, step: str, total: int) -> None:
        """A step of `total` iterations starts."""

    def advance(self, done: int, loss: float) -> None:
        """`done` iterations of the current step are over; `loss` is the last one's."""

    def note(self, text: str) -> None:
        """A sentence for the user."""


class SilentProgress:
    """A listener that ignores everything."""

    def begin(self, step: str, total: int) -> None:
        """Ignore."""

    def advance(self, done: int, loss: float) -> None:
        """Ignore."""

    def note(self, text: str) -> None:
        """Ignore."""


class Stopwatch:
    """A listener that measures the seconds of every step and passes everything on.

    Args:
        progress: The next listener.
        first: Name of the step under way.
    """

    def __init__(self, progress: Progress, first: str) -> None:
        self.progress = progress
        self.advance, self.note = progress.advance, progress.note
        self._starts = [(first, time.perf_counter())]

    def begin(self, step: str, total: int) -> None:
        """A step starts, so the one before is over."""
        self._starts.append((step, time.perf_counter()))
        self.progress.begin(step, total)

    def seconds(self) -> dict[str, float]:
        """Seconds of each step up to now, summed over repetitions."""
        ends = [start for _, start in self._starts[1:]] + [time.perf_counter()]
        seconds: dict[str, float] = {}
        for (step, start), end in zip(self._starts, ends, strict=True):
            seconds[step] = seconds.get(step, 0.0) + end - start
        return seconds
