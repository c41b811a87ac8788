"""The installed command from a photo to its pictures, with the embedded category at full length."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import trimesh
from installed import SCRIPT
from PIL import Image, ImageFilter

pytestmark = pytest.mark.slow

FACE = Path(__file__).parent.parent / "data" / "face.png"


def g2s(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [SCRIPT, *map(str, arguments)]
    # One thread: tests run side by side, and two threads each would wait for one another at every layer.
    plain = os.environ | {"NO_COLOR": "1", "TERM": "dumb", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=plain, capture_output=True, text=True, timeout=600, check=True)


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    return g2s("reconstruct", FACE, "-o", tmp_path_factory.mktemp("smoke") / "out", "--json")


@pytest.fixture(scope="module")
def out(answer: subprocess.CompletedProcess[str]) -> Path:
    return Path(json.loads(answer.stdout)["folder"])


def test_the_report_states_options_scores_and_seconds(answer: subprocess.CompletedProcess[str], out: Path) -> None:
    report = json.loads(answer.stdout)
    assert report.items() >= json.loads((out / "report.json").read_text()).items()
    assert report["command"].startswith("g2s reconstruct ")
    assert (report["category"], report["seed"]) == ("portrait", 0)
    assert report["inversion_psnr_db"] > 12  # of a regressed latent
    assert report["reconstruction_psnr_db"] > 26
    assert sum(report["seconds"].values()) == pytest.approx(2 * report["seconds"]["total"], rel=0.05)
    assert all(Path(path).is_file() for path in report["files"].values())
    # Progress, a line a step, went to stderr.
    assert "depth network" in answer.stderr
    assert "g2s view" in answer.stderr


def test_the_mesh_is_a_face_that_looks_along_z(out: Path) -> None:
    solid = trimesh.load(out / "mesh.glb", force="mesh")
    width, height, depth = solid.extents
    assert 0.08 < width < 0.2
    assert 0.08 < height < 0.2
    assert depth > 0.03
    right, up, towards = solid.vertices.T
    central = (np.abs(right) < 0.15 * width) & (np.abs(up) < 0.25 * height)
    assert towards[central].mean() > towards.mean() + 0.01


@pytest.mark.parametrize("renderer", ["mesh", "gan"])
def test_both_renderers_relight_and_rotate(out: Path, renderer: str) -> None:
    g2s("relight", out, "--light", "-1,0", "--light", "1,0", "--renderer", renderer, "--overwrite")
    with Image.open(out / "relight" / "000.png") as left, Image.open(out / "relight" / "001.png") as right:
        change = np.asarray(right).astype(float).mean(axis=-1) - np.asarray(left).astype(float).mean(axis=-1)
    third = change.shape[1] // 3
    assert change[:, -third:].mean() > change[:, :third].mean() + 5
    g2s("rotate", out, "--yaw", "-20:20", "--frames", "3", "--renderer", renderer, "--overwrite")
    assert len(list((out / "rotate").glob("*.png"))) == 3


def test_its_own_light_and_view_give_the_photo_at_full_resolution(out: Path) -> None:
    g2s("relight", out, "--light-from", out, "--overwrite")
    g2s("rotate", out, "--yaw", "0:0", "--overwrite")
    with Image.open(out / "aligned.png") as photo, Image.open(FACE) as file:
        assert photo.size == file.size == (128, 128)
        original = np.asarray(photo).astype(float)
    with Image.open(out / "mask.png") as mask:
        inside = np.asarray(mask.filter(ImageFilter.MinFilter(3)).resize((128, 128), Image.Resampling.NEAREST)) > 127
    inside[:4] = inside[-4:] = False  # the relief ends where the photo does
    for name in ("relight", "rotate"):
        with Image.open(out / name / "000.png") as picture:
            margin = (picture.width - 128) // 2  # the frame keeps a few pixels around a head that fills the photo
            center = picture.crop((margin, margin, margin + 128, margin + 128))
        error = np.square(np.asarray(center).astype(float) - original)[inside].mean()
        assert 10 * np.log10(255**2 / error) > 30
