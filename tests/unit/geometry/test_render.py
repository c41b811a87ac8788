"""The renderer on a dome with a red nose."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from g2s_cli.geometry.camera import (
    Camera,
    canonical_to_view,
    project_points,
    rotate_view,
    rotation_matrix,
    unproject_points,
)
from g2s_cli.geometry.factors import Factors
from g2s_cli.geometry.image import composite_on_white
from g2s_cli.geometry.normals import depth_to_normals
from g2s_cli.geometry.rasterizer import VIEW_FAR
from g2s_cli.geometry.render import Rendering, mask_to_canonical, mask_to_view, photo_depth, render
from g2s_cli.geometry.shading import diffuse_shading, light_from_position, shade

SIZE = 33
CAMERA = Camera(SIZE)
FRONT = torch.zeros(6)
TILTED = torch.tensor((0.1, -0.25, 0.1, 0.003, -0.002, 0))
TICKS = torch.linspace(-1, 1, SIZE)
Y, X = torch.meshgrid(TICKS, TICKS, indexing="ij")
DISC = (X.square() + Y.square() < 0.6**2).float()


def dome(view: Tensor = FRONT, light: tuple[float, float] = (0.0, 0.0)) -> Factors:
    """A grey dome 0.06 high on a plate at 1.02, red where it is nearest."""
    depth = 1.02 - 0.06 * (1 - (X / 0.8) ** 2 - (Y / 0.8) ** 2).clamp(min=0).sqrt()
    albedo = torch.zeros(3, SIZE, SIZE)
    albedo[:, 15:18, 15:18] = torch.tensor((1.0, -1, -1)).view(3, 1, 1)
    return Factors(depth, albedo, view, light_from_position(*light, 0.3, 0.7, view))


def shifted(right_px: float, down_px: float = 0.0) -> Tensor:
    """A view that moves a plane at depth 1."""
    return torch.tensor((0, 0, 0, right_px / CAMERA.focal, down_px / CAMERA.focal, 0))


def nose_position(image: Tensor) -> tuple[float, float]:
    """Column and row of the red nose, in pixels from the image's centre."""
    red = (image[0] - image[1]).clamp(min=0)
    column, row = (red.sum(dim) @ torch.arange(SIZE).float() / red.sum() for dim in (0, 1))
    return column.item() - CAMERA.centre, row.item() - CAMERA.centre


@pytest.mark.parametrize(
    ("yaw_deg", "pitch_deg", "direction"),
    [(15, 0, (1, 0)), (-15, 0, (-1, 0)), (0, 15, (0, -1)), (0, -15, (0, 1))],
    ids=["right", "left", "up", "down"],
)
def test_the_nose_moves_to_where_the_head_turns(yaw_deg: float, pitch_deg: float, direction: tuple[int, int]) -> None:
    factors = dome(rotate_view(FRONT, math.radians(yaw_deg), math.radians(pitch_deg)))
    nose = canonical_to_view(unproject_points(factors.depth[None], CAMERA), factors.view[None], CAMERA)[0, 16, 16]
    found = nose_position(render(factors, CAMERA).image)
    assert found == pytest.approx((project_points(nose, CAMERA) - CAMERA.centre).tolist(), abs=0.15)
    assert found == pytest.approx((2 * direction[0], 2 * direction[1]), abs=0.6)


@pytest.mark.parametrize("view", [FRONT, torch.tensor((0.1, -0.3, 0.1, 0, 0, 0))], ids=["front", "turned"])
def test_a_light_brightens_the_side_it_stands_on(view: Tensor) -> None:
    image = render(dome(view, light=(1.0, 0.0)), CAMERA).image.mean(0)
    assert image[16, 22] > image[16, 10] + 0.1
    image = render(dome(view, light=(0.0, 1.0)), CAMERA).image.mean(0)
    assert image[10, 16] > image[22, 16] + 0.1


def test_the_front_view_shows_the_canonical_maps() -> None:
    factors = dome(light=(0.5, 0.5))
    rendering = render(factors, CAMERA)
    assert rendering.valid.all()
    torch.testing.assert_close(rendering.depth, factors.depth, rtol=0, atol=1e-6)
    torch.testing.assert_close(rendering.albedo, factors.albedo, rtol=0, atol=1e-4)
    diffuse = diffuse_shading(depth_to_normals(factors.depth[None], CAMERA), factors.light[None])
    lit = shade(factors.albedo[None], diffuse, factors.light[None])[0].clamp(-1, 1)
    torch.testing.assert_close(rendering.image, lit, rtol=0, atol=1e-4)


def test_the_image_is_the_albedo_under_the_shading() -> None:
    factors = dome(torch.tensor((0.1, -0.2, 0.05, 0.002, 0, 0)), light=(0.4, 0.2))
    rendering = render(factors, CAMERA)
    product = (rendering.albedo / 2 + 0.5) * rendering.shading * 2 - 1
    # Both are sampled between pixels, the product before and after.
    assert (product - rendering.image).abs()[:, mask_to_view(DISC, factors, CAMERA) == 1].mean() < 2e-3


