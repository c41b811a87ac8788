"""A map over processes: order, failures, and that the processes end with the one that started them."""

from __future__ import annotations

import functools
import operator
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from g2s_cli.errors import G2SError
from recipes.synface.parallel import parallel_map

ROOT = Path(__file__).parents[3]
# Two processes print their numbers, an item every tenth of a second.
FOREVER = """
import functools, os, subprocess, sys
from recipes.synface.parallel import parallel_map

if __name__ == "__main__":
    call = functools.partial(subprocess.check_output, text=True)
    commands = [["sh", "-c", "sleep 0.1; echo $PPID"]] * 10_000
    for output in parallel_map(call, commands, 2):
        print(output.strip(), flush=True)
"""


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_order(processes: int) -> None:
    assert list(parallel_map(functools.partial(operator.mul, 2), range(5), processes)) == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("processes", [1, 2])
def test_exceptions_are_raised(processes: int) -> None:
    results = parallel_map(functools.partial(operator.truediv, 1.0), [1, 2, 0], processes)
    assert [next(results), next(results)] == [1, 0.5]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_a_killed_process_is_reported() -> None:
    with pytest.raises(G2SError, match="ended early"):
        list(parallel_map(os._exit, [1, 1], 2))


def test_processes_end_with_the_one_that_was_killed(tmp_path: Path) -> None:
    script = tmp_path / "forever.py"
    script.write_text(FOREVER)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment) as run:
        assert run.stdout
        workers = {int(run.stdout.readline()) for _ in range(2)}
        run.send_signal(signal.SIGKILL)
    assert len(workers) == 2
    for _ in ticks(10.0):
        workers = {worker for worker in workers if alive(worker)}
        if not workers:
            break
    assert not workers


def ticks(seconds: float) -> Iterator[None]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(0.05)


def alive(process: int) -> bool:
    """Whether a process runs: it is there, and not only waiting for its end to be noticed."""
    status = Path(f"/proc/{process}/status")
    return status.exists() and "State:\tZ" not in status.read_text()
