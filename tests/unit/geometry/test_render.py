"""Φ on a dome with a red nose: what people ask for is what the picture shows."""

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
from g2s_cli.geometry.normals import silhouette_offset
from g2s_cli.geometry.rasterizer import VIEW_FAR
from g2s_cli.geometry.render import Rendering, mask_to_canonical, mask_to_view, photo_depth, render, shaded_albedo
from g2s_cli.geometry.shading import light_from_position

SIZE = 33
CAMERA = Camera(SIZE)
FRONT = torch.zeros(6)
TICKS = torch.linspace(-1, 1, SIZE)
Y, X = torch.meshgrid(TICKS, TICKS, indexing="ij")
DISC = (X.square() + Y.square() < 0.6**2).float()


def dome(view: Tensor = FRONT, light: tuple[float, float] = (0.0, 0.0)) -> Factors:
    """A grey dome 0.06 high on a plate at 1.02, red where it is nearest."""
    depth = 1.02 - 0.06 * (1 - (X / 0.8) ** 2 - (Y / 0.8) ** 2).clamp(min=0).sqrt()
    albedo = torch.zeros(3, SIZE, SIZE)
    albedo[:, 15:18, 15:18] = torch.tensor((1.0, -1, -1)).view(3, 1, 1)
    return Factors(depth, albedo, view, light_from_position(*light, 0.3, 0.7, view))


def redness_centre(image: Tensor) -> tuple[float, float]:
    """Column and row of the red nose, in pixels from the picture's middle."""
    red = (image[0] - image[1]).clamp(min=0)
    column, row = (red.sum(dim) @ torch.arange(SIZE).float() / red.sum() for dim in (0, 1))
    return column.item() - CAMERA.centre, row.item() - CAMERA.centre


@pytest.mark.parametrize(
    ("yaw_deg", "pitch_deg", "direction"),
    [(15, 0, (1, 0)), (-15, 0, (-1, 0)), (0, 15, (0, -1)), (0, -15, (0, 1))],
    ids=["right", "left", "up", "down"],
)
def test_the_nose_goes_where_the_head_turns(yaw_deg: float, pitch_deg: float, direction: tuple[int, int]) -> None:
    factors = dome(rotate_view(FRONT, math.radians(yaw_deg), math.radians(pitch_deg)))
    nose = canonical_to_view(unproject_points(factors.depth[None], CAMERA), factors.view[None], CAMERA)[:, 16:17, 16:17]
    column, row = (project_points(nose, CAMERA)[0, 0, 0] - CAMERA.centre).tolist()
    found = redness_centre(render(factors, CAMERA).image)
    assert found == pytest.approx((column, row), abs=0.15)
    assert found == pytest.approx((2 * direction[0], 2 * direction[1]), abs=0.6)


@pytest.mark.parametrize("view", [FRONT, torch.tensor((0.1, -0.3, 0.1, 0, 0, 0))], ids=["front", "turned"])
def test_a_light_on_the_photos_right_brightens_its_right(view: Tensor) -> None:
    image = render(dome(view, light=(1.0, 0.0)), CAMERA).image.mean(0)
    assert image[16, 22] > image[16, 10] + 0.1
    image = render(dome(view, light=(0.0, 1.0)), CAMERA).image.mean(0)
    assert image[10, 16] > image[22, 16] + 0.1


def test_from_the_front_the_maps_are_the_canonical_ones() -> None:
    factors = dome(light=(0.5, 0.5))
    seen = render(factors, CAMERA)
    assert seen.valid.all()
    torch.testing.assert_close(seen.depth, factors.depth, rtol=0, atol=1e-6)
    torch.testing.assert_close(seen.albedo, factors.albedo, rtol=0, atol=1e-4)
    torch.testing.assert_close(seen.image, shaded_albedo(factors, CAMERA).clamp(-1, 1), rtol=0, atol=1e-4)


def test_the_image_is_the_albedo_under_the_shading() -> None:
    seen = render(dome(torch.tensor((0.1, -0.2, 0.05, 0.002, 0, 0)), light=(0.4, 0.2)), CAMERA)
    inside = mask_to_view(DISC, dome(torch.tensor((0.1, -0.2, 0.05, 0.002, 0, 0))), CAMERA) == 1
    product = (seen.albedo / 2 + 0.5) * seen.shading * 2 - 1
    # Both are sampled between pixels, the product before and after.
    assert (product - seen.image).abs()[:, inside].mean() < 2e-3


def test_normals_turn_with_the_object() -> None:
    view = rotate_view(FRONT, math.radians(20), 0.0)
    seen = render(dome(view), CAMERA)
    torch.testing.assert_close(seen.normal.norm(dim=-1), torch.ones(SIZE, SIZE))
    column, row = redness_centre(seen.image)
    at_nose = seen.normal[round(row + CAMERA.centre), round(column + CAMERA.centre)]
    # The nose's canonical normal is (0, 0, 1); the inner sign points away from the viewer.
    torch.testing.assert_close(at_nose, rotation_matrix(view[None])[0, :, 2], rtol=0, atol=0.03)


