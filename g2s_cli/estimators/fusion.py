"""Fusion of several depth estimates of one photo into its canonical depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import max_pool2d

from g2s_cli.estimators.base import DepthEstimate, Observation
from g2s_cli.estimators.factor_codes import BORDER_COLUMNS
from g2s_cli.estimators.optimize import anneal
from g2s_cli.geometry.camera import Camera, canonical_to_view, unproject_points
from g2s_cli.geometry.factors import Factors
from g2s_cli.geometry.rasterizer import has_surface
from g2s_cli.geometry.render import render_depth_with_margin
from g2s_cli.geometry.resample import resize_area, resize_bspline
from g2s_cli.geometry.warp import grid_sample, points_to_grid

FIT_SIZE = 64  # pixels; the canonical depth is fitted to reduced maps, and takes finer detail by warping
MAX_DETAIL = 0.004  # scene units
ITERATIONS, RATE, DECAY = 60, 0.003, 0.97  # Adam, on the change of the canonical depth
STIFFNESS = 20.0  # weight of the change's squared gradients
MAX_STEP = 0.006  # scene units between neighbours of a pixel that has detail; at occluding edges there is none
FULLY = 0.999  # least share of such pixels at a place
HUBER = 1e-3  # scene units: depth differences count by their squares up to here, beyond by themselves


def fuse(
    factors: Factors,
    estimates: Sequence[DepthEstimate],
    weights: Sequence[float],
    observation: Observation,
    camera: Camera,
) -> Factors:
    """The factors with a canonical depth whose rendering is the weighted mean of all depths.

    The canonical depth is fitted through the renderer. What it cannot express of the mean, beside occluding edges, is
    kept as the depth residual. Depths count up to an additive constant, and where all of them are valid.

    Args:
        factors: whose depth has the weight that the estimates leave of 1.
        estimates: depths in the photo's view.
        weights: one for each estimate, 1 at most together.
    """
    view, start = factors.view[None], factors.depth[None].clone()
    rendered = render_depth_with_margin(start, view, camera)
    valid = (observation.mask[None] >= 0.5) * has_surface(rendered).to(rendered.dtype)
    for estimate in estimates:
        valid = valid * estimate.valid
    target = rendered + sum(
        weight * _centred(estimate.depth - rendered, valid) for weight, estimate in zip(weights, estimates, strict=True)
    )
    small = camera.resize(min(FIT_SIZE, camera.size))
    covered = resize_area(valid, small.size)
    reduced = resize_area(target * valid, small.size) / covered.clamp(min=0.5)
    change = _fit(resize_area(start, small.size), view, reduced, (covered >= 0.5).to(valid.dtype), small)
    depth = start + resize_bspline(change, camera.size)
    if small.size < camera.size:
        depth = depth + _warped_detail(depth, view, target, valid, camera)
    border = max(BORDER_COLUMNS, BORDER_COLUMNS * camera.size // FIT_SIZE)
    inner = slice(border, -border)  # the border columns stay where the networks put them
    start[..., inner] = depth[..., inner].clamp(camera.near, camera.far)
    rendered = render_depth_with_margin(start, view, camera)
    valid = valid * has_surface(rendered)
    residual = valid * _centred(target - rendered, valid)
    return replace(factors, depth=start[0], depth_residual=residual[0])


def _fit(
    start: Float[Tensor, "1 h w"],
    view: Float[Tensor, "1 6"],
    target: Float[Tensor, "1 h w"],
    valid: Float[Tensor, "1 h w"],
    camera: Camera,
) -> Float[Tensor, "1 h w"]:
    """The change of `start` whose rendering is nearest to a target where that is valid."""
    change = torch.zeros_like(start, requires_grad=True)

    def loss(_: int) -> Tensor:
        rendered = render_depth_with_margin(start + change, view, camera)
        counted = valid * has_surface(rendered)
        distance = (_centred(rendered - target, counted).square() + HUBER**2).sqrt()
        bending = sum(change.diff(dim=dim).square().mean() for dim in (-1, -2))
        return (distance * counted).sum() / counted.sum().clamp(min=1) + STIFFNESS * bending

    anneal(loss, {change: RATE}, ITERATIONS, DECAY)
    return change.detach()


def _warped_detail(
    depth: Float[Tensor, "1 h w"],
    view: Float[Tensor, "1 6"],
    target: Float[Tensor, "1 h w"],
    valid: Float[Tensor, "1 h w"],
    camera: Camera,
) -> Float[Tensor, "1 h w"]:
    """What the rendered depth still lacks of a target, in the canonical frame, where the photo shows it."""
    rendered = render_depth_with_margin(depth, view, camera)
    counted = valid * has_surface(rendered)
    step = max_pool2d(rendered, 3, 1, 1) + max_pool2d(-rendered, 3, 1, 1)
    shown = -max_pool2d(-counted * (step < MAX_STEP), 3, 1, 1)
    detail = (shown * _centred(target - rendered, counted)).clamp(-MAX_DETAIL, MAX_DETAIL)
    points = canonical_to_view(unproject_points(depth, camera), view, camera)
    maps = torch.stack((detail, shown, rendered), dim=1)
    detail, shown, nearest = grid_sample(maps, points_to_grid(points, camera)).unbind(dim=1)
    return detail * (shown > FULLY) * (points[..., 2] <= nearest + MAX_STEP)


def _centred(maps: Float[Tensor, "1 h w"], weights: Float[Tensor, "1 h w"]) -> Float[Tensor, "1 h w"]:
    """Maps less their weighted mean."""
    return maps - (maps * weights).sum() / weights.sum().clamp(min=1)
