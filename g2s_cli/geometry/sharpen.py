"""Ramps of a relief made steps: where one part of an object stands before another, as a chin does before a neck.

A depth map that is a mean (over people, over views, or over what is likely) has a ramp where each of what it is a mean
of has a step, here or a little beside. A shock filter (Osher and Rudin, SIAM J. Numer. Anal. 1990) sharpens such
ramps and leaves all else as it is.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, pad

from g2s_cli.geometry.camera import Camera
from g2s_cli.geometry.warp import grid_sample, identity_grid

REACH = 1.5 / 64  # in shares of the side: half of a ramp, from its middle to where it ends
GENTLE, STEEP = 2.2, 4.3  # slopes (depth by width) up to which a relief is a surface, from which on it is a ramp
FLAT = 1e-9  # a slope without a direction


def sharpen_edges(depth: Float[Tensor, "b h w"], camera: Camera, below: float) -> Float[Tensor, "b h w"]:
    """Reliefs with steps for ramps, in the part that lies below a share of the picture's height.

    A point of a ramp goes towards that end of it that it is nearer to: a smooth step between the depths that lie
    `REACH` before and behind it along its slope. Scene units.
    """
    across, down = _slopes(depth)
    slope = (across.square() + down.square()).sqrt()
    along = torch.stack((across, down), dim=-1) / slope.clamp(min=FLAT).unsqueeze(-1)
    shift = along * (REACH * camera.size / camera.centre)
    grid = identity_grid(camera.size, depth.device)
    near, far = (
        grid_sample(depth.unsqueeze(1), grid + sign * shift, padding_mode="border")[:, 0] for sign in (-1.0, 1.0)
    )
    share = ((depth - near) / (far - near).clamp(min=FLAT)).clamp(0, 1)
    step = near + (far - near) * _smooth_step(share)
    ramp = ((slope * camera.focal - GENTLE) / (STEEP - GENTLE)).clamp(0, 1) * (far > near)
    row = torch.arange(camera.size, device=depth.device)[:, None]
    return torch.where(row >= below * camera.size, depth + ramp * (step - depth), depth)


def _slopes(depth: Float[Tensor, "b h w"]) -> tuple[Float[Tensor, "b h w"], Float[Tensor, "b h w"]]:
    """How much farther a relief is a pixel to the right, and a pixel down (Sobel's differences)."""
    kernel = depth.new_tensor(((-1, 0, 1), (-2, 0, 2), (-1, 0, 1))) / 8
    wide = pad(depth.unsqueeze(1), (1,) * 4, mode="replicate")
    across, down = (conv2d(wide, one[None, None])[:, 0] for one in (kernel, kernel.T))
    return across, down


def _smooth_step(share: Float[Tensor, "b h w"]) -> Float[Tensor, "b h w"]:
    """From 0 to 1, with no slope and no curvature at both ends."""
    return share.pow(3) * (share * (6 * share - 15) + 10)
