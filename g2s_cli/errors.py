"""The errors a user can act on: what happened, what mends it, and the exit code."""

from __future__ import annotations

import errno
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

from g2s_cli.signals import received_signals

P = ParamSpec("P")
T = TypeVar("T")

DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
MAX_QUOTED = 300  # characters of a text that quotes a file
COMMAND = re.compile(r"\b(g2s|pip|ray) [a-z]")  # words of a shell, whoever reads them
FLAG = re.compile(r" with -o\b|(?<![^\s(])--[a-z][a-z-]*")
ARGUMENTS = {
    " with -o": "",
    "--no-align": "align=False",
    "--overwrite": "overwrite=True",
}  # others: --mesh-size, mesh_size


class ErrorStyle:
    """How errors name options: as flags, which the command line sets, or as the arguments of Python."""

    flags = False


class G2SError(Exception):
    """A failure the user can act on. Only `g2s_cli.app` turns it into an exit code.

    Args:
        what: What happened, and to which file.
        remedy: The command or action that mends it.
    """

    exit_code = 1

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(f"{what} {remedy}".replace("\n", " ").strip())  # one line, whatever a library says
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        """What and remedy, in the style of `ErrorStyle`."""
        text = super().__str__()
        if ErrorStyle.flags or COMMAND.search(text):
            return text
        return FLAG.sub(lambda flag: ARGUMENTS.get(flag[0], flag[0][2:].replace("-", "_")), text)

    def document(self, exit_code: int | None = None) -> dict[str, Any]:
        """What --json prints of it."""
        code = self.exit_code if exit_code is None else exit_code
        return {"error": {"what": self.what, "remedy": self.remedy, "exit_code": code}}

    def replace_name(self, old: str, new: str) -> G2SError:
        """A copy that names `old`, which the user does not know, as `new`."""
        return self._copy(self.what.replace(old, new), self.remedy.replace(old, new))

    def with_remedy(self, remedy: str) -> G2SError:
        """A copy with another remedy."""
        return self._copy(self.what, remedy)

    def _copy(self, what: str, remedy: str) -> G2SError:
        copy = type(self).__new__(type(self))  # subclasses have constructors of their own
        vars(copy).update(vars(self))
        G2SError.__init__(copy, what, remedy)
        return copy


class UsageError(G2SError):
    """An option or argument is wrong: unknown category, folder in the way, value out of range."""

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
    """The user pressed Ctrl-C, or the process was terminated (`g2s_cli.app` has the exit code of the latter)."""

    exit_code = 130


class SomeFailedError(G2SError):
    """Some of many photos failed. The exit code is that of the errors if they agree, else 1."""

    def __init__(self, what: str, errors: Sequence[Exception]) -> None:
        super().__init__(what)
        codes = {as_g2s_error(error).exit_code for error in errors}
        self.exit_code = codes.pop() if len(codes) == 1 else 1


def try_call(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | Exception:
    """The return value of a call, or the exception that it raised. Ctrl-C passes.

    Libraries in C replace a KeyboardInterrupt by an exception of theirs; after a signal every exception is one.
    The exception's frames are cleared: the tensors in them would hold the GPU's memory while the next photo runs.
    """
    try:
        return function(*args, **kwargs)
    except Exception as error:
        if received_signals:
            raise KeyboardInterrupt from error
        traceback.clear_frames(error.__traceback__)
        return error


def as_g2s_error(error: BaseException, *, traceback_shown: bool = False) -> G2SError:
    """Any exception as a G2SError. Its remedy is `-v` for an internal one, unless the traceback is shown already."""
    if isinstance(error, G2SError):
        return error
    if _is_memory_shortage(error):
        return MemoryShortageError("The memory ran out.", "Close other programs, or use --device cpu.")
    if isinstance(error, OSError) and (known := _as_sentence(error)):
        return known
    message = (str(error).splitlines() or [""])[0].rstrip(".")
    remedy = "" if traceback_shown else "Run it again with -v to see where."
    return G2SError(f"Something failed inside g2s: {type(error).__name__}: {message}.", remedy)


def shorten(text: object, most: int = MAX_QUOTED) -> str:
    """The beginning of a text that quotes a file, for a sentence."""
    line = " ".join(str(text).split())
    return line if len(line) <= most else f"{line[:most]}..."


def os_remedy(error: OSError, other: str) -> str:
    """What mends an error of the operating system; `other` where the error does not tell."""
    if error.errno == errno.ENAMETOOLONG:
        return "Use a shorter name."
    return other


def _as_sentence(error: OSError) -> G2SError | None:
    """An error of the operating system as what happened to which file; None if it does not tell the file."""
    reason = str(error.strerror or error).rstrip(".")
    if reason.startswith("No usable temporary directory"):  # of tempfile
        return G2SError("There is no folder for temporary files.", "Set TMPDIR to one that can be written to.")
    remedy = os_remedy(error, "Free space." if error.errno in DISK_FULL else "")
    if error.filename is not None:
        name = error.filename if isinstance(error.filename, int) else os.fsdecode(error.filename)
        return G2SError(f"{name} cannot be used: {reason}.", remedy or "Check the path.")
    return G2SError(f"{reason}.", remedy) if remedy else None


def _is_memory_shortage(error: BaseException) -> bool:
    torch = sys.modules.get("torch")  # importing it here would take a second
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    # On the CPU torch raises a bare RuntimeError.
    return isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error)


def import_extra(module: str, what: str) -> ModuleType:
    """Import a library of the extra that bears its name; `what` needs it. Raises G2SError."""
    try:
        return import_module(module)
    except ImportError as error:
        raise G2SError(f"{what} needs {module}, which is not installed.", f"pip install 'g2s-cli[{module}]'") from error
