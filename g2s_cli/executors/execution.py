"""Where photos are reconstructed: in this process, in worker processes, or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from g2s_cli.errors import UsageError
from g2s_cli.executors.pool import Launcher, Pool
from g2s_cli.executors.processes import Processes
from g2s_cli.executors.ray_cluster import RayCluster, connected, node_shares
from g2s_cli.executors.worker import Reconstruction, Work
from g2s_cli.machine import Machine
from g2s_cli.options import Execution
from g2s_cli.pipeline import Pipeline
from g2s_cli.progress import Progress

# Called with photos, it yields the index and the reconstruction of each as soon as it is finished.
Executor = Callable[[Sequence[Path]], Iterator[tuple[int, Reconstruction]]]


@contextmanager
def open_executor(
    execution: Execution, work: Work, progress: Progress, notify: Callable[[str], None]
) -> Iterator[Executor]:
    """The executor that a user chose.

    Args:
        execution: the choice.
        work: the work of its workers.
        progress: shows the steps of a photo in one process, and finished photos of workers.
        notify: receives a sentence when a worker dies.

    Raises:
        UsageError: there is no such device or cluster.
        G2SError: ray is not installed.
    """
    if execution.ray:
        with connected(execution.ray) as ray:
            yield _pool(_ray_cluster(ray, execution, work), work, progress, notify)
    elif execution.workers and execution.workers > 1:
        machine = Machine.named(execution.device)
        with TemporaryDirectory(prefix="g2s-") as scratch:
            processes = Processes(
                work,
                [_device(machine, number) for number in range(execution.workers)],
                max(1, torch.get_num_threads() // execution.workers),
                Path(scratch),
            )
            yield _pool(processes, work, progress, notify)
    else:
        yield partial(_execute_here, work, Machine.named(execution.device), progress)


def _execute_here(
    work: Work, machine: Machine, progress: Progress, photos: Sequence[Path]
) -> Iterator[tuple[int, Reconstruction]]:
    yield from enumerate(Pipeline.of(work.plan, machine).each(photos, progress))


def _pool(launcher: Launcher[Any], work: Work, progress: Progress, notify: Callable[[str], None]) -> Executor:
    def execute(photos: Sequence[Path]) -> Iterator[tuple[int, Reconstruction]]:
        progress.begin("photos", len(photos), "")
        for done, answer in enumerate(Pool(launcher, work.batch, notify)(photos), start=1):
            progress.advance(done, 0.0)
            yield answer

    return execute


def _device(machine: Machine, number: int) -> str:
    """The device of a worker: one GPU after the other, unless the user named one."""
    if machine.device.type == "cuda" and machine.device.index is None:
        return f"cuda:{number % torch.cuda.device_count()}"
    return str(machine.device)


def _ray_cluster(ray: Any, execution: Execution, work: Work) -> RayCluster:
    shares = node_shares(ray.nodes(), use_gpus=execution.device != "cpu")[: execution.workers]
    if not shares:
        raise UsageError(f"The Ray cluster at {execution.ray} has no processors.", "Start a node with some.")
    if execution.device not in {"auto", "cpu"} and not shares[0].gpus:
        raise UsageError(f"The Ray cluster at {execution.ray} has no GPU.", "Use --device auto.")
    return RayCluster(ray, work, shares)
