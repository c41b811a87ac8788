"""Spread photos over workers that may die: the part that worker processes and Ray actors share."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Generic, Protocol, TypeVar, runtime_checkable

from g2s_cli.errors import G2SError
from g2s_cli.executors.worker import LoadFailure, Reconstruction

MAX_DEATHS = 3  # of workers that reconstructed one photo; of workers in a row that loaded, for each worker


class Event(Enum):
    """What a worker reports beside reconstructions."""

    READY = "its category is loaded, and its photos are finished"
    DEAD = "its process has ended"


Message = Reconstruction | LoadFailure | Event


@runtime_checkable
class Channel(Protocol):
    """The way to a worker. A new worker loads its category, and is then READY."""

    def submit(self, photos: Sequence[Path]) -> None:
        """Send photos to a READY worker. A dead one drops them, and is reported as DEAD."""

    def stop(self) -> None:
        """End the worker at once."""


C = TypeVar("C", bound=Channel)


@runtime_checkable
class Launcher(Protocol[C]):
    """Starts workers of one kind, and waits for them."""

    count: int  # of workers

    def start(self, number: int) -> C:
        """Start the worker with a number below `count`, on its share of the machine."""

    def wait(self, channels: Collection[C]) -> Iterator[tuple[C, Message]]:
        """Wait, and yield at least one message."""


@dataclass
class _Member:
    """A worker. indices: of the photos that it has not finished, in their order; None while it loads."""

    number: int
    indices: deque[int] | None = None


class Pool(Generic[C]):
    """An executor. The photos of a worker that dies are reconstructed by others, one by one.

    Args:
        launcher: starts the workers.
        batch: photos that a worker gets at once, at most.
        notify: receives a sentence when a worker dies.
    """

    def __init__(self, launcher: Launcher[C], batch: int, notify: Callable[[str], None]) -> None:
        self.launcher, self.batch, self.notify = launcher, batch, notify
        self._members: dict[C, _Member] = {}
        self._deaths: dict[int, int] = {}  # of workers, by the photo that they reconstructed
        self._failed_loads = 0  # workers in a row that died while they loaded

    def __call__(self, photos: Sequence[Path]) -> Iterator[tuple[int, Reconstruction]]:
        """Yield the index and the reconstruction of each photo as soon as it is finished.

        Raises:
            G2SError: the category cannot be loaded.
        """
        waiting, left = deque(range(len(photos))), set(range(len(photos)))
        size = self._chunk_size(len(photos))
        try:
            for number in range(min(self.launcher.count, len(photos))):
                self._members[self.launcher.start(number)] = _Member(number)
            while left:
                for index, reconstruction in self._receive(photos, waiting):
                    left.remove(index)
                    yield index, reconstruction
                for channel, member in self._members.items():
                    if waiting and member.indices is not None and not member.indices:
                        member.indices = self._take(waiting, size)
                        channel.submit([photos[index] for index in member.indices])
        finally:
            for channel in self._members:
                with suppress(Exception):
                    channel.stop()
            self._members.clear()

    def _chunk_size(self, photos: int) -> int:
        """Photos a chunk: as large as `batch` allows, and the same number of chunks for each worker."""
        rounds = math.ceil(photos / (self.launcher.count * self.batch))
        return math.ceil(photos / (self.launcher.count * rounds)) if rounds else 1

    def _take(self, waiting: deque[int], size: int) -> deque[int]:
        """The next chunk; a photo whose worker died is one."""
        chunk = deque([waiting.popleft()])
        while waiting and len(chunk) < size and not {chunk[0], waiting[0]} & self._deaths.keys():
            chunk.append(waiting.popleft())
        return chunk

    def _receive(self, photos: Sequence[Path], waiting: deque[int]) -> Iterator[tuple[int, Reconstruction]]:
        for channel, message in self.launcher.wait(list(self._members)):
            member = self._members[channel]
            if isinstance(message, LoadFailure):
                raise message.error
            if message is Event.DEAD:
                yield from self._replace(channel, photos, waiting)
            elif message is Event.READY:
                member.indices, self._failed_loads = member.indices or deque(), 0
            elif not isinstance(message, Event) and member.indices:
                yield member.indices.popleft(), message

    def _replace(self, channel: C, photos: Sequence[Path], waiting: deque[int]) -> Iterator[tuple[int, Reconstruction]]:
        """Start another worker for one that died, and put its photos back, except one that too many died of."""
        member = self._members.pop(channel)
        channel.stop()
        if member.indices is None:
            self._failed_loads += 1
            if self._failed_loads > MAX_DEATHS * self.launcher.count:
                what = "The workers end while they load the category."
                raise G2SError(what, "Start fewer (--workers), or see whether their memory suffices.")
        self._members[self.launcher.start(member.number)] = _Member(member.number)
        indices = list(member.indices or ())
        self.notify(f"A worker ended; {len(indices)} of its photos go to another." if indices else "A worker ended.")
        for index in reversed(indices):
            deaths = self._deaths[index] = self._deaths.get(index, 0) + 1
            if deaths < MAX_DEATHS:
                waiting.appendleft(index)
            else:
                what = f"{photos[index]}: {deaths} workers ended over it."
                yield index, G2SError(what, "Start fewer (--workers), or see whether their memory suffices.")
