"""How the method tells whoever watches where it is."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Watch(Protocol):
    """A listener to a run: the console's live display, a log, or nobody."""

    def begin(self, step: str, total: int) -> None:
        """A step of `total` iterations starts."""

    def advance(self, done: int, loss: float) -> None:
        """`done` iterations of the current step are over; the last one's loss."""

    def note(self, text: str) -> None:
        """Something the user should know, in a sentence."""


class Silent:
    """A watch that listens to nothing."""

    def begin(self, step: str, total: int) -> None:
        """Ignore."""

    def advance(self, done: int, loss: float) -> None:
        """Ignore."""

    def note(self, text: str) -> None:
        """Ignore."""
