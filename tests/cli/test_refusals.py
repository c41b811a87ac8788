"""What g2s refuses: one sentence on stderr, an exit code, nothing on stdout, nothing left on disk."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from shutil import copy

import pytest
from caches import FACE
from installed import Command
from PIL import Image

ROTATE, RELIGHT = ("rotate", "--yaw", "5"), ("relight", "--light", "0,0")


def truncated(path: Path) -> None:
    Image.open(FACE).save(path)
    path.write_bytes(path.read_bytes()[:1000])


def animated(path: Path) -> None:
    Image.new("RGB", (32, 32)).save(path, save_all=True, append_images=[Image.new("RGB", (32, 32), "red")])


@pytest.mark.parametrize(
    ("name", "make", "reason"),
    [
        ("nosuch.jpg", lambda _: None, "There is no file"),
        ("text.jpg", lambda path: path.write_text("not a photo"), "is not an image"),
        ("truncated.jpg", truncated, "is damaged or incomplete"),
        ("dot.png", lambda path: Image.new("RGB", (1, 1)).save(path), "1x1 pixels"),
        ("huge.png", lambda path: Image.new("1", (20_000, 20_000)).save(path), "too large"),
        ("moving.gif", animated, "holds several pictures"),
    ],
)
def test_an_unusable_photo_is_refused(
    tmp_path: Path, g2s: Command, name: str, make: Callable[[Path], object], reason: str
) -> None:
    make(tmp_path / name)
    before = sorted(tmp_path.iterdir())
    stderr = g2s.fails(3, "reconstruct", name, "-o", "result")
    assert stderr.startswith("g2s: ")
    assert reason in stderr
    assert name in stderr
    assert stderr.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


# A case's arguments after the command and its first argument, and a part of the message.
RECONSTRUCT = [
    ("--category synfacs", "Did you mean synface?"),
    ("--preset magic", "fast"),
    ("--device abacus", "abacus"),
    ("--category cat --device abacus", "abacus"),  # before anything is fetched
    ("--device meta", "There is no device 'meta' here."),
    ("--rasterizer embree", "'torch'"),
    ("-o full", "Name another folder with -o"),
    ("-o full --overwrite", "will not delete it"),
    ("--no-align --face 1", "exclude each other"),
    ("--crop 0,0,64,64 --face 1", "exclude each other"),
    ("--crop 0,0,64", "X,Y,W,H"),
    ("--crop 0,0,64,0", "is empty"),
    ("--crop 500,0,64,64", "lies outside"),
    ("--face 2", "one face"),
    (f"--seed {2**64}", "--seed"),
    ("- -o new", "- reads one photo from stdin, and 2 are named."),
    ("--hub-repo bad", "'bad' is no Hub repository."),
    ("--colour red", "--colour"),
]


def with_output(flags: str) -> str:
    return flags if "-o " in flags else f"-o new {flags}"


RESULTS = [
    ("rotate full --yaw=", "--yaw '' cannot be read"),
    ("rotate full --yaw abc", "--yaw 'abc' cannot be read"),
    ("rotate full --yaw left", "-20:20"),
    ("rotate full --yaw 5", "is not a g2s result folder"),
    (f"rotate {FACE} --yaw 5", f"Make one with: g2s reconstruct {FACE} -o FOLDER"),
    (f"relight {FACE} --light 0,0", "is not a g2s result folder"),
    ("rotate full --yaw 20 --frames 5", "there is one angle"),
    ("rotate full --frames 1001", "--frames"),
    ("rotate full --yaw -20:200", "-90 and 90"),
    ("rotate full --renderer paint", "--renderer"),
    ("relight full", "--light"),
    ("relight full --light 0.3", "two numbers X,Y"),
    ("relight full --light 0,nan", "two numbers X,Y"),
    ("relight full --light 0,0 --frames 5", "another --light"),
    ("relight full --light 0,0 --light 1,0 --frames 1001", "--frames"),
    ("mesh full --by gan", "No such option"),
    ("sample --hub-repo me/ -o new.png", "'me/' is no Hub repository."),
    (f"sample --seed {2**64}", "--seed"),
    (f"evaluate nowhere --seed {2**64}", "--seed"),
    (f"pretrain nowhere --seed {2**64}", "--seed"),
]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        *((("reconstruct", FACE, *with_output(flags).split()), message) for flags, message in RECONSTRUCT),
        *((tuple(command.split()), message) for command, message in RESULTS),
        (("reconstruct", "", "-o", "new"), "An argument is empty"),
        ((FACE, "-o", "new"), f"{FACE} is no command. Name one before it: g2s reconstruct {FACE}"),
    ],
    ids=lambda value: " ".join(map(str, value[2:])) if isinstance(value, tuple) else "",
)
def test_wrong_usage_is_refused(tmp_path: Path, g2s: Command, arguments: tuple[object, ...], message: str) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "diary.txt").touch()
    stderr = g2s.fails(2, *arguments)
    assert message in stderr
    assert stderr.count("\n") == 1 or "Usage: " in stderr  # Typer's own, in a frame
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "diary.txt"]


def test_a_file_may_have_the_name_of_a_command(tmp_path: Path, g2s: Command) -> None:
    (tmp_path / "rotate").touch()
    assert "is not a g2s result folder" in g2s.fails(2, "rotate", "nowhere", "--yaw", "5")
    assert "No such command" in g2s.fails(2, "x" * 300)


@pytest.mark.parametrize("verb", [ROTATE, RELIGHT])
def test_a_missing_device_is_refused_even_if_it_is_not_needed(g2s: Command, out: Path, verb: tuple[str, ...]) -> None:
    assert "There is no device 'bogus' here." in g2s.fails(2, verb[0], out, *verb[1:], "--device", "bogus")
    assert not (out / verb[0]).exists()


@pytest.mark.parametrize("option", ["--height-mm", "--thickness-mm"])
@pytest.mark.parametrize("size", ["inf", "nan", "1e300", "60"])
def test_impossible_sizes_of_a_body_are_refused(g2s: Command, out: Path, option: str, size: str) -> None:
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    solid, message = ([], f"{option} is a size of a solid body. Add --solid") if size == "60" else (["--solid"], option)
    stderr = g2s.fails(2, "mesh", out, *solid, option, size)
    assert message in stderr
    assert "Warning" not in stderr
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize("option", ["", "--mask", "--gan", "--latent"])
def test_a_folder_that_holds_an_input_is_not_replaced(g2s: Command, out: Path, option: str) -> None:
    copy(FACE, out / "mine.png")
    arguments = [FACE, option, "out/mine.png"] if option else ["out/mine.png"]
    message = g2s.fails(2, "reconstruct", *arguments, "-o", "out", "--overwrite")
    assert "g2s: out/mine.png lies in out, which would be replaced. Move it out of there, or name" in message
    assert (out / "mine.png").exists()


@pytest.mark.parametrize("verb", [ROTATE, RELIGHT])
def test_a_damaged_result_is_refused(g2s: Command, out: Path, verb: tuple[str, ...]) -> None:
    state = out / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-100])
    stderr = g2s.fails(1, verb[0], out, *verb[1:])
    assert "is damaged" in stderr
    assert stderr.count("\n") == 1
    assert not (out / verb[0]).exists()


def test_verbose_prints_a_traceback(g2s: Command) -> None:
    answer = g2s("reconstruct", "nosuch.jpg", "-v")
    assert answer.returncode == 3
    assert "Traceback" in answer.stderr
    assert answer.stderr.splitlines()[-1].startswith("g2s: There is no file")


@pytest.mark.parametrize(
    ("how", "code"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow),
    ],
)
def test_a_signal_halfway_leaves_nothing(tmp_path: Path, start: Callable, how: signal.Signals, code: int) -> None:
    process = start("reconstruct", FACE, "-o", "result")
    assert process.stderr.readline().split()[0] == "load"  # the first step is over, the next under way
    process.send_signal(how)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (code, "")
    assert stderr.splitlines()[-1] == "g2s: Stopped; nothing half written is left."
    assert "Traceback" not in stderr
    assert list(tmp_path.iterdir()) == []
