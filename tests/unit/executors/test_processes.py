"""Worker processes: their messages, and their ends."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest

from g2s_cli.executors.pool import Event
from g2s_cli.executors.processes import ProcessChannel, Processes


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (struct.pack("!i", len(pickle.dumps(Event.READY))) + pickle.dumps(Event.READY), Event.READY),
        (b"", Event.DEAD),
        (struct.pack("!i", 1000) + b"half", Event.DEAD),
        (b"\0\0", Event.DEAD),
    ],
)
def test_a_process_that_ends_in_a_message_is_dead(sent: bytes, message: Event) -> None:
    ours, theirs = multiprocessing.Pipe()
    os.write(theirs.fileno(), sent)
    theirs.close()
    channel = ProcessChannel(multiprocessing.get_context("spawn").Process(), ours)
    work: Any = None
    assert list(Processes(work, ["cpu"], 1, Path()).wait([channel])) == [(channel, message)]
