"""Many photos over worker processes and over a Ray cluster of two nodes, of which one worker is killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from caches import FACE
from PIL import Image, ImageEnhance, ImageOps
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

QUICK = ("--preset", "instant", "--iterations", 1)
ALONE = {"command", "seconds"}  # of a report: what differs between two runs


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with six pictures of a face."""
    folder = tmp_path / "photos"
    folder.mkdir()
    with Image.open(FACE) as face:
        for number in range(6):
            picture = ImageEnhance.Brightness(face.convert("RGB")).enhance(0.8 + 0.1 * number)
            (ImageOps.mirror(picture) if number % 2 else picture).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def cluster() -> Iterator[tuple[str, list[int]]]:
    """The address and the processes of a Ray cluster of two nodes on the loopback, each with one processor."""
    pytest.importorskip("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    ray = [Path(sys.executable).with_name("ray"), "start", "--block", "--num-cpus=1", "--disable-usage-stats"]
    ray += ["--node-ip-address=127.0.0.1", f"--object-store-memory={10**8}"]
    nodes = []
    with TemporaryDirectory(prefix="ray-") as folder:  # in /tmp: paths of sockets have at most 107 bytes
        try:
            for place in (
                [f"--port={address[10:]}", "--head", f"--temp-dir={folder}", "--include-dashboard=false"],
                [f"--address={address}"],
            ):
                environment = os.environ | {"RAY_worker_niceness": "0"}  # Ray's own 15 starves beside other tests
                nodes.append(subprocess.Popen([*ray, *place], env=environment, stdout=subprocess.PIPE, text=True))
                assert any("Ray runtime started" in line for line in nodes[-1].stdout)
            yield address, [node.pid for node in nodes]
        finally:
            for node in reversed(nodes):
                node.terminate()
                node.communicate(timeout=60)


def contents(folder: Path) -> dict[str, object]:
    """The files of a result, without what differs between two runs."""
    files: dict[str, object] = {}
    for path in folder.iterdir():
        if path.suffix == ".safetensors":
            files[path.name] = {name: tensor.tolist() for name, tensor in load_file(path).items()}
        elif path.name == "report.json":
            files[path.name] = {k: v for k, v in json.loads(path.read_text()).items() if k not in ALONE}
        else:
            files[path.name] = path.read_bytes()
    return files


def workers_of(parents: list[int], title: str) -> list[int]:
    """The processes below some processes whose command line contains a title."""
    commands, children = {}, defaultdict(list)
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            commands[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
            children[int((folder / "stat").read_text().rpartition(")")[2].split()[1])].append(int(folder.name))
    below = [child for parent in parents for child in children[parent]]
    found = [process for process in below if title in commands.get(process, "")]
    return found + (workers_of(below, title) if below else [])


@pytest.mark.parametrize("kind", ["processes", "ray"])
def test_results_are_those_of_one_process_though_a_worker_is_killed(
    start: Callable, photos: Path, tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    address, nodes = request.getfixturevalue("cluster") if kind == "ray" else (None, [])
    where = ("--ray", address) if address else ("--workers", 2)
    process = start("reconstruct", "photos", *QUICK, "-o", "out", *where)
    assert process.stderr.readline().startswith("1/6")
    title = "ray::RayWorker.reconstruct" if address else "spawn_main"
    os.kill(workers_of(nodes or [process.pid], title)[0], signal.SIGKILL)
    _, stderr = process.communicate(timeout=900)
    assert process.returncode == 0, stderr
    assert "A worker ended" in stderr
    alone = start("reconstruct", "photos", *QUICK, "-o", "alone")
    assert alone.communicate(timeout=900) and alone.returncode == 0
    for number in range(6):
        assert contents(tmp_path / "out" / str(number)) == contents(tmp_path / "alone" / str(number))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [*"012345", "g2s-summary.json"]

    (photos / "6.png").write_text("no photo")
    Image.open(FACE).save(photos / "7.png")
    answer = start("reconstruct", "photos", *QUICK, "-o", "out", *where)
    stdout, stderr = answer.communicate(timeout=900)
    assert answer.returncode == 3, stderr
    assert "photos/6.png is not an image that g2s can read" in stderr
    summary = json.loads((tmp_path / "out" / "g2s-summary.json").read_text())
    assert [photo["state"] for photo in summary["photos"]] == [*["kept"] * 6, "failed", "made"]
    assert stdout.splitlines() == [f"out/{number}" for number in (0, 1, 2, 3, 4, 5, 7)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_whole_results_and_no_process(
    start: Callable, photos: Path, tmp_path: Path, number: signal.Signals
) -> None:
    process = start("reconstruct", "photos", *QUICK, "-o", "out", "--workers", 2, TMPDIR=str(tmp_path))
    assert process.stderr.readline().startswith("1/6")
    workers = workers_of([process.pid], "spawn_main")
    assert len(workers) == 2
    process.send_signal(number)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 128 + number
    assert "of 6 results are whole. The same command goes on." in stderr
    assert "Traceback" not in stderr
    time.sleep(1)
    assert not [worker for worker in workers if Path(f"/proc/{worker}").exists()]
    assert not list(tmp_path.glob("g2s-*"))
    results = [path for path in (tmp_path / "out").iterdir() if path.is_dir()]
    assert results
    assert all((path / "mesh.glb").is_file() and (path / "report.json").is_file() for path in results)


def test_evaluate_has_the_scores_of_one_process(start: Callable, photos: Path, tmp_path: Path) -> None:
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    bump = np.where(x**2 + y**2 < 0.8, 0.3 + 0.4 * np.sqrt(np.clip(0.81 - x**2 - y**2, 0, None)), 0)
    for part in ("image", "depth"):
        (tmp_path / "data" / part).mkdir(parents=True)
    for number in range(3):
        (photos / f"{number}.png").rename(tmp_path / "data" / "image" / f"{number}_image.png")
        depth = Image.fromarray((bump * (50000 + 5000 * number)).astype(np.uint16))
        depth.save(tmp_path / "data" / "depth" / f"{number}_depth.png")
    summaries = []
    for out, workers in (("one", 1), ("two", 2)):
        process = start("evaluate", "data", *QUICK, "-o", out, "--workers", workers, "--json")
        stdout, stderr = process.communicate(timeout=900)
        assert process.returncode == 0, stderr
        summaries.append(json.loads(stdout))
        del summaries[-1]["figures"]["seconds"]
    assert summaries[0] == summaries[1]
