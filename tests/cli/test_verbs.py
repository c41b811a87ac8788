"""What g2s prints and writes when all is well: paths and data on stdout, words on stderr."""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from installed import SCRIPT
from PIL import Image

from g2s_cli import __version__
from g2s_cli.geometry.placement import Placement
from g2s_cli.result.schema import Result
from g2s_cli.result.write import write_result

LIGHTS = ["--light", "-1,0", "--light", "1,0"]


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(float)


def frames(path: Path) -> int:
    with Image.open(path) as picture:
        return picture.n_frames


def test_version_and_help(g2s: Callable) -> None:
    assert g2s("--version").stdout == f"g2s {__version__}\n"
    answer = g2s("--help")
    assert answer.returncode == 0
    for word in ("reconstruct", "relight", "rotate", "Exit codes", "Examples"):
        assert word in answer.stdout


def test_help_does_not_wait_for_torch() -> None:
    loaded = "import sys, g2s_cli.app; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", loaded], check=True)


def test_a_wrong_path_does_not_wait_for_torch(tmp_path: Path) -> None:
    tried = """if True:
        import sys
        from pathlib import Path
        from g2s_cli.commands.reconstruct import reconstruct
        from g2s_cli.errors import ImageError
        try:
            reconstruct([Path(sys.argv[1])])
        except ImageError:
            sys.exit("torch" in sys.modules)
        sys.exit(2)"""
    subprocess.run([sys.executable, "-c", tried, str(tmp_path / "nosuch.png")], check=True)


def test_completion_is_offered(g2s: Callable) -> None:
    assert "--install-completion" in g2s("--help").stdout


def differs_from_the_photo(out: Path, picture: Path) -> float:
    """Mean difference in grey levels where the photo shows the object."""
    object_there = pixels(out / "mask.png")[..., 0] == 255
    return np.abs(pixels(picture) - pixels(out / "input.png"))[object_there].mean()


@pytest.fixture
def leaning(result: Result, tmp_path: Path) -> Path:
    """The made-up result of a camera that lay on its side: what is above in the crop is on the photo's right."""
    file = io.BytesIO()
    Image.fromarray(result.aligned).transpose(Image.Transpose.ROTATE_270).save(file, format="PNG")
    lying = Placement(31.5, 31.5, 64.0, math.radians(90))
    write_result(replace(result, placement=lying, original=file.getvalue()), tmp_path / "leaning")
    return tmp_path / "leaning"


def test_a_light_moves_as_pictures_show_it(g2s: Callable, out: Path, leaning: Path) -> None:
    light = json.loads((out / "light.json").read_text())
    x, y = light["x"], light["y"]

    def lit(folder: Path, *arguments: str | Path) -> tuple[np.ndarray, np.ndarray]:
        answer = g2s("relight", folder, *arguments, "--in-place")
        assert answer.returncode == 0, answer.stderr
        return pixels(folder / "relight" / "000.png"), pixels(folder / "relight" / "in_place_000.png")

    upright, on_its_side = lit(out, "--light-from", leaning), lit(leaning, "--light-from", out)
    # What is above in the leaning result's crop is on the right in its photo.
    for taken, crop, photo in ((upright, (x, y), (y, -x)), (on_its_side, (x, y), (x, y))):
        folder = out if taken is upright else leaning
        assert np.abs(taken[0] - lit(folder, f"--light={crop[0]},{crop[1]}")[0]).max() <= 1
        assert np.abs(taken[1] - lit(folder, f"--light={photo[0]},{photo[1]}")[1]).max() <= 1
    assert np.abs(on_its_side[1] - pixels(leaning / "original.png")).max() > 10


def test_rotating_by_nothing_is_the_photo(g2s: Callable, out: Path) -> None:
    answer = g2s("rotate", out, "--yaw", "0:0")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines() == [str(out / "rotate" / "000.png")]
    assert differs_from_the_photo(out, out / "rotate" / "000.png") < 4


def test_relighting_with_its_own_light_is_the_photo(g2s: Callable, out: Path) -> None:
    answer = g2s("relight", out, "--light-from", out)
    assert answer.returncode == 0, answer.stderr
    assert differs_from_the_photo(out, out / "relight" / "000.png") < 4
    g2s("relight", out, "--light", "-1,0")
    assert differs_from_the_photo(out, out / "relight" / "000.png") > 10


def test_pictures_have_the_size_that_was_asked_for(g2s: Callable, out: Path) -> None:
    for verb in (["rotate", out, "--yaw", "10"], ["relight", out, "--light", "0,0"]):
        assert g2s(*verb, "--size", "100").returncode == 0
        assert pixels(out / verb[0] / "000.png").shape == (100, 100, 3)
        refusal = g2s(*verb, "--size", "100", "--by", "gan")
        assert (refusal.returncode, refusal.stderr) == (
            2,
            "g2s: What the GAN paints has the GAN's own size. Use --size with --by mesh.\n",
        )


def test_negative_ranges_parse_and_positive_yaw_is_to_the_right(g2s: Callable, out: Path) -> None:
    answer = g2s("rotate", out, "--yaw", "-20:20", "--frames", "5", "--json")
    assert answer.stderr == ""
    document = json.loads(answer.stdout)
    assert [round(center_crop["yaw_deg"]) for center_crop in document["frames"]] == [-20, -10, 0, 10, 20]
    assert frames(out / "rotate" / "rotate.gif") == 8  # there and back
    noses = [nose_column(pixels(Path(center_crop["file"]))) for center_crop in document["frames"]]
    assert (np.diff(noses) > 1).all()


