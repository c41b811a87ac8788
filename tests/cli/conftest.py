"""The installed command, as a user runs it, and where its weights come from."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import fake_checkpoints
import pytest
from caches import NO_PROXY, members
from installed import SCRIPT, Command, Installed
from servers import FileServer, HubServer

from g2s_cli.result.schema import Result
from g2s_cli.result.write import write_result

# A wide, plain terminal and one thread: what is printed does not depend on who runs the tests.
PLAIN = os.environ | {"COLUMNS": "160", "NO_COLOR": "1", "TERM": "dumb", "OMP_NUM_THREADS": "1"}


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start g2s in the test's folder, as a process that gets signals."""
    # In the background of a shell Ctrl-C is ignored, under nohup SIGHUP, too, and whatever is started there inherits
    # that; handled signals are not ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, lambda *_: None)

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
def g2s(installed: Installed, tmp_path: Path) -> Command:
    """g2s in the test's folder."""
    return Command(installed, tmp_path, {})


@pytest.fixture(scope="session")
def written(result: Result, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small synthetic result folder, for reading."""
    folder = tmp_path_factory.mktemp("written") / "out"
    write_result(result, folder)
    return folder


@pytest.fixture
def out(written: Path, tmp_path: Path) -> Path:
    """The same in the test's folder."""
    return shutil.copytree(written, tmp_path / "out")


@pytest.fixture(scope="session")
def archive_of() -> Callable[[str], dict[str, bytes]]:
    """The release's archive of a category."""

    @cache
    def archive_of(name: str) -> dict[str, bytes]:
        return fake_checkpoints.release(members(name) | {"checkpoints/other.bin": bytes(9999)})

    return archive_of


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """HF_HOME, which holds g2s's cache too."""
    return tmp_path / "hf"


@pytest.fixture
def release(archive_of: Callable[[str], dict[str, bytes]]) -> Iterator[FileServer]:
    """A server with the release's archive of "car"."""
    with FileServer(dict(archive_of("car"))) as server:
        yield server


@pytest.fixture
def from_release(g2s: Command, release: FileServer, home: Path) -> Command:
    """g2s with an empty cache and that release."""
    return g2s.using(HF_HOME=home, G2S_RELEASE_URL=release.url, **NO_PROXY)


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer({}) as server:
        yield server


@pytest.fixture
def on_hub(g2s: Command, hub: HubServer, home: Path) -> Command:
    """g2s with an empty cache and that Hub."""
    return g2s.using(HF_HOME=home, HF_ENDPOINT=hub.url, **NO_PROXY)


@pytest.fixture(scope="session")
def imported(installed: Installed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """HF_HOME with an imported category, for reading."""
    folder = tmp_path_factory.mktemp("imported")
    (folder / "owls.pt").write_bytes(fake_checkpoints.saved(fake_checkpoints.gan(32)))
    Command(installed, folder, {"HF_HOME": "hf"}).ok("weights", "import", "owls.pt", "--category", "owls")
    return folder / "hf"


@pytest.fixture
def owls(imported: Path, home: Path) -> Path:
    """The GAN's file of an imported category."""
    return shutil.copytree(imported, home) / "g2s" / "owls" / "gan.safetensors"
