"""The installed command, as a user runs it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from installed import SCRIPT, Installed

from g2s_cli.result import Reconstruction, write_result

Start = Callable[..., "subprocess.Popen[str]"]
Run = Callable[..., "subprocess.CompletedProcess[str]"]

# A wide, plain terminal and one thread: what is printed does not depend on who runs the tests.
PLAIN = os.environ | {"COLUMNS": "160", "NO_COLOR": "1", "TERM": "dumb", "OMP_NUM_THREADS": "1"}


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Start g2s in the test's folder."""
    # In the background of a shell Ctrl-C is ignored, and whatever is started there inherits that; handled, it is not.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
        command = [SCRIPT, *map(str, arguments)]
        return subprocess.Popen(
            command, cwd=tmp_path, env=PLAIN | environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    return start


@pytest.fixture(scope="session")
def installed() -> Installed:
    return Installed(PLAIN)


@pytest.fixture
def g2s(installed: Installed, tmp_path: Path) -> Run:
    """Run g2s in the test's folder; exit code, stdout and stderr."""
    return partial(installed.run, tmp_path, timeout=120)


@pytest.fixture
def out(made: Reconstruction, tmp_path: Path) -> Path:
    """A made-up result folder."""
    write_result(made, tmp_path / "out")
    return tmp_path / "out"