def test_positive_pitch_looks_up(g2s: Callable, out: Path) -> None:
    g2s("rotate", out, "--pitch", "-15:15", "--frames", "2")
    down, up = (nose_row(pixels(out / "rotate" / f"{k:03d}.png")) for k in range(2))
    assert up < down - 3


def nose_column(image: np.ndarray) -> float:
    return np.nonzero(redness(image) > 100)[1].mean()


def nose_row(image: np.ndarray) -> float:
    return np.nonzero(redness(image) > 100)[0].mean()


def redness(image: np.ndarray) -> np.ndarray:
    return image[..., 0] - image[..., 1:].max(axis=-1)


def test_light_from_the_right_brightens_the_right(g2s: Callable, out: Path) -> None:
    answer = g2s("relight", out, "--light", "-1,0", "--light", "1,0", "--light", "0,1", "--light", "0,-1")
    assert [Path(line).name for line in answer.stdout.splitlines()] == [
        "000.png",
        "001.png",
        "002.png",
        "003.png",
        "relight.gif",
    ]
    seen = pixels(out / "mask.png").mean(axis=-1) > 127
    left, right, top, bottom = (pixels(out / "relight" / f"{k:03d}.png").mean(axis=-1) for k in range(4))
    columns, rows = (np.where(seen, index, np.nan) for index in np.indices(seen.shape)[::-1])
    on_the_right, low = columns > np.nanmedian(columns) + 8, rows > np.nanmedian(rows) + 8
    on_the_left, high = columns < np.nanmedian(columns) - 8, rows < np.nanmedian(rows) - 8
    assert (right - left)[on_the_right].mean() > 10 > -10 > (right - left)[on_the_left].mean()
    assert (top - bottom)[high].mean() > 10 > -10 > (top - bottom)[low].mean()


def test_frames_walk_from_light_to_light_and_replace_earlier_ones(g2s: Callable, out: Path) -> None:
    g2s("relight", out, *["--light", "0,0"] * 3)
    answer = g2s("relight", out, "--light", "-1,0", "--light", "1,0.5", "--frames", "2", "--json", "-q")
    document = json.loads(answer.stdout)
    assert [center_crop["light"] for center_crop in document["frames"]] == [[-1, 0], [1, 0.5]]
    assert sorted(path.name for path in (out / "relight").iterdir()) == ["000.png", "001.png", "relight.gif"]


@pytest.mark.parametrize("option", [["--pitch", "15"], ["--yaw", "15"]])
def test_one_angle_is_one_picture(g2s: Callable, out: Path, option: list[str]) -> None:
    answer = g2s("rotate", out, *option)
    assert answer.stdout.splitlines() == [str(out / "rotate" / "000.png")]
    assert np.abs(pixels(out / "rotate" / "000.png") - pixels(out / "reconstruction.png")).max() > 10


@pytest.mark.parametrize(("verb", "options"), [("rotate", ["--yaw", "-9:9", "--frames", "2"]), ("relight", LIGHTS)])
def test_in_place_is_the_whole_photo_beside_the_cut_out_object(
    g2s: Callable, out: Path, verb: str, options: list[str]
) -> None:
    answer = g2s(verb, out, *options, "--in-place", "--json")
    assert answer.returncode == 0, answer.stderr
    document = json.loads(answer.stdout)
    assert [Path(center_crop["file"]).name for center_crop in document["frames"]] == ["000.png", "001.png"]
    assert [Path(file).name for file in document["files"]] == [
        "000.png",
        "001.png",
        f"{verb}.gif",
        "in_place_000.png",
        "in_place_001.png",
        "in_place.gif",
    ]
    assert [Path(center_crop["file_in_place"]).name for center_crop in document["frames"]] == [
        "in_place_000.png",
        "in_place_001.png",
    ]
    photo, first, second = (pixels(path) for path in (out / "original.png", *sorted((out / verb).glob("in_*.png"))))
    assert first.shape == photo.shape
    assert np.abs(first - second).max() > 20


def streams(out: Path, stdout: str, stderr: str) -> subprocess.CompletedProcess[str]:
    """A turn by the installed command, whose streams go where the shell sends them; a pipe's path is one left open."""
    command = f'exec "$0" rotate "$1" --yaw 5 --size 16 >{stdout} 2>{stderr}'
    return subprocess.run(
        ["bash", "-c", command, SCRIPT, str(out)], capture_output=True, text=True, check=False, env=os.environ
    )


@pytest.mark.parametrize("stdout", ["/dev/full", "&-"])
def test_a_stdout_that_takes_nothing_is_said(out: Path, stdout: str) -> None:
    answer = streams(out, stdout, "/dev/stderr")
    assert answer.returncode == 1
    assert "g2s: stdout cannot be written: " in answer.stderr
    assert answer.stderr.endswith("What the command has written to files is there.\n")
    assert (out / "rotate" / "000.png").exists()


@pytest.mark.parametrize("stderr", ["/dev/full", "&-"])
def test_a_stderr_that_takes_nothing_does_not_stop_the_work(out: Path, stderr: str) -> None:
    answer = streams(out, "/dev/stdout", stderr)
    assert (answer.returncode, answer.stdout) == (0, f"{out}/rotate/000.png\n")


def test_another_photo_than_the_results_is_not_painted_on(g2s: Callable, out: Path) -> None:
    report = out / "report.json"
    report.write_text(json.dumps(json.loads(report.read_text()) | {"photo_sha256": "0" * 64}))
    answer = g2s("rotate", out, "--yaw", 5, "--in-place")
    assert answer.returncode == 3
    assert "The photo in the result's folder is not the one it was made from" in answer.stderr
    assert not (out / "rotate").exists()
