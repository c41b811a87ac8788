"""What a user can do wrong, and what each mistake costs: an exit code, a sentence and a remedy."""

from __future__ import annotations


class G2SError(Exception):
    """A failure the user can act on.

    `what` says what happened and to which file; `remedy` is the command or act that mends it. Only
    `g2s_cli.app` turns it into an exit code; everything below raises.
    """

    exit_code = 1

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(f"{what} {remedy}".strip())
        self.what = what
        self.remedy = remedy


class UsageError(G2SError):
    """An option or argument that cannot be meant: unknown category, folder in the way, bad range."""

    exit_code = 2


class ImageError(G2SError):
    """The image cannot be used: missing, not an image, truncated, too small, too large."""

    exit_code = 3


class WeightsError(G2SError):
    """Weights are missing, damaged, or of a shape the category cannot use."""

    exit_code = 4


class MemoryShortageError(G2SError):
    """The machine or the GPU ran out of memory."""

    exit_code = 5
