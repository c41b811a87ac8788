"""Training a GAN: what an update draws and changes, and what a killed training resumes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from g2s_cli.errors import G2SError, UsageError
from g2s_cli.machine import Machine
from g2s_cli.progress import SilentProgress
from g2s_cli.training.dataset import ImageDataset
from g2s_cli.training.distributed import Group
from g2s_cli.training.fid import random_images
from g2s_cli.training.gan import GanConfig, GanTraining, new_gan_training, train_gan, trained_gan
from g2s_cli.training.gan_networks import generator_of, initial_gan
from g2s_cli.training.trainer import CHECKPOINT

MACHINE = Machine(torch.device("cpu"), torch.float32)
CONFIG = GanConfig(batch=8, r1_every=2, path=1.0, path_every=3)
AUGMENTED = replace(CONFIG, ada_target=-1.0, ada_images=100)  # rises from the first update
RECONSTRUCTING = replace(CONFIG, rec_weight=10.0, encoder_updates=2)
IMAGES = ImageDataset(np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), dtype=np.uint8))


def new_training(config: GanConfig = CONFIG, images: ImageDataset = IMAGES, group: Group = Group()) -> GanTraining:  # noqa: B008
    return GanTraining(initial_gan((8, 8, 4)[: images.size.bit_length() - 2], seed=0), config, images, MACHINE, group)


def flat(training: GanTraining, name: str = "generator") -> Tensor:
    return torch.cat([tensor.flatten() for tensor in training.state_dict()[name].values()]).clone()


@pytest.mark.parametrize("config", [CONFIG, RECONSTRUCTING, AUGMENTED])
def test_resumed_it_ends_with_the_same_weights(config: GanConfig, tmp_path: Path) -> None:
    whole, parts = new_training(config), new_training(config)
    train_gan(whole, 5, tmp_path / "whole", SilentProgress())
    train_gan(parts, 3, tmp_path / "parts", SilentProgress())
    resumed = new_training(config)
    trainer = train_gan(resumed, 5, tmp_path / "parts", SilentProgress())
    assert trainer.updates_of("train") == 5
    assert (resumed.path_length, resumed.augment_p) == (whole.path_length, whole.augment_p)
    for name in ("generator", "discriminator", "average"):
        assert torch.equal(flat(resumed, name), flat(whole, name)), name
    assert torch.equal(trained_gan(tmp_path / "parts").generator["input.input"], whole.average["input.input"])


def test_an_update_changes_both_networks_and_the_average_a_little() -> None:
    training = new_training()
    before = {name: flat(training, name) for name in ("generator", "discriminator", "average")}
    training.step(0)
    changes = {name: (flat(training, name) - before[name]).abs().mean() for name in before}
    assert changes["discriminator"] > 0
    assert 0 < changes["average"] < changes["generator"] / 100


def test_regularisers_come_when_they_are_due() -> None:
    training = new_training()
    losses = [training.step(update) for update in range(4)]
    assert ["r1" in one for one in losses] == [True, False, True, False]
    assert ["path" in one for one in losses] == [True, False, False, True]


def test_augmentation_adapts_every_fourth_update() -> None:
    training = new_training(AUGMENTED)
    losses = [training.step(update) for update in range(6)]
    assert ["overfitting" in one for one in losses] == [True, False, False, False, True, False]
    assert training.augment_p == pytest.approx(2 * 4 * CONFIG.batch / 100)
    assert not new_training().step(0).keys() & {"overfitting", "augment_p"}


def test_processes_share_the_batch_of_one() -> None:
    whole, *halves = (new_training(group=group).batch(3) for group in (Group(), Group(0, 2), Group(1, 2)))
    for tensor, parts in zip(whole, zip(*halves, strict=True), strict=True):
        assert torch.equal(tensor, torch.cat(parts))


def test_every_image_comes_once_an_epoch() -> None:
    numbered = ImageDataset(np.arange(12, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8))
    training = new_training(GanConfig(batch=4), numbered)
    batches = [training.batch(update)[1][:, 0, 0, 0] for update in range(6)]
    drawn = ((torch.cat(batches) + 1) * 127.5).round().int().tolist()
    assert sorted(drawn[:12]) == sorted(drawn[12:]) == list(range(12))
    assert drawn[:12] != drawn[12:]


def test_the_encoder_learns_alone_at_first() -> None:
    training = new_training(RECONSTRUCTING)
    before = flat(training)
    assert all(training.step(update).keys() == {"reconstruction"} for update in range(2))
    assert torch.equal(flat(training), before)
    assert {"generator", "reconstruction"} <= training.step(2).keys()
    assert not torch.equal(flat(training), before)


@pytest.mark.slow
def test_it_learns_to_reconstruct() -> None:
    """Images of two shades: after 75 updates reconstructions are much better."""
    shades = ImageDataset(np.stack([np.full((16, 16, 3), shade, dtype=np.uint8) for shade in (40, 220)] * 4))
    config = GanConfig(batch=8, r1_every=100, rec_weight=10.0, encoder_updates=25, warm_up=10)
    training = new_training(config, shades)
    losses = [training.step(update)["reconstruction"] for update in range(75)]
    assert losses[-1] < losses[0] / 4


@pytest.mark.slow
def test_it_learns_a_colour() -> None:
    """Images of one colour: after 60 updates the mean colour of generated ones is much nearer to it."""
    orange = ImageDataset(np.broadcast_to(np.uint8([255, 128, 0]), (8, 8, 8, 3)))
    config = GanConfig(batch=8, lr=5e-3, warm_up=1, r1=1.0, r1_every=1, half_life=20)
    training = new_training(config, orange)

    def distance() -> float:
        images = torch.cat(list(random_images(generator_of(training.average), 16, seed=0)))
        return (images.mean(dim=(0, 2, 3)) - torch.tensor([1.0, 0.0, -1.0])).abs().mean().item()

    before = distance()
    for update in range(60):
        training.step(update)
    assert distance() < before / 2


def test_a_folder_has_a_log_and_a_sheet_and_keeps_to_its_config(tmp_path: Path) -> None:
    config = GanConfig(batch=4)
    train_gan(new_training(config), 1, tmp_path, SilentProgress())
    train_gan(new_training(config), 3, tmp_path, SilentProgress())
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2
    assert (tmp_path / "samples-00000012.png").exists()
    with pytest.raises(UsageError, match="was begun with other settings: batch"):
        train_gan(new_training(GanConfig(batch=8)), 4, tmp_path, SilentProgress())


def test_what_cannot_be_trained_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"multiples of four\. Use --batch 8"):
        new_gan_training(None, GanConfig(batch=12), IMAGES, MACHINE, Group(0, 2))
    (tmp_path / CHECKPOINT).write_bytes(b"PK no")
    with pytest.raises(G2SError, match=r"checkpoint\.pt is damaged"):
        train_gan(new_training(), 1, tmp_path, SilentProgress())
    np.save(tmp_path / "wrong.npy", np.zeros((3, 4, 4)))
    for name, message in (("wrong.npy", "does not hold square images"), ("missing.npy", "cannot be read")):
        with pytest.raises(UsageError, match=message):
            ImageDataset.of(tmp_path / name)
