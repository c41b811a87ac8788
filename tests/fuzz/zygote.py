"""Calls of the installed command as forks of one process that has imported everything."""

from __future__ import annotations

import atexit
import gc
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MAX_ADDRESSES = 12 * 2**30  # a bomb ends as an error here, not as a shortage of the machine's memory
MAX_CPU_S, TIMEOUT_S = 60, 900.0


@dataclass(frozen=True)
class Call:
    """How a command runs.

    Attributes:
        words: after "g2s".
        folder: the current folder.
        environment: variables beside those of this process.
        patch: called in the child before the command.
        kill: a signal, and the seconds after the start at which it is sent.
        max_file_bytes: no file can become larger.
    """

    words: Sequence[str]
    folder: Path
    environment: dict[str, str]
    patch: Callable[[], object] | None = None
    kill: tuple[signal.Signals, float] | None = None
    max_file_bytes: int | None = None


@dataclass(frozen=True)
class Outcome:
    """How a command ended; `code` is negative after a signal, and None if it had to be ended."""

    code: int | None
    stdout: str
    stderr: str
    seconds: float
    cpu_s: float
    memory_bytes: int


def run(call: Call, logs: Path) -> Outcome:
    """Run a command in a fork. logs: a folder for its stdout and stderr."""
    ready, started = os.pipe()
    gc.freeze()
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        _run_child(call, logs, started)
    os.close(started)
    os.read(ready, 1)
    os.close(ready)
    if call.kill:
        _wait(child, call.kill[1])
        with suppress(ProcessLookupError):
            os.kill(child, call.kill[0])
    ended = _wait(child, TIMEOUT_S)
    if not ended:
        os.kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    code = os.waitstatus_to_exitcode(status) if ended else None
    texts = [(logs / name).read_text(errors="replace") for name in ("stdout", "stderr")]
    return Outcome(code, *texts, time.monotonic() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def _wait(child: int, seconds: float) -> bool:
    """Whether a child ends in a time; it stays to be waited for."""
    deadline, pause = time.monotonic() + seconds, 0.001
    while not (ended := os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)):
        if (left := deadline - time.monotonic()) <= 0:
            break
        time.sleep(min(pause, left))
        pause = min(2 * pause, 0.02)
    return ended is not None


def _run_child(call: Call, logs: Path, started: int) -> None:
    """The child's whole life."""
    code = 1
    atexit._clear()
    try:
        for name, descriptor in (("stdout", 1), ("stderr", 2)):
            file = os.open(logs / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, descriptor)
        os.chdir(call.folder)
        os.environ.update(call.environment)
        tempfile.tempdir = None  # read TMPDIR again
        sys.argv = ["g2s", *call.words]
        resource.setrlimit(resource.RLIMIT_AS, (MAX_ADDRESSES, MAX_ADDRESSES))
        used_s = int(sum(os.times()[:2]))
        resource.setrlimit(resource.RLIMIT_CPU, (used_s + MAX_CPU_S, used_s + MAX_CPU_S))
        if call.max_file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (call.max_file_bytes, call.max_file_bytes))
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # before the command's first line a signal ends any process
        import torch

        from g2s_cli.__main__ import run_interruptibly

        torch.set_num_threads(torch.get_num_threads())  # a fork's first two threads could meet in making torch's pool

        if call.patch:
            call.patch()
        os.write(started, b"x")
        os.close(started)
        code = run_interruptibly()
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(BaseException):
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
