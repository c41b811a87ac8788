"""The command g2s, also as `python -m g2s_cli`, which torchrun needs."""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress
from typing import NoReturn

from g2s_cli.signals import interrupted_by_signals

INTERRUPTED = 130  # StoppedError's exit code; nothing else is imported yet


def main() -> NoReturn:
    """The command g2s."""
    end_process(run_interruptibly())


def run_interruptibly() -> int:
    """Run the command line. Handles signals while the rest of g2s is imported, too. Returns the exit code."""
    with interrupted_by_signals() as received:
        try:
            from g2s_cli.app import run  # noqa: PLC0415

            return run()
        except KeyboardInterrupt:
            sys.stderr.write("g2s: Stopped; nothing was written.\n")
            return 128 + received[0] if received else INTERRUPTED


def end_process(code: int) -> NoReturn:
    """End the process after its clean-ups. Python's own end would free each object first: 0.4 s with PyTorch."""
    with suppress(BaseException):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # closed, or nobody reads it
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
