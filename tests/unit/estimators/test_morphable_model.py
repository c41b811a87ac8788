"""What moves of points are likely: smooth ones, alike in both halves, and how a model of them is kept."""

from __future__ import annotations

import math

import pytest
import torch

from g2s_cli.estimators.morphable_model import (
    AMPLITUDES,
    FINE,
    FINE_REACH,
    PARTS,
    REACH,
    UNKNOWN,
    nuisance,
    quantize_albedo_basis,
    read_morphable_model,
    smooth_modes,
)
from g2s_cli.geometry.camera import Camera
from g2s_cli.geometry.shading import light_from_position

CAMERA = Camera(64)
CPU = torch.device("cpu")


@pytest.mark.parametrize("size", [16, 64])
def test_modes_are_alike_in_both_halves_and_as_strong_as_said(size: int) -> None:
    camera = Camera(size)
    modes = smooth_modes(camera)
    hflip = modes.flip(1) * torch.tensor([-1.0, 1, 1])[:, None]
    torch.testing.assert_close(hflip, modes, atol=1e-6, rtol=0)
    strength = modes.square().sum(dim=-1).mean(dim=(0, 1)).sqrt() * camera.focal / size
    torch.testing.assert_close(strength, torch.tensor(AMPLITUDES))


def test_moves_vary_about_as_a_gaussian_process_does() -> None:
    """Down the picture, of the depth: exp(-d² / 2 reach²), far from the upper and lower end. All together move more."""
    modes = smooth_modes(CAMERA)[:, 8, 2]
    centre = 32
    for far in (4, 7, 10):
        alike = modes[centre - far // 2] @ modes[centre - far // 2 + far] / modes[centre].square().sum()
        assert alike.item() == pytest.approx(math.exp(-((far / 64 / REACH) ** 2) / 2), abs=0.12)


def test_a_shorter_reach_bends_more_sharply() -> None:
    """And is what a longer one has, of which it lacks nothing."""
    wide, fine = smooth_modes(CAMERA), smooth_modes(CAMERA, 4 / 64, 0.02)
    assert fine.shape[-1] > 5 * wide.shape[-1]
    bent = [modes[:, 8, 2].diff(n=2, dim=0).square().sum(dim=-1).mean().item() for modes in (wide, fine)]
    assert bent[1] > 10 * bent[0]
    flat = [modes.flatten(0, 2) for modes in (wide, fine)]
    left = flat[0] - flat[1] @ torch.linalg.lstsq(flat[1], flat[0]).solution
    assert left.abs().max() < 1e-5


def test_a_model_is_kept_as_amounts_of_modes() -> None:
    modes = smooth_modes(CAMERA)
    count = modes.shape[-1]
    maps = {name: torch.rand(3, 64, 64) for name in ("albedo", "variance")} | {"detail": 0.01 * torch.rand(64, 64, 3)}
    tensors = maps | {"mean": torch.eye(count)[3], "factors": 2 * torch.eye(count)[:, :5], "lights": torch.rand(2, 4)}
    kept = {f"shape.{name}": tensor.half() for name, tensor in tensors.items()}
    kept["shape.albedo"][:, 5, 7] = 0  # which no object has shown
    albedo_basis = torch.randn(3, 64 * 64 - 1, 2)
    kept["shape.looks"], kept["shape.look_steps"] = quantize_albedo_basis(albedo_basis)
    own = smooth_modes(CAMERA, FINE_REACH).shape[-1]
    kept["shape.bias"] = torch.rand(4, 5 + own)
    model = read_morphable_model(kept, CAMERA, CPU)
    assert torch.equal(model.bias, kept["shape.bias"])
    assert (model.variance[:, 5, 7] == UNKNOWN).all()
    assert (model.variance[:, 5, 6] <= 1).all()
    torch.testing.assert_close(model.mean, modes[..., 3] + maps["detail"], atol=1e-5, rtol=0)
    torch.testing.assert_close(model.shape_basis[..., :5], 2 * modes[..., :5])
    torch.testing.assert_close(model.shape_basis[..., 5:], FINE * smooth_modes(CAMERA, FINE_REACH))  # one object's own
    seen = torch.ones(64, 64, dtype=torch.bool)
    seen[5, 7] = False
    torch.testing.assert_close(
        model.albedo_basis[:, seen], albedo_basis, atol=albedo_basis.abs().max().item() / 254 + 1e-6, rtol=0
    )
    assert (model.albedo_basis[:, 5, 7] == 0).all()
    for name in PARTS:
        with pytest.raises(KeyError):
            read_morphable_model({key: tensor for key, tensor in kept.items() if key != f"shape.{name}"}, CAMERA, CPU)
    with pytest.raises(RuntimeError):
        read_morphable_model(kept | {"shape.mean": torch.zeros(count + 1)}, CAMERA, CPU)
    with pytest.raises(RuntimeError, match="another one's bias"):
        read_morphable_model(kept | {"shape.bias": torch.rand(4, 5)}, CAMERA, CPU)
    with pytest.raises(RuntimeError, match="not for 32 px"):
        read_morphable_model(kept, Camera(32), CPU)


def test_circumstances_are_of_the_cameras_frame_and_alike_in_a_mirror() -> None:
    """A light that stands at (0.4, 0.3) as the photo has it, however the head is turned; and all that mirrored."""
    for yaw in (-0.5, 0.0, 0.3):
        view = torch.tensor([0.1, yaw, 0.0, 0.01, 0.0, 0.0])
        said = nuisance(view[None], light_from_position(0.4, 0.3, 0.5, 0.5, view)[None])[0]
        torch.testing.assert_close(said, torch.tensor([1.0, yaw**2, 0.16, -0.4 * yaw]))
        hflip = view * torch.tensor([1.0, -1, -1, -1, 1, 1])
        there = nuisance(hflip[None], light_from_position(-0.4, 0.3, 0.5, 0.5, hflip)[None])[0]
        torch.testing.assert_close(there, said)
    far = torch.tensor([[0.0, 1.4, 0.0, 0.0, 0.0, 0.0]])
    said = nuisance(far, torch.tensor([[0.5, 0.5, 30.0, 0.0]]))  # no picture that a bias is learnt from is so
    assert said.abs().max() <= 1


def test_looks_are_kept_in_a_byte_a_number() -> None:
    """Each factor in steps of its own, so that a weak one loses no more of itself than a strong one."""
    albedo_basis = torch.randn(3, 64, 2) * torch.tensor([1.0, 1e-3])
    kept, steps = quantize_albedo_basis(torch.cat((albedo_basis, torch.zeros(3, 64, 1)), dim=-1))
    assert kept.dtype == torch.int8
    again = kept * steps
    assert torch.equal(again[..., 2], torch.zeros(3, 64))
    wrong = (again[..., :2] - albedo_basis).abs().amax(dim=(0, 1)) / albedo_basis.abs().amax(dim=(0, 1))
    assert (wrong < 0.5 / 127 + 1e-6).all()
