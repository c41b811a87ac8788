"""g2s train: photos to a category, by one process and by two."""

from __future__ import annotations

import json
import os
import subprocess
import sys
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
    """Both runs have the same batches, so their losses agree."""
    (tmp_path / "train.toml").write_text(
        "[gan]\nsize = 16\nupdates = 6\nbatch = 8\nencoder_updates = 2\nada_images = 50\n"
    )
    losses = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        starter = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
        words = ["train", "--photos", crops, "--config", tmp_path / "train.toml", "--until", "gan", "-o", folder]
        subprocess.run(
            [sys.executable, *starter, "-m", "g2s_cli", *map(str, words)],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            check=True,
        )
        state = torch.load(folder / "work" / "gan" / "checkpoint.pt", weights_only=True)
        losses.append((state["losses"]["train"], state["state"]["gan"]["augment_p"]))
    torch.testing.assert_close(losses[0][0], losses[1][0], rtol=1e-3, atol=1e-4)
    assert losses[0][1] == losses[1][1]


@pytest.mark.slow
def test_a_tiny_budget_makes_a_category_that_reconstructs(g2s: Command, tmp_path: Path) -> None:
    (tmp_path / "gan.pt").write_bytes(fake_checkpoints.saved(fake_checkpoints.gan(16)))
    done = json.loads(g2s.ok("train", "gan.pt", "--budget", "tiny", "--json", "-o", "new"))
    assert list(done["stages"]) == ["gan", "crops", "networks", "morphable", "photos", "depth", "category"]
    photo = ROOT / "examples" / "face.png"
    g2s.ok("reconstruct", photo, "--category", "new/", "--preset", "instant", "--no-align", "-o", "out")
    assert (tmp_path / "out" / "mesh.glb").exists()
