"""Many photos in one g2s reconstruct, at few iterations a step."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageOps

FACE = Path(__file__).parent.parent / "data" / "face.png"
QUICK = ("--iterations", 1, "-o", "out")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with a face, the face mirrored under the same stem, something broken and something else."""
    folder = tmp_path / "photos"
    folder.mkdir()
    with Image.open(FACE) as face:
        face.save(folder / "face.png")
        ImageOps.mirror(face).save(folder / "face.bmp")
    (folder / "broken.jpg").write_text("no photo")
    (folder / "notes.txt").touch()
    return folder


def test_a_folder_is_done_and_done_no_second_time(g2s: Callable, photos: Path, tmp_path: Path) -> None:
    first = g2s("reconstruct", "photos", *QUICK)
    assert first.returncode == 3
    assert first.stdout.splitlines() == ["out/face", "out/face-2"]
    lines = first.stderr.splitlines()
    assert lines[0] == "Note: Not taken for photos: photos/notes.txt."
    assert [line[:8] for line in lines[1:] if line.startswith(("g2s: 1/3", "2/3", "3/3"))] == [
        "g2s: 1/3",
        "2/3  pho",
        "3/3  pho",
    ]
    assert "photos/broken.jpg is not an image" in first.stderr
    assert lines[-1] == "g2s: 1 of 3 photos failed."
    table = [line.split() for line in lines[-5:-1]]
    assert table[0][:3] == ["photo", "folder", "inversion,"]
    assert [row[1] for row in table[1:]] == ["failed", "made", "made"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["face", "face-2", "g2s-summary.json"]
    assert (tmp_path / "out" / "face" / "mesh.glb").is_file()

    (photos / "broken.jpg").unlink()
    again = g2s("reconstruct", "photos", FACE, *QUICK, "--json", "-q")
    assert again.returncode == 0
    assert again.stderr == ""
    summary = json.loads(again.stdout)
    assert json.loads((tmp_path / "out" / "g2s-summary.json").read_text()) == summary
    assert [one["state"] for one in summary["photos"]] == ["kept", "kept", "made"]
    assert [Path(one["folder"]).name for one in summary["photos"]] == ["face", "face-2", "face-3"]

    other = g2s("reconstruct", "photos", *QUICK, "--seed", 1)
    assert other.returncode == 2
    assert "out/face was made with another seed. Add --overwrite" in other.stderr


def test_ctrl_c_leaves_what_is_finished_and_the_same_command_goes_on(
    start: Callable, g2s: Callable, photos: Path, tmp_path: Path
) -> None:
    command = ("reconstruct", photos / "face.png", photos / "face.bmp", "--iterations", 30, "-o", "out")
    process = start(*command)
    assert process.stderr.readline().startswith("1/2")
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stdout == ""
    assert stderr.splitlines()[-1] == "g2s: Stopped; 1 of 2 results are whole. The same command goes on."
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["face", "g2s-summary.json"]
    again = g2s(*command, "--json")
    assert [one["state"] for one in json.loads(again.stdout)["photos"]] == ["kept", "made"]


def test_one_photo_alone_is_no_collection(g2s: Callable, tmp_path: Path) -> None:
    answer = g2s("reconstruct", FACE, *QUICK)
    assert answer.stdout.splitlines()[0] == "out"
    assert (tmp_path / "out" / "mesh.glb").is_file()
    refused = g2s("reconstruct", FACE, "other.png", *QUICK)
    assert refused.returncode == 2
    assert "out is the result of one photo" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["photos", "--latent", "w.pt"], "--latent is the w of one photo"),
        (["empty"], "empty has no images"),
        (["photos", "--device", "abacus"], "abacus"),
    ],
)
def test_what_cannot_be_meant(g2s: Callable, photos: Path, tmp_path: Path, arguments: list[str], says: str) -> None:
    (tmp_path / "empty").mkdir()
    answer = g2s("reconstruct", *arguments, "-o", "out")
    assert (answer.returncode, answer.stdout) == (2, "")
    assert says in answer.stderr
    assert not (tmp_path / "out").exists()
