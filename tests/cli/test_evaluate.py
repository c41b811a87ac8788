"""g2s evaluate, by the preset instant."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from caches import FACE
from installed import Command
from PIL import Image


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two photos of one face with a round bump for its depth."""
    folder = tmp_path / "data"
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    bump = np.where(x**2 + y**2 < 0.8, 0.3 + 0.4 * np.sqrt(np.clip(0.81 - x**2 - y**2, 0, None)), 0)
    for part in ("image", "depth"):
        (folder / part).mkdir(parents=True)
    for name in ("a", "b"):
        shutil.copy(FACE, folder / "image" / f"{name}_image.png")
        Image.fromarray((bump * 65535).astype(np.uint16)).save(folder / "depth" / f"{name}_depth.png")
    return folder


@pytest.mark.slow
def test_iterations_bound_every_step(g2s: Command, data: Path) -> None:
    summary = g2s.json("evaluate", data, "-c", "synface", "--iterations", 1, "--limit", 1, "-o", "scores")
    settings = summary["settings"]["settings"]
    assert settings["inversion_iterations"] == 1
    assert [one["iterations"] for one in settings["estimators"] if one["name"] == "morphable"] == [1]


def test_a_second_run_scores_the_photos_that_are_left(g2s: Command, data: Path, tmp_path: Path) -> None:
    arguments, scores = ("evaluate", data, "--preset", "instant", "-o", "scores"), tmp_path / "scores"
    first = g2s.ok(*arguments, "--limit", 1)
    assert "1/1  a_image.png  SIDE" in first.stderr
    assert "flat depth" in first.stdout
    summary = g2s.json(*arguments)
    assert (summary["images"], summary["settings"]["seed"]) == (2, 0)
    assert summary["settings"]["settings"]["inversion_iterations"] == 0
    assert [baseline["name"] for baseline in summary["baselines"]] == ["flat depth", "mean depth of the others"]
    assert summary["baselines"][1]["side_e2"] < 1e-3  # both have the same truth
    files = ["images.csv", "pictures", "rows.jsonl", "settings.json", "summary.json", "worst.png"]
    assert sorted(path.name for path in scores.iterdir()) == [".lock", *files]
    g2s.fails(2, *arguments, "--seed", 1)

    settings = json.loads((scores / "settings.json").read_text())
    assert settings == summary["settings"]
    for version in ({}, {"g2s_version": "0.0.1"}):  # versions before this one stated none
        other = {name: value for name, value in settings.items() if name != "g2s_version"} | version
        (scores / "settings.json").write_text(json.dumps(other))
        assert "scores was begun with other settings: g2s version. Name another folder" in g2s.fails(2, *arguments)


def test_a_photo_whose_object_is_missed_is_counted_apart(g2s: Command, data: Path) -> None:
    strip = np.zeros((64, 64), dtype=np.uint16)
    strip[:, 31:33] = 30000  # erosion leaves nothing of it
    Image.fromarray(strip).save(data / "depth" / "a_depth.png")
    answer = g2s.ok("evaluate", data, "--preset", "instant", "--iterations", 0, "--limit", 1, "-o", "scores")
    assert "1/1  a_image.png  missed: no pixel inside both masks  coverage" in answer.stderr
    head, flat, ours = (line.split() for line in answer.stdout.splitlines()[:3])
    assert head[-1] == "missed"
    assert flat == ["flat", "depth", "–", "–"]
    assert ours[:4] == ["synface,", "instant", "–", "–"]
    assert ours[-3:] == ["1", "of", "1"]


def test_a_folder_without_photos_or_depths_is_refused(g2s: Command, data: Path, tmp_path: Path) -> None:
    (data / "depth" / "b_depth.png").unlink()
    for folder, message in ((data, "b_image.png has no depth"), ("none", "has no photos")):
        assert message in g2s.fails(2, "evaluate", folder, "-o", "scores")
    assert not (tmp_path / "scores").exists()
