"""SIGINT, SIGTERM and SIGHUP as KeyboardInterrupt. Imports nothing of weight: it is there before the rest of g2s."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

CLEAN_UP_S = 5.0  # for so long after a signal, further ones do not interrupt the clean-up
AGAIN_S = 0.01  # after a KeyboardInterrupt that a destructor has swallowed
received_signals: list[int] = []  # that end this process, as they come


@contextmanager
def interrupted_by_signals() -> Iterator[list[int]]:
    """Treat SIGTERM and SIGHUP like Ctrl-C inside the block, so that nothing half written is left, and note all three.

    Signals that are ignored, as by nohup, stay ignored. In a process of several that train together they keep their
    default: one that waits for the others inside torch would not see them. After the block they end the process at
    once: nothing is left to clean up, and Python's own handler would print a traceback.

    Returns:
        The numbers of the signals that came, appended as they come.
    """
    received_signals.clear()
    interrupted_s = -math.inf

    def interrupt(number: int, _: object) -> None:
        nonlocal interrupted_s
        received_signals.append(number)
        if time.monotonic() - interrupted_s >= CLEAN_UP_S:
            interrupted_s = time.monotonic()
            raise KeyboardInterrupt

    def interrupt_again(unraisable: sys.UnraisableHookArgs) -> None:
        """Interrupt once more, where Python has ignored it: in a destructor or a callback of the garbage collector."""
        nonlocal interrupted_s
        if not isinstance(unraisable.exc_value, KeyboardInterrupt) or not received_signals:
            unraisable_hook(unraisable)
            return
        interrupted_s = -math.inf
        timer = threading.Timer(AGAIN_S, os.kill, (os.getpid(), received_signals[0]))
        timer.daemon = True
        timer.start()

    known = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    alone = os.environ.get("WORLD_SIZE", "1") == "1"
    defaults = (signal.SIG_DFL, signal.default_int_handler)
    handled = [number for number in known if alone and signal.getsignal(number) in defaults]
    for number in handled:
        signal.signal(number, interrupt)
    unraisable_hook, sys.unraisablehook = sys.unraisablehook, interrupt_again
    try:
        yield received_signals
    finally:
        sys.unraisablehook = unraisable_hook
        for number in handled:
            signal.signal(number, signal.SIG_DFL)
