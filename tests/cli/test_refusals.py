"""What g2s refuses: one sentence on stderr, its exit code, nothing on stdout, nothing left on disk."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from shutil import copy

import pytest
from PIL import Image

FACE = Path(__file__).parent.parent / "data" / "face.png"
Files = Callable[[Path], object]


def truncated(path: Path) -> None:
    Image.open(FACE).save(path)
    path.write_bytes(path.read_bytes()[:1000])


def animated(path: Path) -> None:
    Image.new("RGB", (32, 32)).save(path, save_all=True, append_images=[Image.new("RGB", (32, 32), "red")])


BAD_PHOTOS: dict[str, tuple[Files, str]] = {
    "nosuch.jpg": (lambda _: None, "There is no file"),
    "text.jpg": (lambda path: path.write_text("not a photo"), "is not an image"),
    "truncated.jpg": (truncated, "is damaged or incomplete"),
    "dot.png": (lambda path: Image.new("RGB", (1, 1)).save(path), "1x1 pixels"),
    "huge.png": (lambda path: Image.new("1", (20_000, 20_000)).save(path), "too large"),
    "moving.gif": (animated, "holds several pictures"),
}


@pytest.mark.parametrize("name", BAD_PHOTOS)
def test_photos_that_cannot_be_used(tmp_path: Path, g2s: Callable, name: str) -> None:
    make, reason = BAD_PHOTOS[name]
    make(tmp_path / name)
    before = sorted(tmp_path.iterdir())
    answer = g2s("reconstruct", name, "-o", "result")
    assert answer.returncode == 3
    assert answer.stdout == ""
    assert answer.stderr.startswith("g2s: ")
    assert reason in answer.stderr
    assert name in answer.stderr
    assert answer.stderr.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


BAD_USAGE = {
    "unknown category": (["reconstruct", FACE, "--category", "synfacs", "-o", "new"], "Did you mean synface?"),
    "unknown preset": (["reconstruct", FACE, "--preset", "magic", "-o", "new"], "fast"),
    "no photo's name": (["reconstruct", "", "-o", "new"], "An argument is empty"),
    "empty angle": (["rotate", "full", "--yaw="], "--yaw '' cannot be read"),
    "odd angle": (["rotate", "full", "--yaw", "abc"], "--yaw 'abc' cannot be read"),
    "unknown device": (["reconstruct", FACE, "--device", "abacus", "-o", "new"], "abacus"),
    "unknown device, nothing fetched": (
        ["reconstruct", FACE, "--category", "cat", "--device", "abacus", "-o", "new"],
        "abacus",
    ),
    "folder in the way": (["reconstruct", FACE, "-o", "full"], "Name another folder with -o"),
    "somebody's folder": (["reconstruct", FACE, "-o", "full", "--overwrite"], "will not delete it"),
    "not a result": (["rotate", "full", "--yaw", "5"], "is not a g2s result folder"),
    "no light": (["relight", "full"], "--light"),
    "half a light": (["relight", "full", "--light", "0.3"], "two numbers X,Y"),
    "no number": (["relight", "full", "--light", "0,nan"], "two numbers X,Y"),
    "frames of one light": (["relight", "full", "--light", "0,0", "--frames", "5"], "another --light"),
    "face without align": (["reconstruct", FACE, "--no-align", "--face", "1", "-o", "new"], "exclude each other"),
    "crop and face": (["reconstruct", FACE, "--crop", "0,0,64,64", "--face", "1", "-o", "new"], "exclude each other"),
    "half a crop": (["reconstruct", FACE, "--crop", "0,0,64", "-o", "new"], "X,Y,W,H"),
    "empty crop": (["reconstruct", FACE, "--crop", "0,0,64,0", "-o", "new"], "is empty"),
    "crop elsewhere": (["reconstruct", FACE, "--crop", "500,0,64,64", "-o", "new"], "lies outside"),
    "too few faces": (["reconstruct", FACE, "--face", "2", "-o", "new"], "one face"),
    "no angle": (["rotate", "full", "--yaw", "left"], "-20:20"),
    "seed beyond torch's": (["reconstruct", FACE, "--seed", str(2**64), "-o", "new"], "--seed"),
    "no real device": (["reconstruct", FACE, "--device", "meta", "-o", "new"], "There is no device 'meta' here."),
    "stdin and a file": (["reconstruct", "-", FACE, "-o", "new"], "- reads one photo from stdin, and 2 are named."),
    "no hub repository": (["reconstruct", FACE, "--hub-repo", "bad", "-o", "new"], "'bad' is no Hub repository."),
    "no hub repository to list": (["sample", "--hub-repo", "me/", "-o", "new.png"], "'me/' is no Hub repository."),
    "frames of one angle": (["rotate", "full", "--yaw", "20", "--frames", "5"], "there is one angle"),
    "too many turns": (["rotate", "full", "--frames", "1001"], "--frames"),
    "too many lights": (["relight", "full", "--light", "0,0", "--light", "1,0", "--frames", "1001"], "--frames"),
    "too far": (["rotate", "full", "--yaw", "-20:200"], "-90 and 90"),
}


@pytest.mark.parametrize("verb", ["evaluate", "pretrain", "sample"])
def test_seeds_are_those_that_torch_has(g2s: Callable, verb: str) -> None:
    answer = g2s(verb, *([] if verb == "sample" else ["nowhere"]), "--seed", str(2**64))
    assert answer.returncode == 2
    assert "--seed" in answer.stderr


@pytest.mark.parametrize("verb", [("rotate", "--yaw", "5"), ("relight", "--light", "0,0")])
def test_a_device_that_is_not_here_is_refused_by_what_does_not_need_it(
    g2s: Callable, out: Path, verb: tuple[str, ...]
) -> None:
    answer = g2s(verb[0], out, *verb[1:], "--device", "bogus")
    assert answer.returncode == 2
    assert "There is no device 'bogus' here." in answer.stderr
    assert not (out / verb[0]).exists()


@pytest.mark.parametrize("option", ["--height-mm", "--thickness-mm"])
@pytest.mark.parametrize("size", ["inf", "nan", "1e300"])
def test_bodies_of_no_size(g2s: Callable, out: Path, option: str, size: str) -> None:
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    answer = g2s("mesh", out, "--solid", option, size)
    assert answer.returncode == 2
    assert option in answer.stderr
    assert "Warning" not in answer.stderr
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize("option", ["--height-mm", "--thickness-mm"])
def test_sizes_of_a_body_that_nobody_asked_for(g2s: Callable, out: Path, option: str) -> None:
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    answer = g2s("mesh", out, option, "60")
    assert answer.returncode == 2
    assert f"{option} is of a body for printing. Add --solid" in answer.stderr
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize("case", BAD_USAGE)
def test_usage_that_cannot_be_meant(tmp_path: Path, g2s: Callable, case: str) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "diary.txt").touch()
    arguments, hint = BAD_USAGE[case]
    answer = g2s(*arguments)
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert hint in answer.stderr
    assert answer.stderr.count("\n") == 1 or "Usage: " in answer.stderr  # Typer's own, in a frame
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "diary.txt"]


@pytest.mark.parametrize("option", ["", "--mask", "--gan", "--latent"])
def test_a_folder_that_holds_what_is_read_is_not_replaced(g2s: Callable, out: Path, option: str) -> None:
    copy(FACE, out / "mine.png")
    arguments = [FACE, option, "out/mine.png"] if option else ["out/mine.png"]
    answer = g2s("reconstruct", *arguments, "-o", "out", "--overwrite")
    assert (answer.returncode, answer.stdout) == (2, "")
    assert "g2s: out/mine.png lies in out, which would be replaced. Move it out of there, or name" in answer.stderr
    assert (out / "mine.png").exists()


def test_options_that_do_not_exist_are_typers_to_refuse(g2s: Callable) -> None:
    answer = g2s("reconstruct", FACE, "--colour", "red")
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert "--colour" in answer.stderr


@pytest.mark.parametrize("verb", [("rotate", "--yaw", "5"), ("relight", "--light", "0,0")])
def test_a_damaged_result(g2s: Callable, out: Path, verb: tuple[str, ...]) -> None:
    state = out / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-100])
    answer = g2s(verb[0], out, *verb[1:])
    assert answer.returncode == 1
    assert "is damaged" in answer.stderr
    assert answer.stderr.count("\n") == 1
    assert not (out / verb[0]).exists()


def test_verbose_shows_where_a_failure_comes_from(g2s: Callable) -> None:
    answer = g2s("reconstruct", "nosuch.jpg", "-v")
    assert answer.returncode == 3
    assert "Traceback" in answer.stderr
    assert answer.stderr.splitlines()[-1].startswith("g2s: There is no file")


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_stopped_halfway_it_leaves_nothing(tmp_path: Path, start: Callable, how: signal.Signals, code: int) -> None:
    if how == signal.SIGHUP:
        signal.signal(how, signal.SIG_DFL)  # under nohup it is ignored, and g2s would inherit that
    process = start("reconstruct", FACE, "-o", "result")
    line = process.stderr.readline()  # the first step is over, the next under way
    assert "iterations" in line
    process.send_signal(how)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == code
    assert stdout == ""
    assert stderr.splitlines()[-1] == "g2s: Stopped; nothing was written."
    assert "Traceback" not in stderr
    assert list(tmp_path.iterdir()) == []
