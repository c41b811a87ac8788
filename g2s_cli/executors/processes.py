"""Worker processes on this machine."""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the processes import this module before they ignore Ctrl-C, so that it is to be light
    from g2s_cli.executors.pool import Message
    from g2s_cli.executors.worker import Work

ENDED = (EOFError, ConnectionError)


class ProcessChannel:
    """The way to a worker process."""

    def __init__(self, process: SpawnProcess, pipe: Connection) -> None:
        self.process, self.pipe = process, pipe

    def submit(self, photos: Sequence[Path]) -> None:
        """Send photos."""
        with suppress(*ENDED):
            self.pipe.send(photos)

    def stop(self) -> None:
        """Kill the process: what it writes lies in a temporary folder of this one."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


class Processes:
    """Launches worker processes.

    Args:
        work: their work.
        devices: of each worker.
        threads: of each worker.
        scratch: an existing folder for their temporary files.
    """

    def __init__(self, work: Work, devices: Sequence[str], threads: int, scratch: Path) -> None:
        self.work, self.devices, self.threads, self.scratch = work, devices, threads, scratch
        self.count = len(devices)

    def start(self, number: int) -> ProcessChannel:
        """Start a process."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        arguments = (theirs, self.work, self.devices[number], self.threads, self.scratch)
        process = context.Process(target=_serve, args=arguments, daemon=True)
        process.start()
        theirs.close()  # so that the pipe ends with the process
        return ProcessChannel(process, ours)

    def wait(self, channels: Collection[ProcessChannel]) -> Iterator[tuple[ProcessChannel, Message]]:
        """Wait for messages of any process."""
        from g2s_cli.executors.pool import Event  # noqa: PLC0415 (it imports torch)

        ready = connection.wait([channel.pipe for channel in channels])
        for channel in channels:
            if channel.pipe in ready:
                try:
                    message = pickle.loads(channel.pipe.recv_bytes())
                except (EOFError, OSError):  # the latter in the middle of a message
                    message = Event.DEAD
                yield channel, message


def _serve(pipe: Connection, work: Work, device: str, threads: int, scratch: Path) -> None:
    """Reconstruct the photos that come through a pipe, until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    from g2s_cli.executors.pool import Event  # noqa: PLC0415
    from g2s_cli.executors.worker import Worker  # noqa: PLC0415

    tempfile.tempdir = str(scratch)
    worker = Worker(work, device, threads)
    photos: list[Path] = []
    with suppress(*ENDED):
        while True:
            for reconstruction in worker(photos):
                # Pickled here: multiprocessing would send tensors as shared memory, which ends with the worker.
                pipe.send_bytes(pickle.dumps(reconstruction))
            pipe.send_bytes(pickle.dumps(Event.READY))
            photos = pipe.recv()
