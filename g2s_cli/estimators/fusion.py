"""Fusion of several depth estimates of one photo into its canonical depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from g2s_cli.estimators.base import DepthEstimate, Observation
from g2s_cli.estimators.factor_codes import BORDER_COLUMNS
from g2s_cli.estimators.optimize import anneal
from g2s_cli.geometry.camera import Camera
from g2s_cli.geometry.factors import Factors
from g2s_cli.geometry.rasterizer import has_surface
from g2s_cli.geometry.render import render_depth_with_margin

ITERATIONS, RATE, DECAY = 60, 0.003, 0.97  # Adam, on the change of the canonical depth
STIFFNESS = 20.0  # weight of the change's squared gradients
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
    view, start = factors.view[None], factors.depth[None]
    rendered = render_depth_with_margin(start, view, camera)
    valid = (observation.mask[None] >= 0.5) * has_surface(rendered).to(rendered.dtype)
    for estimate in estimates:
        valid = valid * estimate.valid
    target = rendered + sum(
        weight * _centred(estimate.depth - rendered, valid) for weight, estimate in zip(weights, estimates, strict=True)
    )
    depth = _fit(start, view, target, valid, camera)
    rendered = render_depth_with_margin(depth, view, camera)
    valid = valid * has_surface(rendered)
    residual = valid * _centred(target - rendered, valid)
    return replace(factors, depth=depth[0], depth_residual=residual[0])


def _fit(
    start: Float[Tensor, "1 h w"],
    view: Float[Tensor, "1 6"],
    target: Float[Tensor, "1 h w"],
    valid: Float[Tensor, "1 h w"],
    camera: Camera,
) -> Float[Tensor, "1 h w"]:
    """The canonical depth near `start` whose rendering is nearest to a target where that is valid."""
    change = torch.zeros_like(start, requires_grad=True)

    def loss(_: int) -> Tensor:
        rendered = render_depth_with_margin(start + change, view, camera)
        counted = valid * has_surface(rendered)
        distance = (_centred(rendered - target, counted).square() + HUBER**2).sqrt()
        bending = sum(change.diff(dim=dim).square().mean() for dim in (-1, -2))
        return (distance * counted).sum() / counted.sum().clamp(min=1) + STIFFNESS * bending

    anneal(loss, {change: RATE}, ITERATIONS, DECAY)
    inner = slice(BORDER_COLUMNS, -BORDER_COLUMNS)  # the border columns stay where the networks put them
    depth = start.clone()
    depth[..., inner] = (start + change).detach()[..., inner].clamp(camera.near, camera.far)
    return depth


def _centred(maps: Float[Tensor, "1 h w"], weights: Float[Tensor, "1 h w"]) -> Float[Tensor, "1 h w"]:
    """Maps less their weighted mean."""
    return maps - (maps * weights).sum() / weights.sum().clamp(min=1)
