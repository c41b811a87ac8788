"""Training the depth network: its loss, augmentation, and that a resumed training ends like one without a stop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from recording import StopAt
from torch import Tensor

from g2s_cli.errors import G2SError
from g2s_cli.estimators.depth_net import DepthNet
from g2s_cli.estimators.morphable_model import MorphableModel
from g2s_cli.geometry.camera import Camera
from g2s_cli.geometry.rasterizer import VIEW_FAR
from g2s_cli.progress import SilentProgress
from g2s_cli.training import depth_network
from g2s_cli.training.depth_network import (
    DepthPredictor,
    augment,
    depth_loss,
    new_depth_net,
    train_depth_net,
    training_batch,
)
from g2s_cli.training.distributed import Group
from g2s_cli.training.pair_file import PairFile, encode_pair_depth, pair_type
from g2s_cli.training.synthetic import FittedObjects, Pairs, render_pairs
from g2s_cli.training.trainer import Trainer

CAMERA = Camera(16)
SIZE = CAMERA.size
ticks = torch.linspace(-1, 1, SIZE)
ROW, COLUMN = torch.meshgrid(ticks, ticks, indexing="ij")
RELIEF = 1 - 0.04 * (1 - COLUMN.square() - ROW.square()).clamp(min=0)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depth_network, "WIDTH", 8)
    monkeypatch.setattr(depth_network, "BOTTLENECK", 8)
    monkeypatch.setattr(depth_network, "BATCH", 4)


def model() -> MorphableModel:
    """A round object whose one coefficient is its depth."""
    shape_basis = torch.zeros(SIZE, SIZE, 3, 1)
    shape_basis[..., 2, 0] = 0.3 * (RELIEF - 1)
    blank, unmoved = torch.zeros(3, SIZE, SIZE), torch.zeros(SIZE, SIZE, 3)
    return MorphableModel(unmoved, shape_basis, blank, blank[..., None], blank + 1, torch.zeros(2, 4))


def objects(count: int = 12) -> FittedObjects:
    rng = torch.Generator().manual_seed(0)
    disc = (COLUMN.square() + ROW.square() < 0.6).float()
    grey = torch.full((count, 3, SIZE, SIZE), -0.7)
    lights = torch.cat((torch.full((count, 2), 0.5), 0.3 * torch.randn(count, 2, generator=rng)), dim=1)
    views = 0.1 * torch.randn(count, 6, generator=rng)
    shape = torch.randn(count, 1, generator=rng)
    return FittedObjects(shape, grey, disc.expand(count, -1, -1), views, lights, torch.full((count,), 0.05))


def predicting(depth: Tensor) -> DepthPredictor:
    """A network of a constant output."""
    return lambda *_: depth


def batch(number: int = 0, seed: int = 0) -> Pairs:
    return training_batch(objects(), lambda some: render_pairs(model(), RELIEF, some, CAMERA), seed, number)


def test_the_loss_ignores_the_mean_depth_and_the_background_and_weighs_slopes() -> None:
    pairs = batch()
    truth = pairs.depth - 1
    assert depth_loss(predicting(truth + 0.01), pairs).item() == pytest.approx(0, abs=1e-5)
    beside = truth + 0.3 * (1 - pairs.mask[:, 0])
    assert depth_loss(predicting(beside), pairs).item() == pytest.approx(0, abs=1e-5)
    tilted, rough = truth + 0.002 * COLUMN, truth + 0.002 * (-1) ** torch.arange(SIZE)
    wrong = [depth_loss(predicting(depth), pairs).item() for depth in (tilted, rough)]
    assert 0.01 < wrong[0] < wrong[1] / 3


def test_gradient_of_the_loss() -> None:
    pairs = batch()
    double = Pairs(*(getattr(pairs, name).double() for name in ("image", "mask", "depth")))
    rng = torch.Generator().manual_seed(3)
    predicted = (0.01 * torch.randn(4, SIZE, SIZE, dtype=torch.float64, generator=rng)).requires_grad_()
    assert torch.autograd.gradcheck(lambda one: depth_loss(predicting(one), double), predicted, eps=1e-7, atol=1e-4)


def test_augmentation_moves_image_and_depth_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """The image's brightness is the depth, before and after."""
    for name in ("BRIGHTNESS", "COLOUR", "NOISE", "SCALE"):
        monkeypatch.setattr(depth_network, name, 0.0)
    deep = (0.02 * (COLUMN + 0.5 * ROW)).expand(64, -1, -1)
    whole = torch.ones(64, 1, SIZE, SIZE)
    pairs = Pairs((deep * 20).unsqueeze(1).expand(-1, 3, -1, -1), whole, 1 + deep)
    augmented = augment(pairs, torch.Generator().manual_seed(0))
    inner = augmented.mask[:, 0] * (torch.nn.functional.avg_pool2d(augmented.mask, 3, 1, 1)[:, 0] > 0.99) > 0
    torch.testing.assert_close((augmented.image[:, 0] / 20)[inner], (augmented.depth - 1)[inner], atol=1e-4, rtol=0)
    assert set(augmented.mask.unique().tolist()) <= {0.0, 1.0}
    assert (augmented.image * (1 - augmented.mask)).abs().max() == 0
    unmoved = [torch.allclose(one, deep[0] + 1, atol=1e-4) for one in augmented.depth]
    flipped = [torch.allclose(one, deep[0].flip(1) + 1, atol=1e-4) for one in augmented.depth]
    assert 5 < sum(unmoved) < 25
    assert 5 < sum(flipped) < 25
    torch.testing.assert_close(augment(pairs, torch.Generator().manual_seed(0)).image, augmented.image)


