"""Work that is done in turn by several processes, in which none outlives the one that asked for it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import TypeVar

from g2s_cli.errors import G2SError, try_call

Piece = TypeVar("Piece")
Made = TypeVar("Made")


def in_turn(work: Callable[[Piece], Made], pieces: Sequence[Piece], processes: int) -> Iterator[Made]:
    """What `work` makes of every piece, in order; the processes take every so many-th piece each.

    work: something that can be pickled; it is sent once to each process. With one, no process is started.
    Raises what `work` raises, and G2SError if a process was killed.
    """
    if processes == 1 or len(pieces) <= 1:
        yield from map(work, pieces)
        return
    context = get_context("spawn")  # torch's threads do not survive a fork
    workers, results = [], []
    try:
        for place in range(min(processes, len(pieces))):
            receiving, sending = context.Pipe(duplex=False)
            worker = context.Process(target=_work_through, args=(work, pieces[place::processes], sending), daemon=True)
            worker.start()
            sending.close()  # the worker's alone, so that its death is seen
            workers.append(worker)
            results.append(receiving)
        for place in range(len(pieces)):
            result = results[place % len(results)].recv()
            if isinstance(result, Exception):
                raise result
            yield result
    except EOFError as error:
        raise G2SError("A process ended early.", "Run it again; if the memory was short, with fewer.") from error
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def _work_through(work: Callable[[Piece], Made], pieces: Sequence[Piece], sending: Connection) -> None:
    # The pipe breaks when the other end is gone, and Ctrl-C reaches all processes: nothing to say about either.
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        for piece in pieces:
            sending.send(try_call(work, piece))
