"""Frames that the person network is trained on, and a training of a few updates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from g2s_cli.geometry.placement import Placement
from g2s_cli.progress import SilentProgress
from g2s_cli.segmentation.person_net import INPUT_SIZE, PersonNet
from g2s_cli.training.distributed import Group
from g2s_cli.training.person_net import BATCH, MaskedPhoto, train_person_net, training_batch
from g2s_cli.training.trainer import Trainer


@pytest.fixture
def photos(tmp_path: Path) -> list[MaskedPhoto]:
    """A bright disk before a dark background, and its mask."""
    row, column = np.mgrid[:120, :100]
    disk = ((row - 60) ** 2 + (column - 50) ** 2 < 30**2).astype(np.uint8)
    Image.fromarray(np.repeat(disk[..., None] * 150 + 50, 3, axis=2)).save(tmp_path / "photo.png")
    Image.fromarray(disk * 255).save(tmp_path / "mask.png")
    return [MaskedPhoto(tmp_path / "photo.png", tmp_path / "mask.png", Placement(49.5, 59.5, 60.0))]


def test_frames_surround_the_crop_and_are_reproducible(photos: list[MaskedPhoto]) -> None:
    frames = training_batch(photos, photos, 0, 3)
    assert frames.image.shape == (BATCH, 3, INPUT_SIZE, INPUT_SIZE)
    assert frames.image.min() >= -1 and frames.image.max() <= 1
    middle = slice(INPUT_SIZE // 2 - 8, INPUT_SIZE // 2 + 8)
    assert frames.mask[:, middle, middle].min() > 0.99  # the disk is the crop's middle
    assert frames.inside[:, middle, middle].min() == 1
    assert frames.inside.mean() < 0.95  # the photo is narrower than the frames
    assert 0.1 < frames.mask.mean() < 0.5
    again, other = training_batch(photos, photos, 0, 3), training_batch(photos, photos, 0, 4)
    assert torch.equal(frames.image, again.image) and torch.equal(frames.mask, again.mask)
    assert not torch.equal(frames.mask, other.mask)


@pytest.mark.slow
def test_the_network_learns(photos: list[MaskedPhoto], tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = PersonNet()
    trainer = Trainer({"net": net}, tmp_path / "run" / "checkpoint.pt", Group(), SilentProgress())
    frames = training_batch(photos, [], 0, 0)
    train_person_net(net, lambda _: frames, 20, trainer)
    losses = trainer.losses["person network"]
    assert losses[-1] < losses[0] - 0.003  # from untrained weights at the rate of a fine-tuning
    assert np.diff(losses).max() < 0.001
