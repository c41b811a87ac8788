"""Sharpening of depth edges, as between a chin and the neck behind it, by a shock filter (Osher and Rudin 1990).

An averaged depth map (over people, views or estimates) has a ramp where each of its samples has a step.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, pad

from g2s_cli.geometry.camera import Camera
from g2s_cli.geometry.warp import grid_sample, identity_grid

RADIUS = 1.5 / 64  # half the width of a ramp, as a share of the image's side
MIN_SLOPE, MAX_SLOPE = 2.2, 4.3  # slopes (depth by width) where the filter sets in, and where it has full strength
EPS = 1e-9


def sharpen_edges(depth: Float[Tensor, "b h w"], camera: Camera, start_row: float) -> Float[Tensor, "b h w"]:
    """Sharpen the steep ramps of depth maps to steps.

    A point of a ramp moves towards the nearer one of the depths that lie `RADIUS` before and behind it along the slope.
    Rows above `start_row`, a share of the image's height, stay.
    """
    dx, dy = _sobel(depth)
    slope = (dx.square() + dy.square()).sqrt()
    direction = torch.stack((dx, dy), dim=-1) / slope.clamp(min=EPS).unsqueeze(-1)
    shift = direction * (RADIUS * camera.size / camera.centre)
    grid = identity_grid(camera.size, depth.device)
    near, far = (
        grid_sample(depth.unsqueeze(1), grid + sign * shift, padding_mode="border")[:, 0] for sign in (-1.0, 1.0)
    )
    t = ((depth - near) / (far - near).clamp(min=EPS)).clamp(0, 1)
    step = near + (far - near) * (t.pow(3) * (t * (6 * t - 15) + 10))  # smootherstep
    strength = ((slope * camera.focal - MIN_SLOPE) / (MAX_SLOPE - MIN_SLOPE)).clamp(0, 1) * (far > near)
    row = torch.arange(camera.size, device=depth.device)[:, None]
    return torch.where(row >= start_row * camera.size, depth + strength * (step - depth), depth)


def _sobel(depth: Float[Tensor, "b h w"]) -> tuple[Float[Tensor, "b h w"], Float[Tensor, "b h w"]]:
    """Differences a pixel to the right and a pixel down."""
    kernel = depth.new_tensor(((-1, 0, 1), (-2, 0, 2), (-1, 0, 1))) / 8
    padded = pad(depth.unsqueeze(1), (1,) * 4, mode="replicate")
    dx, dy = (conv2d(padded, weight[None, None])[:, 0] for weight in (kernel, kernel.T))
    return dx, dy
