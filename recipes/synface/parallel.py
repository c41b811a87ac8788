"""A map over several processes, which end with the process that started them, even if that is killed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import TypeVar

from g2s_cli.errors import G2SError, try_call

Item = TypeVar("Item")
Result = TypeVar("Result")


def parallel_map(function: Callable[[Item], Result], items: Sequence[Item], processes: int) -> Iterator[Result]:
    """The results of a function, in the order of the items.

    Args:
        function: sent to each process once, pickled.
        items: each process takes every so many-th.
        processes: with 1, none is started.

    Raises:
        G2SError: a process was killed. Exceptions of the function are raised as they are.
    """
    if processes == 1 or len(items) <= 1:
        yield from map(function, items)
        return
    context = get_context("spawn")  # torch's threads do not survive a fork
    workers, receivers = [], []
    try:
        for index in range(min(processes, len(items))):
            receiver, sender = context.Pipe(duplex=False)
            worker = context.Process(target=_work, args=(function, items[index::processes], sender), daemon=True)
            worker.start()
            sender.close()  # so that the pipe ends with the worker
            workers.append(worker)
            receivers.append(receiver)
        for index in range(len(items)):
            result = receivers[index % len(receivers)].recv()
            if isinstance(result, Exception):
                raise result
            yield result
    except EOFError as error:
        raise G2SError("A process ended early.", "Run it again; if memory was short, with fewer processes.") from error
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def _work(function: Callable[[Item], Result], items: Sequence[Item], sender: Connection) -> None:
    # The pipe breaks when the starting process is gone; Ctrl-C reaches all processes.
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        for item in items:
            sender.send(try_call(function, item))
