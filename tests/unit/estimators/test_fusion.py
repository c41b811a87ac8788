"""Fusion of depth estimates into one canonical depth, and the depth residual that it leaves."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from shapes import bumps, nets_around, two_eyes
from torch import Tensor

from g2s_cli.estimators.base import DepthEstimate, Observation
from g2s_cli.estimators.fusion import fuse
from g2s_cli.geometry.camera import Camera
from g2s_cli.geometry.center_crop import CenterCrop
from g2s_cli.geometry.factors import Factors
from g2s_cli.geometry.rasterizer import VIEW_FAR, render_depth

CAMERA = Camera(32)
SIZE = CAMERA.size
MEAN = bumps(CAMERA, 1, wide=0.7, high=0.8, far=1.03, colours=two_eyes)
TICKS = torch.linspace(-1, 1, SIZE)
Y, X = torch.meshgrid(TICKS, TICKS, indexing="ij")


@pytest.fixture
def photo() -> Observation:
    disc = (MEAN.depth[0] < 1.025).float()
    return Observation(MEAN.albedo[0] * disc, disc, torch.zeros(4), CenterCrop(1.0, SIZE))


@pytest.fixture
def factors(photo: Observation) -> Factors:
    return nets_around(MEAN, CAMERA).factors_of(photo.image)


def rendered(factors: Factors) -> Tensor:
    return render_depth(factors.depth[None], factors.view[None], CAMERA)[0]


def fused(factors: Factors, photo: Observation, *depths: tuple[Tensor, float], valid: Tensor | None = None) -> Factors:
    """A fusion with depths and their weights."""
    valid = torch.ones(SIZE, SIZE) if valid is None else valid
    estimates = [DepthEstimate(depth, valid) for depth, _ in depths]
    return fuse(factors, estimates, [weight for _, weight in depths], photo, CAMERA)


def test_depth_is_a_weighted_mean_up_to_an_offset(factors: Factors, photo: Observation) -> None:
    before = rendered(factors)
    ramp = 0.01 * X
    inside = (photo.mask > 0) & (torch.arange(SIZE) > 8) & (torch.arange(SIZE) < 24)
    after = fused(factors, photo, (before + 0.03 + ramp, 0.5))
    change, expected = (rendered(after) - before)[inside], 0.5 * ramp[inside]
    assert (change - expected - (change - expected).mean()).abs().max() < 0.4 * expected.abs().max()
    assert torch.corrcoef(torch.stack((change, expected)))[0, 1] > 0.97
    ripple = (after.depth - factors.depth)[12:20, 12:20].diff(n=2, dim=1).abs()
    assert ripple.median() < 2e-5  # absolute differences alone would leave several times that
    for name in ("albedo", "view", "light"):
        assert torch.equal(getattr(after, name), getattr(factors, name))


def test_an_estimate_of_weight_0_changes_nothing(factors: Factors, photo: Observation) -> None:
    after = fused(factors, photo, (rendered(factors) + 0.01 * X, 0.0))
    torch.testing.assert_close(after.depth, factors.depth, atol=1e-6, rtol=0)


def test_depth_that_is_invalid_or_beside_the_object_does_not_count(factors: Factors, photo: Observation) -> None:
    before = rendered(factors)
    hill = 0.02 * torch.exp(-((X - 0.4).square() + Y.square()) / 0.02)
    beside = torch.where(photo.mask * (before < VIEW_FAR) > 0, 0.0, 1.0)

    def change(depth: Tensor, valid: Tensor | None = None) -> Tensor:
        return (fused(factors, photo, (depth, 1.0), valid=valid).depth - factors.depth).abs()

    assert change(before + beside).max() < 2e-4
    assert change(before + hill)[16, 22] > 0.008
    invalid = X > 0
    assert change(torch.where(invalid, VIEW_FAR, before + hill), (~invalid).float())[16, 22] < 0.002


def test_each_of_two_estimates_has_its_weight(factors: Factors, photo: Observation) -> None:
    """One is tilted to the side, the other up and down."""
    before = rendered(factors)
    yaw, pitch = 0.01 * X, 0.01 * Y
    after = fused(factors, photo, (before + yaw, 0.6), (before + pitch + 0.02, 0.3))
    inside = (photo.mask > 0) & (X.abs() < 0.4) & (Y.abs() < 0.4)
    change = (rendered(after) - before)[inside]
    design = torch.stack((yaw[inside], pitch[inside], torch.ones_like(change)), dim=1)
    weights = torch.linalg.lstsq(design, change[:, None]).solution[:2, 0]
    torch.testing.assert_close(weights, torch.tensor((0.6, 0.3)), atol=0.08, rtol=0)


def test_the_residual_is_what_the_canonical_depth_cannot_express(factors: Factors, photo: Observation) -> None:
    """A step from one pixel to the next, which a smooth change of the canonical depth cannot be."""
    before = rendered(factors)
    wall = 0.02 * (X > 0.1)
    after = fused(factors, photo, (before + wall + 0.03, 0.5))
    residual = after.depth_residual
    assert residual is not None
    valid = residual != 0
    assert (photo.mask[valid] > 0).all()
    assert valid.sum() > 0.99 * photo.mask.sum()  # up to the mask's edge
    expected = (before + 0.5 * wall)[valid]
    found = (rendered(after) + residual)[valid]
    torch.testing.assert_close(found - found.mean(), expected - expected.mean(), atol=1e-5, rtol=0)
    assert abs(residual[valid].mean()) < 1e-6
    beside = valid & (X.abs() < 0.25)

    def error(depth: Tensor) -> Tensor:
        difference = (depth - 0.5 * wall - before)[beside]
        return (difference - difference.mean()).abs().mean()

    assert error(rendered(after) + residual) < 0.1 * error(rendered(after))


def test_depth_stays_between_near_and_far_and_the_border_columns_stay(factors: Factors, photo: Observation) -> None:
    wide = replace(photo, mask=torch.ones_like(photo.mask))
    after = fused(factors, wide, (rendered(factors) + 0.5 * X, 1.0))
    assert (after.depth - factors.depth).abs().max() > 0.03
    assert CAMERA.near <= after.depth.min() < after.depth.max() <= CAMERA.far
    assert torch.equal(after.depth[:, [0, 1, -2, -1]], factors.depth[:, [0, 1, -2, -1]])


def test_detail_finer_than_the_fit_reaches_the_canonical_depth() -> None:
    """Waves of five pixels at 128, which reduced to 64 would be of two and a half."""
    camera = Camera(128)
    mean = bumps(camera, 1, wide=0.7, high=0.8, far=1.03, colours=two_eyes)
    disc = (mean.depth[0] < 1.02).float()
    photo = Observation(mean.albedo[0] * disc, disc, torch.zeros(4), CenterCrop(1.0, 128))
    view = torch.tensor((0.0, 0.15, 0.0, 0.0, 0.0, 0.0))
    factors = Factors(mean.depth[0], mean.albedo[0], view, torch.tensor((0.4, 0.5, 0.0, 0.0)))
    before = render_depth(factors.depth[None], view[None], camera)[0]
    waves = 0.001 * torch.sin(torch.arange(128) * 2 * torch.pi / 5).expand(128, 128)
    after = fuse(factors, [DepthEstimate(before + waves, torch.ones(128, 128))], [1.0], photo, camera)
    seen = (render_depth(after.depth[None], view[None], camera)[0] - before)[44:84, 44:84]
    assert torch.corrcoef(torch.stack((seen.flatten(), waves[44:84, 44:84].flatten())))[0, 1] > 0.9
    assert seen.std() > 0.5 * waves.std()
