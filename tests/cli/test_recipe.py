"""The recipe's command line: render images, and judge a GAN by them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def recipe(*words: object) -> str:
    command = [sys.executable, "-m", "recipes.synface", *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_render_then_judge(tmp_path: Path) -> None:
    images = tmp_path / "images.npy"
    recipe("render", ROOT / "tests" / "data" / "face_model.npz", "-o", images, "--count", 12, "--size", 32)
    assert np.load(images).shape == (12, 32, 32, 3)
    gan = ROOT / "models" / "synface" / "gan.safetensors"
    report = json.loads(recipe("judge", gan, images, "--count", 12, "--features", "colours"))
    assert report["frechet"]["colours"] > 0.1
    assert report["pictures"] == 12
