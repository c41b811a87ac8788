"""From network outputs to scene units, and the ellipsoid of the weak shape prior."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from g2s_cli.config import Ellipsoid
from g2s_cli.estimators.factor_codes import depth_from_raw, light_from_code, raw_from_depth, view_from_code
from g2s_cli.estimators.gan2shape.prior import ellipsoid
from g2s_cli.geometry.camera import Camera

CAMERA = Camera(12)
RAW = torch.randn(2, 12, 12, generator=torch.Generator().manual_seed(0))
ROUND = Ellipsoid(near=0.92, far=1.02, radius=0.25)


def test_codes_are_scaled_as_by_the_authors() -> None:
    view = view_from_code(torch.ones(1, 6))[0]
    assert view.tolist() == pytest.approx([math.pi / 3] * 3 + [0.1, 0.1, 0])
    light = light_from_code(torch.tensor([[-1.0, 1, 0.5, -0.5], [0, 0, 0, 0]]))
    assert light.tolist() == [[0, 1, 0.5, -0.5], [0.5, 0.5, 0, 0]]


def test_depth_is_between_near_and_far() -> None:
    depth = depth_from_raw(3 * RAW, None, CAMERA)
    assert 0.9 <= depth.min() < 0.905
    assert 1.095 < depth.max() <= 1.1


def test_the_mean_of_the_raw_depth_has_no_effect() -> None:
    torch.testing.assert_close(depth_from_raw(RAW + 7, None, CAMERA), depth_from_raw(RAW, None, CAMERA))
    template = RAW[1]
    constant = depth_from_raw(torch.full_like(RAW, 5.0), template, CAMERA)
    torch.testing.assert_close(constant[0, :, 2:-2], 1 + 0.1 * torch.tanh(template)[:, 2:-2])


def test_the_border_columns_are_set_back() -> None:
    depth = depth_from_raw(RAW, None, CAMERA)
    border = torch.cat((depth[..., :2], depth[..., -2:]), dim=-1)
    torch.testing.assert_close(border, torch.full_like(border, 0.3 * 0.9 + 0.7 * 1.1))
    assert (depth[..., 2] != depth[0, 0, 0]).any()
    assert (depth[..., -3] != depth[0, 0, 0]).any()


def test_raw_from_depth_inverts_the_squashing() -> None:
    centred = RAW - RAW.mean(dim=(1, 2), keepdim=True)
    found = raw_from_depth(depth_from_raw(RAW, None, CAMERA), CAMERA)
    torch.testing.assert_close(found[..., 2:-2], centred[..., 2:-2], rtol=1e-3, atol=1e-3)
    assert torch.isfinite(raw_from_depth(torch.tensor([[0.5, 0.9, 1.1, 3.0]]), CAMERA)).all()


def test_the_ellipsoid_stands_on_the_masks_box() -> None:
    mask = torch.zeros(40, 40)
    mask[10:31, 5:24] = 0.8
    depth = ellipsoid(mask, ROUND)
    assert depth[20, 14] == pytest.approx(0.92, abs=1e-6)  # the middle of the box
    bulging = depth < 1.02
    rows, columns = bulging.any(1).nonzero(), bulging.any(0).nonzero()
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 30, 5, 23)
    torch.testing.assert_close(depth, ellipsoid((mask > 0.5).float(), ROUND))
    # Half way to the box's side the height is sqrt(3)/2 of the whole.
    quarter = ellipsoid(torch.ones(41, 41), ROUND)[20]
    height = 0.1 * math.sqrt(1 - (10 / 20.5) ** 2)
    assert quarter[10] == pytest.approx(1.02 - height, abs=1e-6)


def test_the_ellipsoid_is_raised_extended_and_shrunk_by_shares_of_the_box() -> None:
    mask = torch.zeros(40, 40)
    mask[10:30] = 1
    edge = ellipsoid(mask, Ellipsoid(near=0.92, far=1.02, radius=0.4, shrink_sides=0.25, to_lower_edge=True))
    rows, columns = torch.nonzero(edge < 1.02, as_tuple=True)
    assert rows.max() == len(mask) - 1
    inside = torch.nonzero(mask >= 0.7)[:, 1]
    assert abs((columns.max() - columns.min()) / (inside.max() - inside.min()) - 0.5) < 0.12
    tall = ellipsoid(mask, Ellipsoid(near=0.92, far=1.02, radius=0.4, raise_top=0.25, extend_bottom=0.1))
    rows = (tall < 1.02).any(1).nonzero()
    assert rows.min() == 10 - 5  # a quarter of 20 rows
    assert rows.max() in (31, 32)


@pytest.mark.parametrize("share", [0.0, 0.69])
def test_without_a_mask_the_ellipsoid_is_a_circle_in_the_middle(share: float) -> None:
    bulging = ellipsoid(torch.full((40, 40), share), ROUND) < 1.02
    ticks = torch.arange(40) - 19.5
    near_middle = (ticks[:, None].square() + ticks.square()).sqrt()
    assert bulging[near_middle < 9].all()
    assert not bulging[near_middle > 11].any()


def test_the_variations_of_table_2() -> None:
    mask = torch.zeros(48, 48)
    mask[4:44, 12:36] = 1
    whole = ellipsoid(mask, ROUND)
    moved = ellipsoid(mask, replace(ROUND, shift=1 / 6))
    torch.testing.assert_close(moved[:, 8:], whole[:, :-8])
    torch.testing.assert_close(ROUND.far - ellipsoid(mask, replace(ROUND, bulge=0.5)), (ROUND.far - whole) / 2)
    assert (ellipsoid(mask, replace(ROUND, bulge=0.0)) == ROUND.far).all()
    half = ellipsoid(mask, replace(ROUND, round_right=True))
    assert torch.equal(half[:, :24], whole[:, :24])
    bulging = half[:, 24:] < ROUND.far
    assert (bulging.any(1).sum(), bulging.any(0).sum()) == (24, 12)  # as high as the box is wide
    quarter = half[24:36, 24:36]
    torch.testing.assert_close(quarter, quarter.T)
