"""Many photos in one g2s reconstruct, at few iterations a step."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from caches import COARSE, FACE
from installed import Command
from PIL import Image, ImageOps

QUICK = ("--preset", "instant", "--iterations", 1, *COARSE, "-o", "out")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with a face, the face mirrored under the same stem, a damaged image and a text."""
    folder = tmp_path / "photos"
    folder.mkdir()
    with Image.open(FACE) as face:
        face.save(folder / "face.png")
        ImageOps.mirror(face).save(folder / "face.bmp")
    (folder / "broken.jpg").write_text("no photo")
    (folder / "notes.txt").touch()
    return folder


def test_a_second_run_keeps_finished_results(g2s: Command, photos: Path, tmp_path: Path) -> None:
    first = g2s("reconstruct", "photos", *QUICK)
    assert first.returncode == 3
    assert first.stdout.splitlines() == ["out/face", "out/face-2"]
    lines = first.stderr.splitlines()
    assert lines[0] == "Note: Not taken for photos: photos/notes.txt."
    numbered = [line[:8] for line in lines[1:] if line.startswith(("g2s: 1/3", "2/3", "3/3"))]
    assert numbered == ["g2s: 1/3", "2/3  pho", "3/3  pho"]
    assert "photos/broken.jpg is not an image" in first.stderr
    assert lines[-1] == "g2s: 1 of 3 photos failed."
    head, *rows = (line.split() for line in lines[-5:-1])
    assert head == ["photo", "folder", "seconds", "warnings"]
    assert [row[1] for row in rows] == ["failed", "made", "made"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["face", "face-2", "g2s-summary.json"]
    assert (tmp_path / "out" / "face" / "mesh.glb").is_file()

    (photos / "broken.jpg").unlink()
    again = g2s.ok("reconstruct", "photos", FACE, *QUICK, "--json", "-q")
    assert again.stderr == ""
    summary = json.loads(again.stdout)
    assert json.loads((tmp_path / "out" / "g2s-summary.json").read_text()) == summary
    assert [photo["state"] for photo in summary["photos"]] == ["kept", "kept", "made"]
    assert [Path(photo["folder"]).name for photo in summary["photos"]] == ["face", "face-2", "face-3"]

    other = g2s.fails(2, "reconstruct", "photos", *QUICK, "--seed", 1)
    assert "out/face has another run's seed. Add --overwrite" in other
    failed = json.loads(g2s("reconstruct", "photos", *QUICK, "--seed", 1, "--json").stdout)  # one document
    assert failed["error"] == {"what": "2 of 2 photos failed.", "remedy": "", "exit_code": 2}


@pytest.mark.slow
def test_after_ctrl_c_the_same_command_goes_on(start: Callable, g2s: Command, photos: Path, tmp_path: Path) -> None:
    command = ("reconstruct", photos / "face.png", photos / "face.bmp", "--iterations", 30, "-o", "out")
    process = start(*command)
    assert process.stderr.readline().startswith("1/2")
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (130, "")
    assert stderr.splitlines()[-1] == "g2s: Stopped; 1 of 2 results are whole. The same command goes on."
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["face", "g2s-summary.json"]
    assert [photo["state"] for photo in g2s.json(*command)["photos"]] == ["kept", "made"]


@pytest.mark.usefixtures("out")
def test_a_result_of_one_photo_takes_no_more(g2s: Command) -> None:
    assert "out is the result of one photo" in g2s.fails(2, "reconstruct", FACE, "other.png", *QUICK)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["photos", "--latent", "w.pt"], "--latent is the w of one photo"),
        (["empty"], "empty has no images"),
        (["photos", "--device", "abacus"], "abacus"),
    ],
)
def test_wrong_arguments_are_refused(
    g2s: Command, photos: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    assert message in g2s.fails(2, "reconstruct", *arguments, "-o", "out")
    assert not (tmp_path / "out").exists()
