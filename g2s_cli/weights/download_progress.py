"""The interface by which a download reports its progress."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class DownloadProgress(Protocol):
    """A listener to downloads."""

    def begin(self, what: str, total: int | None) -> None:
        """A download of `total` bytes starts; None if unknown."""

    def advance(self, count: int) -> None:
        """`count` more bytes have arrived."""


class SilentDownload:
    """A listener that ignores everything."""

    def begin(self, what: str, total: int | None) -> None:
        """Ignore."""

    def advance(self, count: int) -> None:
        """Ignore."""
