"""g2s evaluate from end to end, at one iteration a step."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

FACE = Path(__file__).parent.parent / "data" / "face.png"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two photos of one face with a round bump for its depth."""
    folder = tmp_path / "data"
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    bump = np.where(x**2 + y**2 < 0.8, 0.3 + 0.4 * np.sqrt(np.clip(0.81 - x**2 - y**2, 0, None)), 0)
    for category in ("image", "depth"):
        (folder / category).mkdir(parents=True)
    for name in ("a", "b"):
        shutil.copy(FACE, folder / "image" / f"{name}_image.png")
        Image.fromarray((bump * 65535).astype(np.uint16)).save(folder / "depth" / f"{name}_depth.png")
    return folder


def test_a_folder_is_scored_and_scored_no_second_time(g2s: Callable, data: Path, tmp_path: Path) -> None:
    arguments = ("evaluate", "data", "--iterations", 1, "-o", "scores")
    first = g2s(*arguments, "--limit", 1)
    assert first.returncode == 0, first.stderr
    assert "1/1  a_image.png  SIDE" in first.stderr
    assert "flat depth" in first.stdout
    again = g2s(*arguments, "--json")
    summary = json.loads(again.stdout)
    assert (summary["images"], summary["settings"]["seed"]) == (2, 0)
    assert summary["settings"]["effort"]["stages"] == [[0, 0, 1], [1, 0, 0]]
    assert [one["name"] for one in summary["baselines"]] == ["flat depth", "mean depth of the others"]
    assert summary["baselines"][1]["side_e2"] < 1e-3  # both have the same truth
    assert sorted(path.name for path in (tmp_path / "scores").iterdir()) == [
        ".lock",
        "images.csv",
        "pictures",
        "rows.jsonl",
        "settings.json",
        "summary.json",
        "worst.png",
    ]
    assert g2s(*arguments, "--seed", 1).returncode == 2

    settings = json.loads((tmp_path / "scores" / "settings.json").read_text())
    assert settings == summary["settings"]
    for version in ({}, {"g2s_version": "0.0.1"}):  # versions before this one stated none
        begun = {name: value for name, value in settings.items() if name != "g2s_version"} | version
        (tmp_path / "scores" / "settings.json").write_text(json.dumps(begun))
        other = g2s(*arguments)
        assert other.returncode == 2
        assert "scores was begun with other settings: g2s version. Name another folder" in other.stderr


def test_a_photo_that_was_missed_is_counted_apart(g2s: Callable, data: Path, tmp_path: Path) -> None:
    strip = np.zeros((64, 64), dtype=np.uint16)
    strip[:, 31:33] = 30000  # erosion leaves nothing of it
    Image.fromarray(strip).save(data / "depth" / "a_depth.png")
    answer = g2s("evaluate", "data", "--preset", "instant", "--iterations", 0, "--limit", 1, "-o", "scores")
    assert answer.returncode == 0, answer.stderr
    assert "1/1  a_image.png  missed: no pixel inside both masks  coverage" in answer.stderr
    head, flat, ours = (line.split() for line in answer.stdout.splitlines()[:3])
    assert head[-1] == "missed"
    assert flat == ["flat", "depth", "–", "–"]
    assert ours[:4] == ["synface,", "instant", "–", "–"]
    assert ours[-3:] == ["1", "of", "1"]


def test_what_is_no_data_is_refused(g2s: Callable, data: Path, tmp_path: Path) -> None:
    (data / "depth" / "b_depth.png").unlink()
    for folder, says in ((data, "b_image.png has no depth"), (tmp_path / "none", "has no photos")):
        answer = g2s("evaluate", folder, "-o", "scores")
        assert answer.returncode == 2
        assert says in answer.stderr
    assert not (tmp_path / "scores").exists()
