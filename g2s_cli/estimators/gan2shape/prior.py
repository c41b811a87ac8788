"""From network outputs to factors, and the weak prior the first cycle starts from (paper 3.1, A.2.3).

Networks speak in (-1, 1) or in raw numbers; the scene speaks in scene units and radians. The scalings here
are the authors', so that their checkpoints and their view and light statistics mean the same.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from g2s_cli.geometry.camera import Camera
from g2s_cli.weights.catalog import Ellipsoid

MAX_TURN_RAD = math.radians(60)
MAX_SHIFT = 0.1  # scene units, along x and y; there is no shift along z
BORDER_COLUMNS = 2
BORDER_SHARE = 0.7  # how far from near to far the border columns stand


def view_from_code(code: Float[Tensor, "b 6"]) -> Float[Tensor, "b 6"]:
    """A view (radians, scene units) from what V says: 60° · v for the angles, 0.1 · v for x and y, no z."""
    scale = code.new_tensor([MAX_TURN_RAD] * 3 + [MAX_SHIFT] * 2 + [0.0])
    return code * scale


def light_from_code(code: Float[Tensor, "b 4"]) -> Float[Tensor, "b 4"]:
    """A light (ambient, diffuse, l_x, l_y) from what L says: the first two from (-1, 1) to (0, 1)."""
    return torch.cat((code[:, :2] / 2 + 0.5, code[:, 2:]), dim=1)


def depth_from_raw(
    raw: Float[Tensor, "b h w"], base: Float[Tensor, "h w"] | Float[Tensor, "b h w"] | None, camera: Camera
) -> Float[Tensor, "b h w"]:
    """Canonical depth from what D says: its mean removed, squashed to (near, far), border columns set back.

    base: a mean shape in the same raw units, one for all or one each, added to D's residual; None is the authors' head.
    """
    centred = raw - raw.mean(dim=(1, 2), keepdim=True)
    if base is not None:
        centred = centred + base
    middle, half = (camera.far + camera.near) / 2, (camera.far - camera.near) / 2
    depth = middle + half * torch.tanh(centred)
    border = BORDER_SHARE * camera.far + (1 - BORDER_SHARE) * camera.near
    column = torch.arange(depth.shape[-1], device=depth.device)
    outside = (column < BORDER_COLUMNS) | (column >= depth.shape[-1] - BORDER_COLUMNS)
    return torch.where(outside, torch.full_like(depth, border), depth)


def raw_from_depth(depth: Float[Tensor, "*b h w"], camera: Camera) -> Float[Tensor, "*b h w"]:
    """The inverse of the squashing in `depth_from_raw`."""
    middle, half = (camera.far + camera.near) / 2, (camera.far - camera.near) / 2
    return torch.atanh(((depth - middle) / half).clamp(-0.999, 0.999))


def ellipsoid(mask: Float[Tensor, "h w"], shape: Ellipsoid) -> Float[Tensor, "h w"]:
    """The weak prior of paper 3.1 as a depth map: half an ellipsoid on the object's mask, `far` around it.

    Its axes are those of the box where mask >= 0.7, stretched and shrunk by the category's shares of the box;
    without such a box it is a circle of `radius` image widths in the middle. Then come the variations of table 2.
    """
    height, width = mask.shape
    rows, columns = torch.nonzero(mask >= 0.7, as_tuple=True)
    if len(rows):
        left, right = columns.min().item() - 0.5, columns.max().item() + 0.5
        top, bottom = rows.min().item() - 0.5, rows.max().item() + 0.5
        left, right = left + shape.shrink_sides * (right - left), right - shape.shrink_sides * (right - left)
        top, bottom = top - shape.raise_top * (bottom - top), bottom + shape.extend_bottom * (bottom - top)
        bottom = height - 0.5 if shape.to_lower_edge else bottom
    else:
        left, right = (0.5 - shape.radius) * width, (0.5 + shape.radius) * width
        top, bottom = left + (height - width) / 2, right + (height - width) / 2
    y, x = torch.meshgrid(
        (torch.arange(height, device=mask.device) - (top + bottom) / 2) / ((bottom - top) / 2),
        (torch.arange(width, device=mask.device) - ((left + right) / 2 + shape.shift * width)) / ((right - left) / 2),
        indexing="ij",
    )
    if shape.round_right:
        y = torch.where(x > 0, y * ((bottom - top) / (right - left)), y)
    bulge = (1 - x.square() - y.square()).clamp(min=0).sqrt()
    return shape.far - (shape.far - shape.near) * shape.bulge * bulge
