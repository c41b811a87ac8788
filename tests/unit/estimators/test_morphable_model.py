"""The morphable model: smooth symmetric modes, its file, quantization and sharpening."""

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
    MorphableModel,
    quantize_albedo_basis,
    read_morphable_model,
    sharpen_template,
    smooth_modes,
)
from g2s_cli.geometry.camera import Camera

CAMERA = Camera(64)
CPU = torch.device("cpu")


@pytest.mark.parametrize("size", [16, 64])
def test_modes_are_symmetric_and_have_the_stated_amplitudes(size: int) -> None:
    camera = Camera(size)
    modes = smooth_modes(camera)
    mirrored = modes.flip(1) * torch.tensor([-1.0, 1, 1])[:, None]
    torch.testing.assert_close(mirrored, modes, atol=1e-6, rtol=0)
    strength = modes.square().sum(dim=-1).mean(dim=(0, 1)).sqrt() * camera.focal / size
    torch.testing.assert_close(strength, torch.tensor(AMPLITUDES))


def test_modes_have_the_covariance_of_a_gaussian_process() -> None:
    """Along the columns of depth, exp(-d² / 2 reach²), far from the upper and lower end."""
    modes = smooth_modes(CAMERA)[:, 8, 2]
    centre = 32
    for distance in (4, 7, 10):
        first = centre - distance // 2
        correlation = modes[first] @ modes[first + distance] / modes[centre].square().sum()
        assert correlation.item() == pytest.approx(math.exp(-((distance / 64 / REACH) ** 2) / 2), abs=0.12)


def test_modes_of_a_shorter_reach_bend_more_and_span_those_of_a_longer_one() -> None:
    long, short = smooth_modes(CAMERA), smooth_modes(CAMERA, 4 / 64, 0.02)
    assert short.shape[-1] > 5 * long.shape[-1]
    bent = [modes[:, 8, 2].diff(n=2, dim=0).square().sum(dim=-1).mean().item() for modes in (long, short)]
    assert bent[1] > 10 * bent[0]
    rows = [modes.flatten(0, 2) for modes in (long, short)]
    left = rows[0] - rows[1] @ torch.linalg.lstsq(rows[1], rows[0]).solution
    assert left.abs().max() < 1e-5


def test_a_model_is_stored_as_coefficients_of_modes() -> None:
    modes = smooth_modes(CAMERA)
    count = modes.shape[-1]
    maps = {name: torch.rand(3, 64, 64) for name in ("albedo", "variance")} | {"detail": 0.01 * torch.rand(64, 64, 3)}
    tensors = maps | {"mean": torch.eye(count)[3], "factors": 2 * torch.eye(count)[:, :5], "lights": torch.rand(2, 4)}
    stored = {f"shape.{name}": tensor.half() for name, tensor in tensors.items()}
    stored["shape.albedo"][:, 5, 7] = 0  # visible in no object
    albedo_basis = torch.randn(3, 64 * 64 - 1, 2)
    stored["shape.looks"], stored["shape.look_steps"] = quantize_albedo_basis(albedo_basis)
    stored["shape.bias"] = torch.rand(4, 5)  # of version 0.1.0, which is ignored
    model = read_morphable_model(stored, CAMERA, CPU)
    assert (model.variance[:, 5, 7] == UNKNOWN).all()
    assert (model.variance[:, 5, 6] <= 1).all()
    torch.testing.assert_close(model.mean, modes[..., 3] + maps["detail"], atol=1e-5, rtol=0)
    torch.testing.assert_close(model.shape_basis[..., :5], 2 * modes[..., :5])
    torch.testing.assert_close(model.shape_basis[..., 5:], FINE * smooth_modes(CAMERA, FINE_REACH))
    visible = torch.ones(64, 64, dtype=torch.bool)
    visible[5, 7] = False
    torch.testing.assert_close(
        model.albedo_basis[:, visible], albedo_basis, atol=albedo_basis.abs().max().item() / 254 + 1e-6, rtol=0
    )
    assert (model.albedo_basis[:, 5, 7] == 0).all()
    for name in PARTS:
        with pytest.raises(KeyError):
            read_morphable_model({key: tensor for key, tensor in stored.items() if key != f"shape.{name}"}, CAMERA, CPU)
    with pytest.raises(RuntimeError):
        read_morphable_model(stored | {"shape.mean": torch.zeros(count + 1)}, CAMERA, CPU)
    with pytest.raises(RuntimeError, match="not for 32 px"):
        read_morphable_model(stored, Camera(32), CPU)


def test_each_vector_of_the_albedo_basis_has_its_own_int8_scale() -> None:
    albedo_basis = torch.randn(3, 64, 2) * torch.tensor([1.0, 1e-3])
    quantized, steps = quantize_albedo_basis(torch.cat((albedo_basis, torch.zeros(3, 64, 1)), dim=-1))
    assert quantized.dtype == torch.int8
    restored = quantized * steps
    assert torch.equal(restored[..., 2], torch.zeros(3, 64))
    error = (restored[..., :2] - albedo_basis).abs().amax(dim=(0, 1)) / albedo_basis.abs().amax(dim=(0, 1))
    assert (error < 0.5 / 127 + 1e-6).all()


def test_sharpen_template_sharpens_template_and_mean_together_and_changes_nothing_else() -> None:
    camera, rows = Camera(64), torch.arange(64.0)[:, None].expand(64, 64)
    template = 0.95 + 0.025 * torch.sigmoid((rows - 47.5) / 0.7)
    mean, blank = torch.zeros(64, 64, 3), torch.zeros(3, 64, 64)
    mean[..., 0], mean[..., 2] = 0.003, 0.025 * torch.sigmoid((rows - 47.5) / 0.7)
    maps = mean, mean[..., None], blank, blank[..., None], blank + 1
    model = MorphableModel(*maps, torch.zeros(2, 4))
    sharp = sharpen_template(model, template, camera, 0.5)
    before, after = ((template + some.mean[..., 2])[:, 32] for some in (model, sharp))
    assert after.diff().max() > 1.15 * before.diff().max()
    assert torch.equal(sharp.mean[..., :2], model.mean[..., :2])
    torch.testing.assert_close(sharp.mean[:40], model.mean[:40])
    assert torch.equal(sharpen_template(model, template, camera, 1.0).mean, model.mean)
    assert sharp.shape_basis is model.shape_basis