def test_normals_go_on_to_the_frames_border_and_beyond() -> None:
    """A slope, moved by three pixels: its outermost normals are the slope's, too."""
    view = torch.tensor((0, 0, 0, 3 / CAMERA.focal, 0, 0))
    slope = replace(dome(view), depth=(1 + 0.03 * Y).contiguous())
    normal = render(slope, CAMERA).normal
    assert normal[16, 16, 1].abs() > 0.2
    torch.testing.assert_close(normal, normal[16, 16].expand(SIZE, SIZE, -1), rtol=0, atol=0.02)


def test_beyond_the_frame_the_relief_goes_on_for_an_eighth_of_it() -> None:
    shifted = replace(dome(), view=torch.tensor((0, 0, 0, 3 / CAMERA.focal, 0, 0)))
    assert render(shifted, CAMERA).valid.all()
    far = replace(dome(), view=torch.tensor((0, 0, 0, 9 / CAMERA.focal, 0, 0)))
    seen = render(far, CAMERA)
    assert not seen.valid[:, :3].any()
    assert (seen.depth[:, :3] == VIEW_FAR).all()
    assert seen.valid[:, 6:].all()


def test_a_mask_comes_back_from_the_photo() -> None:
    factors = dome(torch.tensor((0.1, -0.25, 0.1, 0.003, -0.002, 0)))
    in_photo = mask_to_view(DISC, factors, CAMERA)
    assert 0 <= in_photo.min() < in_photo.max() <= 1
    back = mask_to_canonical(in_photo, factors, CAMERA)
    disagree = (back > 0.5) != (DISC > 0.5)
    assert disagree.sum() < 0.1 * DISC.sum()  # the disc's rim, and what hides behind the dome


def test_an_object_the_frame_cuts_goes_on_above_and_below_but_not_beside() -> None:
    # Moved by three pixels, the frame's edge comes into the picture; what lies beyond repeats the edge's depth.
    aside = replace(dome(), view=torch.tensor((0, 0, 0, 3 / CAMERA.focal, 0, 0)))
    down = replace(dome(), view=torch.tensor((0, 0, 0, 0, 3 / CAMERA.focal, 0)))
    everywhere = torch.ones_like(DISC)
    beside = mask_to_view(everywhere, aside, CAMERA)
    assert (beside[:, :2] == 0).all()
    assert (beside[:, 4:] > 0.99).all()
    assert (mask_to_view(everywhere, down, CAMERA)[:, 1:-1] > 0.99).all()


def test_on_white() -> None:
    image, mask = torch.full((3, 1, 3), -0.5), torch.tensor([[0.0, 0.5, 1.0]])
    assert composite_on_white(image, mask)[0].tolist() == [[1.0, 0.25, -0.5]]


@pytest.mark.parametrize(("yaw_deg", "steepest_deg"), [(0, 88.0), (15, 85.0), (-15, 85.0), (30, 82.0)])
def test_the_further_a_head_is_turned_the_less_steep_a_depth_is_believed(yaw_deg: float, steepest_deg: float) -> None:
    camera = Camera(16)
    depth = torch.full((16, 16), 0.95)
    depth[:, 8:] = 1.19  # a wall, as between a cheek and what lies behind it
    nothing = torch.zeros(16, 16)
    seen = Rendering(
        torch.zeros(3, 16, 16), depth, torch.zeros(16, 16, 3), torch.zeros(3, 16, 16), nothing, nothing == 0
    )
    view = torch.tensor([0.3, math.radians(yaw_deg), 0.2, 0.0, 0.0, 0.0])
    factors = Factors(depth, torch.zeros(3, 16, 16), view, torch.zeros(4))
    mask = torch.ones(16, 16)
    mask[0] = 0
    found = photo_depth(seen, factors, mask, camera)
    assert found[0].isnan().all()
    held = found - silhouette_offset(mask > 0)  # which every depth is, at its outline
    torch.testing.assert_close(held[1:, :8], depth[1:, :8])
    assert (found[1] - found[12] > 0.002).all()
    pixel = depth[1:].mean() / camera.focal
    step = min(0.24, math.tan(math.radians(steepest_deg)) * pixel.item())
    torch.testing.assert_close(held[1:, 8] - 0.95, torch.full((15,), step))


def test_what_is_known_beside_the_relief_counts_in_the_photo_s_depth_alone() -> None:
    depth = torch.full((16, 16), 0.95)
    nothing = torch.zeros(16, 16)
    where = (torch.arange(16) < 8).expand(16, -1)
    seen = Rendering(torch.zeros(3, 16, 16), depth, torch.zeros(16, 16, 3), torch.zeros(3, 16, 16), nothing, where)
    factors = Factors(depth, torch.zeros(3, 16, 16), torch.zeros(6), torch.zeros(4))
    known = replace(factors, depth_residual=0.001 * torch.arange(16.0).expand(16, -1))
    mask = torch.ones(16, 16)
    plain, found = (photo_depth(seen, some, mask, Camera(16)) for some in (factors, known))
    torch.testing.assert_close(found[:, :8], plain[:, :8] + known.depth_residual[:, :8])
    torch.testing.assert_close(found[:, 8:], plain[:, 8:])  # where nothing is seen nothing is known
    assert known.relight(0.1, 0.2).depth_residual is known.depth_residual
    assert known.rotate(0.1, 0.0).depth_residual is None  # which is of the photo's own view
