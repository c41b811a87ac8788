"""g2s relight and rotate: the pictures, what is printed, and the streams it goes to."""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from installed import SCRIPT, Command
from PIL import Image

from g2s_cli import __version__
from g2s_cli.geometry.placement import Placement
from g2s_cli.result.schema import Result
from g2s_cli.result.write import write_result


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(float)


def red(image: np.ndarray) -> np.ndarray:
    """Rows and columns of the result's red nose."""
    return np.array(np.nonzero(image[..., 0] - image[..., 1:].max(axis=-1) > 100))


def error(out: Path, picture: Path) -> float:
    """Mean difference from the photo in grey levels, inside the mask."""
    mask = pixels(out / "mask.png")[..., 0] == 255
    return np.abs(pixels(picture) - pixels(out / "input.png"))[mask].mean()


def test_version_and_help(g2s: Command) -> None:
    assert g2s("--version").stdout == f"g2s {__version__}\n"
    text = g2s.ok("--help").stdout
    for word in ("reconstruct", "relight", "rotate", "Exit codes", "Examples", "--install-completion"):
        assert word in text


@pytest.mark.parametrize(
    "code",
    [
        "import g2s_cli.app",
        "from pathlib import Path\n"
        "from g2s_cli.commands.reconstruct import reconstruct\n"
        "from g2s_cli.errors import ImageError\n"
        "try: reconstruct([Path(sys.argv[1])])\n"
        "except ImageError: pass\n"
        "else: sys.exit(2)",
    ],
    ids=["help", "a wrong path"],
)
def test_torch_is_not_imported_for(tmp_path: Path, code: str) -> None:
    script = f"import sys\n{code}\nsys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "nosuch.png")], check=True)


@pytest.fixture
def leaning(result: Result, tmp_path: Path) -> Path:
    """The result of a camera that lay on its side: the crop's top is on the photo's right."""
    file = io.BytesIO()
    Image.fromarray(result.aligned).transpose(Image.Transpose.ROTATE_270).save(file, format="PNG")
    lying = Placement(31.5, 31.5, 64.0, math.radians(90))
    write_result(replace(result, placement=lying, original=file.getvalue()), tmp_path / "leaning")
    return tmp_path / "leaning"


def test_a_light_is_where_the_pictures_show_it(g2s: Command, out: Path, leaning: Path) -> None:
    light = json.loads((out / "light.json").read_text())
    x, y = light["x"], light["y"]

    def lit(folder: Path, *arguments: str | Path) -> tuple[np.ndarray, np.ndarray]:
        g2s.ok("relight", folder, *arguments, "--paste-back", "--overwrite")
        return pixels(folder / "relight" / "000.png"), pixels(folder / "relight" / "in_place_000.png")

    # The top of the leaning result's crop is on the right in its photo.
    for folder, other, in_photo in ((out, leaning, (y, -x)), (leaning, out, (x, y))):
        crop, photo = lit(folder, "--light-from", other)
        assert np.abs(crop - lit(folder, f"--light={x},{y}")[0]).max() <= 1
        assert np.abs(photo - lit(folder, f"--light={in_photo[0]},{in_photo[1]}")[1]).max() <= 1
    assert np.abs(photo - pixels(leaning / "original.png")).max() > 10


def test_its_own_view_and_light_give_the_photo(g2s: Command, out: Path) -> None:
    picture = out / "rotate" / "000.png"
    assert g2s.ok("rotate", out, "--yaw", "0:0").stdout.splitlines() == [str(picture)]
    assert error(out, picture) < 4
    g2s.ok("relight", out, "--light-from", out)
    assert error(out, out / "relight" / "000.png") < 4
    g2s.ok("relight", out, "--light", "-1,0", "--overwrite")
    assert error(out, out / "relight" / "000.png") > 10


@pytest.mark.parametrize("verb", [("rotate", "--yaw", "10"), ("relight", "--light", "0,0")])
@pytest.mark.parametrize("flag", ["--renderer", "--by"])
def test_size_is_that_of_the_mesh_renderer(g2s: Command, out: Path, verb: tuple[str, ...], flag: str) -> None:
    command = (verb[0], out, *verb[1:], "--size", "100")
    assert g2s.json(*command, flag, "mesh")["by"] == "mesh"
    assert pixels(out / verb[0] / "000.png").shape == (100, 100, 3)
    assert g2s.fails(2, *command, f"{flag}=gan", "--overwrite").startswith(
        "g2s: What the GAN paints has the GAN's own size. "
    )


