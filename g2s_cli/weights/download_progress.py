"""How a download tells whoever watches where it is."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class DownloadProgress(Protocol):
    """A listener to downloads: the console's bar, or nobody."""

    def begin(self, what: str, total: int | None) -> None:
        """A download of `total` bytes starts; None where nobody has said how many."""

    def advance(self, count: int) -> None:
        """So many more bytes have come."""


class SilentDownload:
    """Listens to nothing."""

    def begin(self, what: str, total: int | None) -> None:
        """Ignore."""

    def advance(self, count: int) -> None:
        """Ignore."""
