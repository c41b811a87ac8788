"""What is read from files before a run."""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import fake_checkpoints
import pytest
import torch
from torch import Tensor

from g2s_cli.errors import UsageError, WeightsError
from g2s_cli.estimators.depth_net import DepthNet
from g2s_cli.loading import Plan, Weights, load, load_gan
from g2s_cli.machine import Machine
from g2s_cli.photo.align import CropOptions

CPU = Machine(torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("size", [16, 64, 128])
def test_latents_are_found_by_all_the_discriminator_sees(size: int, tmp_path: Path) -> None:
    (tmp_path / "gan.pt").write_bytes(fake_checkpoints.saved(fake_checkpoints.gan(size)))
    gan = load_gan(Weights({}, tmp_path / "gan.pt"), CPU)
    seen = gan.inversion_distance.features(torch.zeros(1, 3, size, size))
    assert [maps.shape[2] for maps in seen] == [size // 2**block for block in range(1, len(seen) + 1)]
    assert seen[-1].shape[2] == 4


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_gpu_that_only_emulates_bfloat16_is_not_asked_for_it(
    native: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch says of older GPUs that they know it, unless it is asked again; and the GPU meant need not be the first."""
    asked: list[object] = []
    monkeypatch.setattr(torch, "zeros", lambda *_, **__: torch.ones(1))
    monkeypatch.setattr(torch.cuda, "device", lambda device: asked.append(device) or nullcontext())
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native)
    assert Machine.named("cuda:1").dtype == dtype
    assert asked == [torch.device("cuda:1")]


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        ({"symmetry": "sideways"}, "There is no symmetry 'sideways'. Choose one of: on, off, first-stage."),
        ({"background": "blur"}, "There is no background 'blur'. Choose one of: keep, remove."),
        ({"iterations": -3}, "-3 iterations cannot be done. Give 0 or more."),
        ({"seed": -1}, "There is no seed -1. Give 0 to 18446744073709551615."),
        ({"seed": 2**64}, "There is no seed 18446744073709551616. Give 0 to 18446744073709551615."),
        ({"preset": "magic"}, "synface has no preset 'magic'. Choose one of: instant, fast, paper, ellipsoid."),
        ({"crop_options": CropOptions(face=0)}, "There is no --face 0. 1 is the largest."),
        ({"crop_options": CropOptions(crop=(0.0, 0.0, 0.0, 9.0))}, "--crop 0,0,0,9 is no box."),
        ({"crop_options": CropOptions(crop=(float("nan"), 0.0, 9.0, 9.0))}, "--crop nan,0,9,9 is no box."),
    ],
)
def test_a_plan_of_what_cannot_be_meant_is_refused(wish: dict[str, Any], says: str) -> None:
    unchecked = inspect.unwrap(Plan.of.__func__)  # users have no type checker in between, as these tests do
    with pytest.raises(UsageError) as refusal:
        unchecked(Plan, **wish)
    assert str(refusal.value).startswith(says)


def test_a_gan_that_is_not_there_is_what_is_wrong(tmp_path: Path) -> None:
    for gan in (tmp_path / "nosuch.pt", tmp_path):
        with pytest.raises(WeightsError, match=f"There is no file {gan}"):
            Plan.of(gan=gan, preset="instant")


def test_photos_are_registered_with_the_mean_face_that_the_networks_know(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load(Plan.of(preset="fast"), CPU)
    mean = loaded.guides.mean
    assert mean is not None
    assert torch.equal(mean.depth, loaded.networks["mean_depth"])
    assert mean.depth.shape == (64, 64)
    assert mean.depth[32, 32] < mean.depth[5, 32]  # a face: its middle is nearest
    assert torch.equal(mean.latent, loaded.gan.generator.latent_avg)
    assert load(Plan.of(preset="instant"), CPU).guides.mean is None

    whole = Weights.tensors
    monkeypatch.setattr(
        Weights, "tensors", lambda self, part: {k: v for k, v in whole(self, part).items() if k != "mean_depth"}
    )
    with pytest.raises(WeightsError, match="do not know the mean object") as error:
        load(Plan.of(preset="fast"), CPU)
    assert "g2s weights pull synface" in str(error.value.remedy)


def test_networks_say_how_faces_differ_from_the_mean_one(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = load(Plan.of(preset="fast"), CPU).guides.shapes
    assert shapes is not None
    assert shapes.factors.shape[:3] == shapes.mean.shape == (64, 64, 3)
    moves = shapes.factors.square().sum(dim=-1).sqrt() * 360  # pixels
    assert 0.3 < moves.mean() < 2
    assert load(Plan.of(preset="instant"), CPU).guides.shapes is None

    whole = Weights.tensors
    for left in (0, -1):  # none of it, or less than all of each tensor

        def broken(self: Weights, part: str, left: int = left) -> dict[str, Tensor]:
            tensors = whole(self, part)
            known = {name: tensor[:left] for name, tensor in tensors.items() if name.startswith("shape.")}
            others = {name: tensors[name] for name in tensors.keys() - known.keys()}
            return others | (known if left else {})

        monkeypatch.setattr(Weights, "tensors", broken)
        with pytest.raises(WeightsError, match="how objects differ") as error:
            load(Plan.of(preset="fast"), CPU)
        assert "g2s weights pull synface" in str(error.value.remedy)


def test_networks_have_an_s_that_reads_photos_of_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    for preset in ("fast", "instant"):
        sight = load(Plan.of(preset=preset), CPU).guides.sight
        assert sight is not None
        assert sight.size == 64
    assert load(Plan.of(preset="paper"), CPU).guides.sight is None

    whole = Weights.tensors
    other = {f"netS.{name}": tensor for name, tensor in DepthNet(32, 8, 8).state_dict().items()}
    for mine in ({}, other):

        def without(self: Weights, part: str, mine: dict[str, Tensor] = mine) -> dict[str, Tensor]:
            tensors = {k: v for k, v in whole(self, part).items() if not k.startswith("netS.")}
            return tensors | mine if part == "networks" else tensors

        monkeypatch.setattr(Weights, "tensors", without)
        with pytest.raises(WeightsError, match="have no S, which reads depth off photos of 64 px") as error:
            load(Plan.of(preset="instant"), CPU)
        assert "g2s weights pull synface" in str(error.value.remedy)
        load(Plan.of(preset="paper"), CPU)
