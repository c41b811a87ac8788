"""Weights from the authors' release: the installed command against a local file server."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import fake_checkpoints
import pytest
from caches import ALL_OF_CAR, FACE, NO_PROXY, RELEASED, cached, members, verify_after_damage
from installed import Command
from PIL import Image
from servers import Fault, FileServer

from g2s_cli.weights.categories import load_category, required_parts

PULL = ("weights", "pull", "car")


@pytest.mark.slow
@pytest.mark.parametrize("name", RELEASED)
def test_a_released_category_makes_a_mesh_and_gan_pictures(
    g2s: Command, archive_of: Callable[[str], dict[str, bytes]], home: Path, tmp_path: Path, name: str
) -> None:
    Image.open(FACE).resize((300, 260)).save(tmp_path / "photo.jpg")
    g2s, category = g2s.using(HF_HOME=home, **NO_PROXY), load_category(name)
    with FileServer(archive_of(name)) as server:
        for folder, iterations in (("out", 2), ("again", 0)):
            command = ("reconstruct", "photo.jpg", "-c", name, "-o", folder, "--iterations", iterations)
            report = g2s.using(G2S_RELEASE_URL=server.url).json(*command)
        assert [entry.path for entry in server.log] == ["/x00", "/x01", "/x02", "/x03"]  # once, and whole
    fast = category.preset("fast")
    assert report["weights"].keys() == {*required_parts(category, networks=fast.needs_networks), "parsing"}
    assert report["mask"] == category.mask_rule.segmenter
    assert report["background"] == ("remove" if fast.masked else "keep")
    out, size = tmp_path / "out", (category.working_size, category.working_size)
    assert Image.open(out / "input.png").size == size
    assert (out / "mesh.glb").stat().st_size > 1000
    g2s.using(HF_HUB_OFFLINE="1").ok("rotate", "out", "--yaw", "5", "--renderer", "gan")
    assert Image.open(out / "rotate" / "000.png").size == size


def test_pull_verify_path_and_list(from_release: Command, home: Path, release: FileServer) -> None:
    paths = from_release.ok(*PULL).stdout.splitlines()
    assert cached(home, "car") == ALL_OF_CAR
    assert from_release.ok("weights", "path", "car").stdout.splitlines() == paths
    assert from_release.ok("weights", "verify", "car").stdout.splitlines() == [f"ok  {path}" for path in paths]
    rows = {row["name"]: row for row in from_release.json("weights", "list")["categories"]}
    assert rows["car"]["missing"] == []
    assert rows["church"]["missing"] == ["gan", "views", "lights", "parsing"]
    assert [name for name, row in rows.items() if row["yours"] == ["gan"]] == ["horse", "own"]
    table = from_release.ok("weights", "list").stdout
    assert all(name in table and all(preset in table for preset in row["presets"]) for name, row in rows.items())
    assert max(map(len, table.splitlines())) <= 80
    assert [name for name, row in rows.items() if row["ready"]] == ["car", "portrait", "synface"]
    assert rows["car"]["bytes"] == sum(Path(path).stat().st_size for path in paths)
    assert "licence: MIT" in from_release.ok("weights", "list", "-v").stdout
    assert from_release.json("weights", "verify", "car") == {"files": paths, "problems": []}
    requests = len(release.log)
    from_release.ok(*PULL)
    assert len(release.log) == requests  # nothing is fetched twice


def test_verify_deletes_a_damaged_file_and_pull_replaces_it(from_release: Command, home: Path) -> None:
    from_release.ok(*PULL)
    stderr = verify_after_damage(from_release, "car", home / "g2s" / "car" / "gan.safetensors")
    assert "g2s weights pull car" in stderr
    from_release.ok(*PULL)
    from_release.ok("weights", "verify")


@pytest.mark.parametrize("kind", ["cut", "wrong", "404"])
def test_a_failed_pull_leaves_an_empty_cache(from_release: Command, home: Path, release: FileServer, kind: str) -> None:
    if kind == "cut":
        release.files["/x03"] = release.files["/x03"][: len(release.files["/x03"]) // 2]  # for good
    else:
        release.faults.append(Fault("x01", "status", status=404) if kind == "404" else Fault("x02", "wrong"))
    assert from_release.fails(4, *PULL).splitlines()[-1].startswith("g2s: ")
    assert cached(home, "car") == []
    release.faults.clear()
    release.files |= fake_checkpoints.release(members("car")) if kind == "cut" else {}
    from_release.ok(*PULL)
    assert cached(home, "car") == ALL_OF_CAR


def test_a_cache_that_cannot_be_written_is_named(from_release: Command, home: Path) -> None:
    home.mkdir()
    (home / "g2s").write_text("a file where the cache's folder should be")
    assert "g2s" in from_release.fails(4, *PULL)


def test_without_a_network_remedies_are_those_that_help(g2s: Command, home: Path) -> None:
    g2s, start = g2s.using(HF_HOME=home), time.monotonic()
    message = g2s.fails(4, "weights", "pull", "celeba").splitlines()[-1]
    assert time.monotonic() - start < 10
    file, embedded = "bring a file you have: g2s weights import FILE --category celeba", "--category portrait"
    assert message.endswith(f"Name a mirror (G2S_RELEASE_URL), or {file}; or take what is embedded: {embedded}")
    assert embedded not in g2s.fails(4, "weights", "pull", "car")
    offline = g2s.using(HF_HUB_OFFLINE="1").fails(4, "weights", "pull", "celeba")
    assert "HF_HUB_OFFLINE forbids fetching. Unset it, or bring a file" in offline
    on_hub = g2s.using(HF_ENDPOINT="http://127.0.0.1:9").fails(4, "weights", "pull", "celeba", "--hub-repo", "a/b")
    assert f"Name a mirror (HF_ENDPOINT), or {file}; or take" in on_hub
    assert cached(home, "celeba") == []


@pytest.mark.slow
def test_two_processes_at_once_fetch_once(
    start: Callable, from_release: Command, release: FileServer, home: Path
) -> None:
    release.faults.append(Fault("x01", "slow", seconds=0.2))
    both = [start(*PULL, **from_release.environment) for _ in range(2)]
    for process in both:
        stdout, stderr = process.communicate(timeout=60)
        assert process.returncode == 0, stderr
        assert len(stdout.splitlines()) == 4
    assert len(release.log) == 4
    assert cached(home, "car") == ALL_OF_CAR


@pytest.mark.parametrize("how", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_a_killed_pull_leaves_no_bad_file(
    start: Callable, from_release: Command, release: FileServer, home: Path, how: signal.Signals
) -> None:
    release.faults.append(Fault("x01", "slow", seconds=0.5))
    process = start(*PULL, **from_release.environment)
    while not any(entry.path == "/x01" for entry in release.log):
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(how)
    process.communicate(timeout=30)
    assert process.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    if how == signal.SIGINT:
        assert cached(home, "car") == []
    assert not [name for name in cached(home, "car") if name.endswith((".json", ".safetensors"))]
    from_release.ok(*PULL)
    assert cached(home, "car") == ALL_OF_CAR
