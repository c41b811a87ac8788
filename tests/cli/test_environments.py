"""Where g2s runs: locales, containers without home and temporary folders, deleted folders, read-only results."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from caches import COARSE, FACE
from installed import Command, Installed

QUICK = ("--preset", "instant", "--iterations", 0, *COARSE)
IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
# Everything but the working folder is read-only, and there is no home.
CONTAINER = """
mount --make-rprivate / && mount -o remount,ro,bind / || exit 77
for place in /tmp /var/tmp /dev/shm /run; do mount -o bind,ro $place $place && mount -o remount,bind,ro $place; done
mount -t tmpfs none "$1" || exit 77
cd /; shift; exec env -u HOME -u TMPDIR "$@"
"""


@pytest.fixture
def run(tmp_path: Path, installed: Installed) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """Run g2s in a new process; what it prints, as bytes."""

    def run(*words: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "g2s_cli", *map(str, words)]
        return subprocess.run(
            command, cwd=tmp_path, env=installed.environment | environment, capture_output=True, check=False
        )

    return run


@pytest.mark.slow
def test_a_photo_with_any_name_in_the_c_locale(run: Callable, tmp_path: Path) -> None:
    shutil.copy(FACE, tmp_path / "лицо é.png")
    answer = run("reconstruct", "лицо é.png", *QUICK, "-o", "вон", LC_ALL="C", PYTHONUTF8="0")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines()[0] == os.fsencode("вон")


@pytest.mark.slow
def test_a_result_with_any_name_in_the_c_locale(run: Callable, out: Path) -> None:
    out.rename(out.with_name("вон"))
    answer = run("rotate", "вон", "--yaw", 5, LC_ALL="C", PYTHONUTF8="0")
    assert answer.stdout.splitlines() == [os.fsencode("вон/rotate/000.png")]


@pytest.mark.skipif(not IS_ROOT, reason="only root mounts")
def test_a_read_only_container_without_home_and_temporary_folder(tmp_path: Path, installed: Installed) -> None:
    script = ["unshare", "-m", "sh", "-c", CONTAINER, "sh", str(tmp_path), sys.executable, "-m", "g2s_cli"]
    command = [*script, "reconstruct", "-", *map(str, QUICK), "-o", str(tmp_path)]
    environment = {name: value for name, value in installed.environment.items() if name not in {"HF_HOME", "G2S_CACHE"}}
    answer = subprocess.run(command, env=environment, input=Path(FACE).read_bytes(), capture_output=True, check=False)
    if answer.returncode == 77:
        pytest.skip("mounting is not allowed here")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines()[0] == os.fsencode(tmp_path)


def test_a_deleted_current_folder_is_reported(tmp_path: Path, installed: Installed) -> None:
    command = f'mkdir gone && cd gone && rmdir ../gone && exec "{sys.executable}" -m g2s_cli sample'
    answer = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, env=installed.environment, capture_output=True, text=True, check=False
    )
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr == "g2s: The current folder has been deleted. Go to another one.\n"


def test_the_current_folder_can_be_the_result(g2s: Command, tmp_path: Path) -> None:
    for flags in ((), ("--overwrite",)):
        g2s.ok("reconstruct", FACE, *QUICK, "-o", ".", *flags)
        assert (tmp_path / "mesh.glb").is_file()
        assert not list(tmp_path.glob(".*"))
    assert "Add --overwrite" in g2s.fails(2, "reconstruct", FACE, *QUICK, "-o", ".")


@pytest.mark.parametrize("name", ["x" * 255, "人" * 85])
def test_names_as_long_as_the_file_system_takes(g2s: Command, tmp_path: Path, name: str) -> None:
    photo = f"a.{'x' * 253}"
    shutil.copy(FACE, tmp_path / photo)
    g2s.ok("reconstruct", photo, *QUICK, "-o", name)
    assert (tmp_path / name / "mesh.glb").is_file()
    assert (tmp_path / name / "original").is_file()
    message = g2s.fails(2, "reconstruct", FACE, *QUICK, "-o", f"{name}x")
    assert "cannot be written: File name too long. Use a shorter name." in message