def test_normals_turn_with_the_object() -> None:
    view = rotate_view(FRONT, math.radians(20), 0.0)
    rendering = render(dome(view), CAMERA)
    torch.testing.assert_close(rendering.normal.norm(dim=-1), torch.ones(SIZE, SIZE))
    column, row = nose_position(rendering.image)
    at_nose = rendering.normal[round(row + CAMERA.centre), round(column + CAMERA.centre)]
    # The nose's canonical normal is (0, 0, 1).
    torch.testing.assert_close(at_nose, rotation_matrix(view[None])[0, :, 2], rtol=0, atol=0.03)


def test_the_normals_of_a_slope_continue_beyond_the_frame() -> None:
    slope = replace(dome(shifted(3)), depth=(1 + 0.03 * Y).contiguous())
    normal = render(slope, CAMERA).normal
    assert normal[16, 16, 1].abs() > 0.2
    torch.testing.assert_close(normal, normal[16, 16].expand(SIZE, SIZE, -1), rtol=0, atol=0.02)


def test_the_surface_continues_for_an_eighth_of_the_frame() -> None:
    assert render(dome(shifted(3)), CAMERA).valid.all()
    far = render(dome(shifted(9)), CAMERA)
    assert not far.valid[:, :3].any()
    assert (far.depth[:, :3] == VIEW_FAR).all()
    assert far.valid[:, 6:].all()


def test_mask_to_canonical_inverts_mask_to_view() -> None:
    in_photo = mask_to_view(DISC, dome(TILTED), CAMERA)
    assert 0 <= in_photo.min() < in_photo.max() <= 1
    disagree = (mask_to_canonical(in_photo, dome(TILTED), CAMERA) > 0.5) != (DISC > 0.5)
    assert disagree.sum() < 0.1 * DISC.sum()  # the disc's edge, and what hides behind the dome


def test_an_object_cut_by_the_frame_continues_above_and_below_but_not_beside() -> None:
    beside, below = (mask_to_view(torch.ones_like(DISC), dome(shifted(*by)), CAMERA) for by in ((3, 0), (0, 3)))
    assert (beside[:, :2] == 0).all()
    assert (beside[:, 4:] > 0.99).all()
    assert (below[:, 1:-1] > 0.99).all()


def test_compositing_blends_with_white() -> None:
    image, mask = torch.full((3, 1, 3), -0.5), torch.tensor([[0.0, 0.5, 1.0]])
    assert composite_on_white(image, mask)[0].tolist() == [[1.0, 0.25, -0.5]]


def depth_only(depth: Tensor, valid: Tensor, view: Tensor) -> tuple[Rendering, Factors]:
    """A rendering with this depth, of factors with this view; the rest is black."""
    size = len(depth)
    black = torch.zeros(3, size, size)
    rendering = Rendering(black, depth, torch.zeros(size, size, 3), black, torch.zeros(size, size), valid)
    return rendering, Factors(depth, black, view, torch.zeros(4))


@pytest.mark.parametrize(("yaw_deg", "max_deg"), [(0, 88.0), (15, 85.0), (-15, 85.0), (30, 82.0)])
def test_the_slope_limit_of_photo_depth_falls_with_yaw(yaw_deg: float, max_deg: float) -> None:
    camera, mask = Camera(16), torch.ones(16, 16)
    mask[0] = 0
    depth = torch.full((16, 16), 0.95)
    depth[:, 8:] = 1.19  # a wall, as between a cheek and what lies behind it
    view = torch.tensor([0.3, math.radians(yaw_deg), 0.2, 0.0, 0.0, 0.0])
    found = photo_depth(*depth_only(depth, mask >= 0, view), mask, camera)
    assert found[0].isnan().all()
    torch.testing.assert_close(found[1:, :8], depth[1:, :8])
    step = min(0.24, math.tan(math.radians(max_deg)) * depth[1:].mean().item() / camera.focal)
    torch.testing.assert_close(found[1:, 8] - 0.95, torch.full((15,), step))


def test_the_residual_counts_in_photo_depth_where_a_surface_is() -> None:
    depth, mask = torch.full((16, 16), 0.95), torch.ones(16, 16)
    rendering, factors = depth_only(depth, (torch.arange(16) < 8).expand(16, -1), FRONT)
    corrected = replace(factors, depth_residual=0.001 * torch.arange(16.0).expand(16, -1))
    plain, found = (photo_depth(rendering, either, mask, Camera(16)) for either in (factors, corrected))
    torch.testing.assert_close(found[:, :8], plain[:, :8] + corrected.depth_residual[:, :8])
    torch.testing.assert_close(found[:, 8:], plain[:, 8:])
    steep = replace(factors, depth_residual=0.2 * (torch.arange(16.0) == 7).expand(16, -1))
    found = photo_depth(rendering, steep, mask, Camera(16))
    torch.testing.assert_close(found[:, 7], plain[:, 7] + 0.2)  # no slope limit: the estimates have their own slopes
    assert corrected.relight(0.1, 0.2).depth_residual is corrected.depth_residual
    assert corrected.rotate(0.1, 0.0).depth_residual is None  # it belongs to the photo's own view
