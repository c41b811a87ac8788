"""SIGINT, SIGTERM and SIGHUP as KeyboardInterrupt. Imports nothing of weight: it is there before the rest of g2s."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

CLEAN_UP_S = 5.0  # for so long after a signal, further ones do not interrupt the clean-up
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

    known = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    alone = os.environ.get("WORLD_SIZE", "1") == "1"
    defaults = (signal.SIG_DFL, signal.default_int_handler)
    handled = [number for number in known if alone and signal.getsignal(number) in defaults]
    for number in handled:
        signal.signal(number, interrupt)
    try:
        yield received_signals
    finally:
        for number in handled:
            signal.signal(number, signal.SIG_DFL)