def test_positive_yaw_turns_right_and_positive_pitch_up(g2s: Command, out: Path) -> None:
    answer = g2s.ok("rotate", out, "--yaw", "-20:20", "--frames", "5", "--json")
    assert answer.stderr == ""
    frames = json.loads(answer.stdout)["frames"]
    assert [round(frame["yaw_deg"]) for frame in frames] == [-20, -10, 0, 10, 20]
    with Image.open(out / "rotate" / "rotate.gif") as gif:
        assert gif.n_frames == 8  # forth and back
    columns = [red(pixels(Path(frame["file"])))[1].mean() for frame in frames]
    assert (np.diff(columns) > 1).all()
    g2s.ok("rotate", out, "--pitch", "-15:15", "--frames", "2", "--overwrite")
    down, up = (red(pixels(out / "rotate" / f"00{k}.png"))[0].mean() for k in range(2))
    assert up < down - 3


def test_a_light_brightens_its_own_side(g2s: Command, out: Path) -> None:
    lights = ("--light", "-1,0", "--light", "1,0", "--light", "0,1", "--light", "0,-1")
    names = [Path(line).name for line in g2s.ok("relight", out, *lights).stdout.splitlines()]
    assert names == ["000.png", "001.png", "002.png", "003.png", "relight.gif"]
    mask = pixels(out / "mask.png").mean(axis=-1) > 127
    left, right, top, bottom = (pixels(out / "relight" / f"{k:03d}.png").mean(axis=-1) for k in range(4))
    for axis, brightening in ((1, right - left), (0, bottom - top)):
        position = np.where(mask, np.indices(mask.shape)[axis], np.nan)
        middle = np.nanmedian(position)
        assert brightening[position > middle + 8].mean() > 10
        assert brightening[position < middle - 8].mean() < -10


def test_frames_move_from_light_to_light_and_replace_earlier_ones_if_asked(g2s: Command, out: Path) -> None:
    g2s.ok("relight", out, *["--light", "0,0"] * 3)
    before = {path.name: path.read_bytes() for path in (out / "relight").iterdir()}
    command = ("relight", out, "--light", "-1,0", "--light", "1,0.5", "--frames", "2", "-q")
    assert "relight exists and is not empty. Add --overwrite to replace it, or name another" in g2s.fails(2, *command)
    assert {path.name: path.read_bytes() for path in (out / "relight").iterdir()} == before
    document = g2s.json(*command, "--overwrite")
    assert [frame["light"] for frame in document["frames"]] == [[-1, 0], [1, 0.5]]
    assert sorted(path.name for path in (out / "relight").iterdir()) == ["000.png", "001.png", "relight.gif"]


@pytest.mark.parametrize("verb", [("rotate", "--yaw", "-5:5", "--frames", "2"), ("relight", *["--light", "0,0"] * 2)])
def test_pictures_go_elsewhere_and_the_result_stays(g2s: Command, out: Path, tmp_path: Path, verb: tuple) -> None:
    before = sorted(out.rglob("*"))
    for path in [*before, out]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    printed = g2s.ok(verb[0], out, *verb[1:], "-o", "new/pictures", "--size", "32").stdout.splitlines()
    assert [tmp_path / line for line in printed] == sorted((tmp_path / "new" / "pictures").iterdir())
    assert [Path(line).name for line in printed] == ["000.png", "001.png", f"{verb[0]}.gif"]
    assert sorted(out.rglob("*")) == before
    assert "lies in out, which would be replaced" in g2s.fails(2, verb[0], out, *verb[1:], "-o", "out")


