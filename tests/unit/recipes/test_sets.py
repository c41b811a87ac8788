"""Sets of pictures: whole or not there, and the same bytes however often the work was interrupted."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from g2s_cli.errors import G2SError, UsageError
from g2s_cli.evaluation.ground_truth import find_pairs, read_ground_truth
from recipes.synface import sets
from recipes.synface.face_model import FaceModel
from recipes.synface.render import images, render
from recipes.synface.sets import BLOCK, render_set, write_benchmark

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
SEED, SIZE = 10_000_000, 8
COUNT, MANY = BLOCK + 3, 5 * BLOCK
RENDER = f"""
import sys
from pathlib import Path
from recipes.synface.face_model import read_face_model
from recipes.synface.sets import render_set

model = read_face_model(Path(sys.argv[1]))
render_set(model, {SEED}, {MANY}, {SIZE}, Path(sys.argv[2]), report=lambda done, _: print(done, flush=True))
"""


@pytest.fixture(scope="module")
def wanted(model: FaceModel) -> np.ndarray:
    return np.stack(list(images(model, range(SEED, SEED + COUNT), SIZE)))


def test_a_set_is_the_pictures_of_its_seeds(model: FaceModel, wanted: np.ndarray, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    result = render_set(
        model, SEED, COUNT, SIZE, tmp_path / "faces.npy", report=lambda done, count: told.append((done, count))
    )
    assert np.abs(result.astype(int) - wanted).max() <= 1
    np.testing.assert_array_equal(np.load(tmp_path / "faces.npy"), result)
    assert told == [(BLOCK, COUNT), (COUNT, COUNT)]
    facts = {"first_seed": SEED, "count": COUNT, "size": SIZE, "model": model.sha256, "rendered": COUNT}
    assert json.loads((tmp_path / "faces.json").read_text()) == facts
    assert {path.name for path in tmp_path.iterdir()} == {"faces.npy", "faces.json"}


def test_two_processes_make_the_same_bytes(model: FaceModel, tmp_path: Path) -> None:
    one = render_set(model, SEED, COUNT, SIZE, tmp_path / "one.npy")
    two = render_set(model, SEED, COUNT, SIZE, tmp_path / "two.npy", processes=2)
    np.testing.assert_array_equal(one, two)


def test_a_set_is_a_npy_file(model: FaceModel, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Name a \.npy file"):
        render_set(model, SEED, 1, SIZE, tmp_path / "faces.json")


def test_a_finished_set_is_kept(model: FaceModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = render_set(model, SEED, 3, SIZE, tmp_path / "faces.npy")
    monkeypatch.setattr(sets, "images", None)
    np.testing.assert_array_equal(render_set(model, SEED, 3, SIZE, tmp_path / "faces.npy"), first)


def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(model: FaceModel, model_file: Path, tmp_path: Path) -> None:
    place = tmp_path / "faces.npy"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    command = [sys.executable, "-c", RENDER, str(model_file), str(place)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as run:
        assert run.stdout
        assert run.stdout.readline() == f"{BLOCK}\n"
        run.send_signal(signal.SIGKILL)
    assert not place.exists()
    done = json.loads((tmp_path / "faces.json").read_text())["rendered"]
    assert BLOCK <= done < MANY

    told: list[int] = []
    result = render_set(model, SEED, MANY, SIZE, place, report=lambda so_far, _: told.append(so_far))
    assert told[0] == done + BLOCK
    np.testing.assert_array_equal(result, render_set(model, SEED, MANY, SIZE, tmp_path / "whole.npy"))


def test_a_killed_run_whose_pictures_are_gone_begins_anew(model: FaceModel, tmp_path: Path) -> None:
    facts = {"first_seed": SEED, "count": 3, "size": SIZE, "model": model.sha256, "rendered": 2}
    (tmp_path / "faces.json").write_text(json.dumps(facts))
    assert render_set(model, SEED, 3, SIZE, tmp_path / "faces.npy").any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize(
    ("seed", "count", "size", "said"), [(7, 3, SIZE, "first seed"), (SEED, 4, SIZE, "count"), (SEED, 3, 16, "size")]
)
def test_another_set_s_file_is_refused(
    model: FaceModel, tmp_path: Path, seed: int, count: int, size: int, said: str
) -> None:
    first = render_set(model, SEED, 3, SIZE, tmp_path / "faces.npy").copy()
    with pytest.raises(UsageError, match=rf"faces\.json is of other pictures: {said} differs"):
        render_set(model, seed, count, size, tmp_path / "faces.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "faces.npy"), first)


def test_a_file_that_nobody_knows_is_refused(model: FaceModel, tmp_path: Path) -> None:
    np.save(tmp_path / "faces.npy", np.zeros((3, SIZE, SIZE, 3), np.uint8))
    with pytest.raises(UsageError, match=r"no faces\.json says what it holds"):
        render_set(model, SEED, 3, SIZE, tmp_path / "faces.npy")


@pytest.mark.parametrize("stated", ["{", "[]", '{"rendered": 1}'])
def test_damaged_facts_are_named(model: FaceModel, tmp_path: Path, stated: str) -> None:
    (tmp_path / "faces.json").write_text(stated)
    with pytest.raises(G2SError, match=r"faces\.json is damaged"):
        render_set(model, SEED, 3, SIZE, tmp_path / "faces.npy")


def test_a_cut_set_is_named(model: FaceModel, tmp_path: Path) -> None:
    render_set(model, SEED, 3, SIZE, tmp_path / "faces.npy")
    (tmp_path / "faces.npy").write_bytes((tmp_path / "faces.npy").read_bytes()[:300])
    with pytest.raises(G2SError, match=r"faces\.npy is damaged\. Delete it"):
        render_set(model, SEED, 3, SIZE, tmp_path / "faces.npy")


def test_too_small_a_disk_is_told_beforehand(model: FaceModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("Usage", "free")(100))
    with pytest.raises(G2SError, match=r"needs 0\.00 GB.*Free space"):
        render_set(model, SEED, 3, SIZE, tmp_path / "faces.npy")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_named(model: FaceModel, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(G2SError, match="cannot be written"):
        render_set(model, SEED, 3, SIZE, tmp_path / "file" / "faces.npy")


@pytest.mark.parametrize(("count", "size"), [(0, 8), (3, 7), (3, 2000)])
def test_sets_that_cannot_be_made(model: FaceModel, tmp_path: Path, count: int, size: int) -> None:
    with pytest.raises(UsageError, match="cannot be made"):
        render_set(model, SEED, count, size, tmp_path / "faces.npy")
    with pytest.raises(UsageError, match="cannot be made"):
        write_benchmark(model, SEED, count, size, tmp_path / "bench")


def test_a_benchmark_is_read_as_one(model: FaceModel, tmp_path: Path) -> None:
    write_benchmark(model, SEED, 2, 32, tmp_path / "bench")
    pairs = find_pairs(tmp_path / "bench")
    views = json.loads((tmp_path / "bench" / "views.json").read_text())
    assert [view["file"] for view in views] == [pair.photo.name for pair in pairs]
    for number, pair in enumerate(pairs):
        result = render(model, SEED + number, 32)
        np.testing.assert_array_equal(np.asarray(Image.open(pair.photo)), result.image)
        truth = read_ground_truth(pair.depth, 1.0, 32)
        np.testing.assert_array_equal(truth.mask, result.mask)
        np.testing.assert_allclose(truth.depth, result.depth, atol=0.2 / 65535)
        assert views[number]["yaw_deg"] == round(np.degrees(result.pose.yaw_rad), 3)
        assert views[number]["light_xy"] == [round(along, 4) for along in result.light.xy]


def test_a_folder_in_use_is_kept(model: FaceModel, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(UsageError, match="is there already"):
        write_benchmark(model, SEED, 1, 32, tmp_path)
    assert (tmp_path / "mine.txt").exists()