def test_augmented_depth_is_not_mixed_with_the_background() -> None:
    """A flat disc stays flat up to its boundary."""
    disc = (COLUMN.square() + ROW.square() < 0.5).float().expand(64, -1, -1)
    depth = torch.where(disc > 0, 0.96, VIEW_FAR)
    pairs = Pairs(torch.zeros(64, 3, SIZE, SIZE), disc.unsqueeze(1), depth)
    augmented = augment(pairs, torch.Generator().manual_seed(0))
    visible = augmented.depth < VIEW_FAR
    size = ((augmented.depth - 1) / -0.04)[visible]
    assert 0.8 < size.min() <= size.max() < 1.25
    assert ((augmented.mask[:, 0] > 0) & ~visible).sum() == 0
    assert (augmented.depth[~visible] == VIEW_FAR).all()
    flat = [one[inside].std() < 1e-6 for one, inside in zip(augmented.depth, visible, strict=True)]
    assert all(flat)


def test_scaling_scales_depth_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ROTATION", "SHIFT", "BRIGHTNESS", "COLOUR", "NOISE"):
        monkeypatch.setattr(depth_network, name, 0.0)
    monkeypatch.setattr(depth_network, "SCALE", 0.3)
    slope = (0.02 * COLUMN).expand(32, -1, -1)
    pairs = Pairs(torch.ones(32, 3, SIZE, SIZE), torch.ones(32, 1, SIZE, SIZE), 1 + slope)
    augmented = augment(pairs, torch.Generator().manual_seed(0))
    middle = augmented.depth[:, 8, 6:10].diff().abs()
    torch.testing.assert_close(middle, slope[:, 8, 6:10].diff().abs(), atol=2e-5, rtol=0)  # so slopes stay


def test_half_of_a_batch_is_of_the_file_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MOVED", "BRIGHTNESS", "COLOUR", "NOISE"):
        monkeypatch.setattr(depth_network, name, 0.0)
    pairs = np.zeros(3, pair_type(SIZE))
    pairs["mask"], pairs["depth"] = True, encode_pair_depth(np.full((SIZE, SIZE), 1.0625))
    mixed = training_batch(objects(), lambda some: render_pairs(model(), RELIEF, some, CAMERA), 0, 0, PairFile(pairs))
    from_file = ((mixed.depth - 1.0625).abs() < 1e-4).all(dim=2).all(dim=1)
    assert from_file.tolist() == [False, False, True, True]


def test_batches_depend_on_the_seed_and_their_number_alone() -> None:
    assert torch.equal(batch(6).image, batch(6).image)
    assert not torch.equal(batch(6).image, batch(7).image)
    assert not torch.equal(batch(6).image, batch(6, seed=1).image)


def train(path: Path, progress: SilentProgress, net: DepthNet | None = None) -> DepthNet:
    """Sixty updates."""
    net = net or new_depth_net(SIZE, CPU, 0)
    trainer = Trainer({"net": net}, path, Group(), progress, save_every_s=0.0)
    train_depth_net(net, batch, 60, trainer)
    return net


@pytest.mark.slow
def test_training_lowers_the_loss_and_is_resumed_without_loss(tmp_path: Path) -> None:
    trained, fresh, unseen = train(tmp_path / "whole.pt", SilentProgress()), new_depth_net(SIZE, CPU, 0), batch(0, 7)
    assert depth_loss(trained, unseen) < 0.6 * depth_loss(fresh, unseen)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut.pt", StopAt(34))
    resumed = train(tmp_path / "cut.pt", SilentProgress(), new_depth_net(SIZE, CPU, 5))
    for name, tensor in trained.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], tensor, atol=1e-6, rtol=1e-5)


def test_a_loss_that_is_not_finite_is_an_error(tmp_path: Path) -> None:
    net = new_depth_net(SIZE, CPU, 0)
    next(net.parameters()).data.fill_(torch.nan)
    with pytest.raises(G2SError, match="loss of depth network is not finite at step 1"):
        train(tmp_path / "nan.pt", SilentProgress(), net)
