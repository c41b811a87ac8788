"""g2s train: photos to a category, by one process and by two."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import fake_checkpoints
import numpy as np
import pytest
import torch
from filelock import FileLock
from installed import Command

ROOT = Path(__file__).parents[2]


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    path = tmp_path / "crops.npy"
    np.save(path, np.random.default_rng(0).integers(0, 255, (32, 16, 16, 3)).astype(np.uint8))
    return path


def test_what_cannot_be_trained_is_refused(g2s: Command, tmp_path: Path) -> None:
    assert "neither a GAN nor photos" in g2s.fails(2, "train", "-o", "new")
    assert "There is no gan.pt" in g2s.fails(2, "train", "gan.pt", "-o", "new")
    (tmp_path / "train.toml").write_text("[depth]\nupdate = 3\n")
    (tmp_path / "gan.pt").write_bytes(fake_checkpoints.saved(fake_checkpoints.gan(16)))
    assert "unknown key depth.update" in g2s.fails(2, "train", "gan.pt", "--config", "train.toml", "-o", "new")
    assert not (tmp_path / "new").exists()


def test_a_folder_in_use_is_refused(g2s: Command, tmp_path: Path) -> None:
    (tmp_path / "gan.pt").write_bytes(fake_checkpoints.saved(fake_checkpoints.gan(16)))
    g2s.ok("train", "gan.pt", "--until", "gan", "-o", "new")
    with FileLock(tmp_path / "new" / ".lock"):
        assert "at work in new" in g2s.fails(2, "train", "gan.pt", "--until", "gan", "-o", "new")


@pytest.mark.slow
def test_two_processes_train_one_gan(crops: Path, tmp_path: Path) -> None:
    """Both runs do all updates, adapt the augmentation and leave a GAN."""
    (tmp_path / "train.toml").write_text(
        "[gan]\nsize = 16\nupdates = 6\nbatch = 8\nencoder_updates = 2\nada_images = 50\n"
        "[photos]\ncount = 8\n[depth]\ncount = 8\n"
    )
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        starter = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
        words = ["train", "--photos", crops, "--config", tmp_path / "train.toml", "--until", "gan", "-o", folder]
        subprocess.run(
            [sys.executable, *starter, "-m", "g2s_cli", *map(str, words)],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            check=True,
            timeout=600,
        )
        state = torch.load(folder / "work" / "gan" / "checkpoint.pt", weights_only=True)
        assert len(state["losses"]["train"]) == 6
        assert (folder / "work" / "gan.safetensors").is_file()
        assert 0 <= state["state"]["gan"]["augment_p"] < 1


def vases(count: int, size: int = 32) -> np.ndarray:
    """Images of vases, which are bodies of revolution: lit from a random side, before a plain background."""
    rng = np.random.default_rng(0)
    y, x = np.meshgrid(*[np.linspace(-1, 1, size)] * 2, indexing="ij")
    images = []
    for _ in range(count):
        radius = 0.45 + 0.2 * rng.uniform(-1, 1) * np.sin(2.5 * y + rng.uniform(0, 6))
        sine = np.clip(x / radius, -1, 1)
        slant = rng.uniform(-0.8, 0.8)
        shading = 0.35 + 0.65 * np.clip((sine * slant + np.sqrt(1 - sine**2)) / np.hypot(slant, 1), 0, 1)
        inside = (abs(x) < radius) & (abs(y) < 0.85)
        colour, background = rng.uniform(0.4, 1, 3), rng.uniform(0, 0.3, 3)
        images.append(np.where(inside[..., None], shading[..., None] * colour, background))
    return (255 * np.stack(images)).astype(np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["embedded", "rosinality", "vases"])
def test_a_tiny_budget_makes_a_category_that_reconstructs(g2s: Command, tmp_path: Path, kind: str) -> None:
    """Nothing asks what kind of object it is."""
    (tmp_path / "gan.pt").write_bytes(fake_checkpoints.saved(fake_checkpoints.gan(64)))
    np.save(tmp_path / "vases.npy", vases(16))
    (tmp_path / "train.toml").write_text("[gan]\nsize = 32\n")
    words: dict[str, list[object]] = {
        "embedded": [ROOT / "models" / "synface" / "gan.safetensors"],
        "rosinality": ["gan.pt"],
        "vases": ["--photos", "vases.npy", "--config", "train.toml"],
    }
    g2s = replace(g2s, timeout=1500)
    done = g2s.json("train", *words[kind], "--budget", "tiny", "-o", "new")
    assert {"gan", "crops", "networks", "morphable", "photos", "depth", "category"} == done["stages"].keys()
    photo = ROOT / "examples" / "face.png"
    for preset in ("instant", "fast"):
        words_of_run = ("--category", "new/", "--preset", preset, "--iterations", 2, "--no-align", "-o", preset)
        g2s.ok("reconstruct", photo, *words_of_run)
        assert (tmp_path / preset / "mesh.glb").exists()
