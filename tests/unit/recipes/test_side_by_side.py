"""Several processes at one piece of work: order, failures, and that they end with the one that started them."""

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
from recipes.synface.side_by_side import in_turn

ROOT = Path(__file__).parents[3]
# Two processes write their numbers to files and then go on forever, a piece every tenth of a second.
FOREVER = """
import functools, os, subprocess, sys
from recipes.synface.side_by_side import in_turn

if __name__ == "__main__":
    asked = functools.partial(subprocess.check_output, text=True)
    lines = [["sh", "-c", "sleep 0.1; echo $PPID"]] * 10_000
    for said in in_turn(asked, lines, 2):
        print(said.strip(), flush=True)
"""


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_order(processes: int) -> None:
    assert list(in_turn(functools.partial(operator.mul, 2), range(5), processes)) == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_failure_is_raised_here(processes: int) -> None:
    results = in_turn(functools.partial(operator.truediv, 1.0), [1, 2, 0], processes)
    assert [next(results), next(results)] == [1, 0.5]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_a_killed_process_is_told_of() -> None:
    with pytest.raises(G2SError, match="ended early"):
        list(in_turn(os._exit, [1, 1], 2))


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