def test_an_orbit_is_a_loop_around_the_photos_view(g2s: Command, out: Path) -> None:
    command = ("rotate", out, "--orbit", "10", "--size", "32")
    frames = g2s.json(*command, "--frames", "8", "--format", "webp", "--fps", "20")["frames"]
    turns = np.array([(frame["yaw_deg"], frame["pitch_deg"]) for frame in frames])
    np.testing.assert_allclose(np.hypot(*turns.T), 10)
    np.testing.assert_allclose(turns.mean(axis=0), 0, atol=1e-9)
    with Image.open(out / "rotate" / "rotate.webp") as film:
        assert (film.n_frames, film.size, film.info["loop"]) == (8, (32, 32), 0)
        film.load()
        assert film.info["duration"] == 50
    assert "--orbit is a circle of its own" in g2s.fails(2, *command, "--yaw", "5", "--overwrite")


def test_ease_moves_slower_near_both_ends(g2s: Command, out: Path) -> None:
    frames = g2s.json("rotate", out, "--yaw", "-20:20", "--frames", "5", "--ease", "--size", "16")["frames"]
    assert [frame["yaw_deg"] for frame in frames] == pytest.approx([-20, -14.142, 0, 14.142, 20], abs=1e-3)
    assert "--ease is about" in g2s.fails(2, "relight", out, "--light", "0,0", "--ease")


@pytest.mark.parametrize(("option", "angle", "note"), [("--pitch", "25", "beyond 30°"), ("--yaw", "25", "")])
def test_one_angle_is_one_picture(g2s: Command, out: Path, option: str, angle: str, note: str) -> None:
    picture = out / "rotate" / "000.png"
    answer = g2s.ok("rotate", out, option, angle)
    assert answer.stdout.splitlines() == [str(picture)]
    assert note in answer.stderr
    assert bool(note) == ("a guess" in answer.stderr)
    assert np.abs(pixels(picture) - pixels(out / "reconstruction.png")).max() > 10


@pytest.mark.parametrize("flag", ["--paste-back", "--in-place"])
@pytest.mark.parametrize(
    ("verb", "options"),
    [("rotate", ["--yaw", "-9:9", "--frames", "2"]), ("relight", ["--light", "-1,0", "--light", "1,0"])],
)
def test_paste_back_adds_the_whole_photo(g2s: Command, out: Path, verb: str, options: list[str], flag: str) -> None:
    document = g2s.json(verb, out, *options, flag)
    names, pasted = ["000.png", "001.png"], ["in_place_000.png", "in_place_001.png"]
    assert [Path(frame["file"]).name for frame in document["frames"]] == names
    assert [Path(frame["file_in_place"]).name for frame in document["frames"]] == pasted
    files = [Path(file).name for file in document["files"]]
    assert files == [*names, f"{verb}.gif", *pasted, "in_place.gif"]
    photo, first, second = (pixels(path) for path in (out / "original.png", *(out / verb / name for name in pasted)))
    assert first.shape == photo.shape
    assert np.abs(first - second).max() > 20


def test_another_photo_than_the_results_is_not_painted_on(g2s: Command, out: Path) -> None:
    report = out / "report.json"
    report.write_text(json.dumps(json.loads(report.read_text()) | {"photo_sha256": "0" * 64}))
    message = g2s.fails(3, "rotate", out, "--yaw", 5, "--paste-back")
    assert "The photo in the result's folder is not the one it was made from" in message
    assert not (out / "rotate").exists()


def streams(out: Path, stdout: str, stderr: str) -> subprocess.CompletedProcess[str]:
    """A rotation by the installed command, with its streams redirected by the shell."""
    command = ["bash", "-c", f'exec "$0" rotate "$1" --yaw 5 --size 16 >{stdout} 2>{stderr}', SCRIPT, str(out)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)


@pytest.mark.parametrize("stdout", ["/dev/full", pytest.param("&-", marks=pytest.mark.slow)])
def test_an_unwritable_stdout_is_an_error(out: Path, stdout: str) -> None:
    answer = streams(out, stdout, "/dev/stderr")
    assert answer.returncode == 1
    assert "g2s: stdout cannot be written: " in answer.stderr
    assert answer.stderr.endswith("The files that the command has written are complete.\n")
    assert (out / "rotate" / "000.png").exists()


@pytest.mark.parametrize("stderr", ["&-", pytest.param("/dev/full", marks=pytest.mark.slow)])
def test_an_unwritable_stderr_does_not_stop_the_work(out: Path, stderr: str) -> None:
    answer = streams(out, "/dev/stdout", stderr)
    assert (answer.returncode, answer.stdout) == (0, f"{out}/rotate/000.png\n")
