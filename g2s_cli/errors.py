"""What a user can do wrong, and what each mistake costs: an exit code, a sentence and a remedy."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

Given = ParamSpec("Given")
Made = TypeVar("Made")


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

    def replace_name(self, name: str, said: str) -> G2SError:
        """The same, with a name that the user does not know put as one that they do."""
        spoken = type(self).__new__(type(self))  # kinds are made of different things
        vars(spoken).update(vars(self))
        G2SError.__init__(spoken, self.what.replace(name, said), self.remedy.replace(name, said))
        return spoken


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


class StoppedError(G2SError):
    """The user pressed Ctrl-C, or the process was told to end; `g2s_cli.app` has that one's exit code."""

    exit_code = 130


class SomeFailedError(G2SError):
    """Some of many photos failed. Its exit code is theirs where they agree, else 1."""

    def __init__(self, what: str, errors: Sequence[Exception]) -> None:
        super().__init__(what)
        codes = {as_g2s_error(error).exit_code for error in errors}
        self.exit_code = codes.pop() if len(codes) == 1 else 1


def try_call(act: Callable[Given, Made], *arguments: Given.args, **options: Given.kwargs) -> Made | Exception:
    """What an act makes of its arguments, or why it failed; Ctrl-C is no failure and goes through.

    What failed keeps nothing alive that it worked on: a GPU without memory is to have it back for the next photo.
    """
    try:
        return act(*arguments, **options)
    except Exception as error:
        traceback.clear_frames(error.__traceback__)
        return error


def as_g2s_error(error: Exception, *, traceback_shown: bool = False) -> G2SError:
    """Any failure as one with a sentence and an exit code. traced: whether the user sees already where it was."""
    if isinstance(error, G2SError):
        return error
    if _is_memory_shortage(error):
        return MemoryShortageError("The memory ran out.", "Close other programs, or use --device cpu.")
    said = (str(error).splitlines() or [""])[0].rstrip(".")
    remedy = "" if traceback_shown else "Run it again with -v to see where."
    return G2SError(f"Something failed inside g2s: {type(error).__name__}: {said}.", remedy)


def _is_memory_shortage(error: Exception) -> bool:
    torch = sys.modules.get("torch")  # not imported for the sake of asking
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    # On the CPU torch raises a bare RuntimeError.
    return isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error)
