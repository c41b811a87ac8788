"""Weights from the authors' release: the installed command against a local file server."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import fake_checkpoints
import pytest
from caches import ALL_OF_CAR, FACE, OUTSIDE, RELEASED, kept, members, noticed, one_sentence
from PIL import Image
from servers import Fault, FileServer

from g2s_cli.weights.categories import load_category


@pytest.mark.parametrize("name", RELEASED)
def test_from_the_release_to_a_mesh(
    g2s: Callable, archives: dict[str, dict[str, bytes]], home: Path, tmp_path: Path, name: str
) -> None:
    Image.open(FACE).resize((300, 260)).save(tmp_path / "photo.jpg")
    with FileServer(archives[name]) as server:
        environment = {"HF_HOME": str(home), "G2S_RELEASE_URL": server.url} | OUTSIDE
        for folder in ("out", "again"):
            quick = ("--iterations", 2 if folder == "out" else 0, "--json")
            answer = g2s("reconstruct", "photo.jpg", "-c", name, "-o", folder, *quick, **environment)
            assert answer.returncode == 0, answer.stderr
        assert [entry.path for entry in server.log] == ["/x00", "/x01", "/x02", "/x03"]  # once, and whole
    report = json.loads(answer.stdout)
    category = load_category(name)
    assert report["weights"].keys() == {*category.needs(category.preset("fast")), "parsing"}
    assert report["mask"] == category.mask.segmenter
    assert report["background"] == ("remove" if category.preset("fast").masked else "keep")
    out = tmp_path / "out"
    with Image.open(out / "input.png") as shown:
        assert shown.size == (category.working_size, category.working_size)
    assert (out / "mesh.glb").stat().st_size > 1000
    answer = g2s("rotate", "out", "--yaw", "5", "--by", "gan", HF_HOME=str(home), HF_HUB_OFFLINE="1", **OUTSIDE)
    assert answer.returncode == 0, answer.stderr
    with Image.open(out / "rotate" / "000.png") as turned:
        assert turned.size == (category.working_size, category.working_size)


def test_pull_verify_path_and_list(from_release: Callable, home: Path, release: FileServer) -> None:
    pulled = from_release("weights", "pull", "car")
    assert pulled.returncode == 0, pulled.stderr
    assert kept(home, "car") == ALL_OF_CAR
    paths = pulled.stdout.splitlines()
    assert from_release("weights", "path", "car").stdout.splitlines() == paths
    assert from_release("weights", "verify", "car").stdout.splitlines() == [f"ok  {path}" for path in paths]
    listed = json.loads(from_release("weights", "list", "--json").stdout)["categories"]
    assert next(row for row in listed if row["name"] == "car")["missing"] == []
    assert next(row for row in listed if row["name"] == "church")["missing"] == ["gan", "views", "lights", "parsing"]
    assert [row["name"] for row in listed if row["yours"] == ["gan"]] == ["horse", "own"]
    table = from_release("weights", "list").stdout
    assert all(row["name"] in table for row in listed)
    assert all(", ".join(row["presets"]) in table for row in listed)
    assert "instant, fast, paper, ellipsoid" in table
    asked = len(release.log)
    assert from_release("weights", "pull", "car").returncode == 0
    assert len(release.log) == asked  # nothing is fetched twice


def test_a_damaged_file_is_deleted_and_named(from_release: Callable, home: Path) -> None:
    from_release("weights", "pull", "car")
    said = noticed(from_release, "car", home / "g2s" / "car" / "gan.safetensors")
    assert "g2s weights pull car" in said
    assert from_release("weights", "pull", "car").returncode == 0
    assert from_release("weights", "verify").returncode == 0


@pytest.mark.parametrize("kind", ["cut", "wrong", "404", "disk"])
def test_a_pull_that_fails_leaves_no_bad_cache(
    from_release: Callable, home: Path, release: FileServer, kind: str
) -> None:
    if kind == "404":
        release.faults.append(Fault("x01", "status", status=404))
    elif kind == "disk":
        pytest.importorskip("resource")
    elif kind == "cut":
        release.files["/x03"] = release.files["/x03"][: len(release.files["/x03"]) // 2]  # for good
    else:
        release.faults.append(Fault("x02", "wrong"))
    if kind == "disk":
        home.mkdir()
        (home / "g2s").write_text("a file where the cache's folder should be")
        assert "g2s" in one_sentence(from_release("weights", "pull", "car"), 4)
        return
    said = one_sentence(from_release("weights", "pull", "car"), 4)
    assert said.startswith("g2s: ")
    assert kept(home, "car") == []
    release.faults.clear()
    release.files |= {} if kind != "cut" else fake_checkpoints.release(members("car"))
    assert from_release("weights", "pull", "car").returncode == 0
    assert kept(home, "car") == ALL_OF_CAR


def test_without_a_network_there_are_two_ways_out(g2s: Callable, home: Path) -> None:
    start = time.monotonic()
    answer = g2s("weights", "pull", "celeba", HF_HOME=str(home))
    assert time.monotonic() - start < 10
    said = one_sentence(answer, 4)
    assert "mirror" in said
    assert "g2s weights import FILE --category celeba" in said
    offline = g2s("weights", "pull", "celeba", HF_HOME=str(home), HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE forbids fetching" in one_sentence(offline, 4)
    assert kept(home, "celeba") == []


def test_two_processes_at_once_fetch_once(start: Callable, release: FileServer, home: Path) -> None:
    release.faults.append(Fault("x01", "slow", seconds=0.2))
    environment = {"HF_HOME": str(home), "G2S_RELEASE_URL": release.url} | OUTSIDE
    both = [start("weights", "pull", "car", **environment) for _ in range(2)]
    for process in both:
        stdout, stderr = process.communicate(timeout=60)
        assert process.returncode == 0, stderr
        assert len(stdout.splitlines()) == 4
    assert len(release.log) == 4
    assert kept(home, "car") == ALL_OF_CAR


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_pull_that_is_killed_leaves_no_bad_cache(
    start: Callable, from_release: Callable, release: FileServer, home: Path, how: signal.Signals
) -> None:
    release.faults.append(Fault("x01", "slow", seconds=0.5))
    process = start("weights", "pull", "car", HF_HOME=str(home), G2S_RELEASE_URL=release.url, **OUTSIDE)
    while not any(entry.path == "/x01" for entry in release.log):
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(how)
    process.communicate(timeout=30)
    assert process.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    if how == signal.SIGINT:
        assert kept(home, "car") == []
    assert not [name for name in kept(home, "car") if name.endswith((".json", ".safetensors"))]
    assert from_release("weights", "pull", "car").returncode == 0
    assert kept(home, "car") == ALL_OF_CAR
