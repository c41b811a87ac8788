"""The installed command, as a user runs it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import fake_checkpoints
import pytest
from caches import OUTSIDE, RELEASED, members
from installed import SCRIPT, Installed
from servers import FileServer, HubServer

from g2s_cli.result.schema import Result
from g2s_cli.result.write import write_result

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
def out(result: Result, tmp_path: Path) -> Path:
    """A made-up result folder."""
    write_result(result, tmp_path / "out")
    return tmp_path / "out"


# --- where weights come from


@pytest.fixture(scope="session")
def archives() -> dict[str, dict[str, bytes]]:
    return {name: fake_checkpoints.release(members(name) | {"checkpoints/other.bin": bytes(9999)}) for name in RELEASED}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """HF_HOME, so g2s's cache too."""
    return tmp_path / "hf"


@pytest.fixture
def release(archives: dict[str, dict[str, bytes]]) -> Iterator[FileServer]:
    with FileServer(dict(archives["car"])) as server:
        yield server


@pytest.fixture
def from_release(g2s: Callable, release: FileServer, home: Path) -> Callable:
    return lambda *arguments: g2s(*arguments, HF_HOME=str(home), G2S_RELEASE_URL=release.url, **OUTSIDE)


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer({}) as server:
        yield server


@pytest.fixture
def on_hub(g2s: Callable, hub: HubServer, home: Path) -> Callable:
    def run(*arguments: object, **environment: str) -> object:
        base = {"HF_HOME": str(home), "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1"} | OUTSIDE
        return g2s(*arguments, **base | environment)

    return run


@pytest.fixture
def owls(on_hub: Callable, tmp_path: Path) -> Path:
    """A category of one's own, imported."""
    (tmp_path / "owls.pt").write_bytes(fake_checkpoints.saved(fake_checkpoints.gan(32)))
    answer = on_hub("weights", "import", "owls.pt", "--category", "owls")
    assert answer.returncode == 0, answer.stderr
    return Path(answer.stdout.strip())
