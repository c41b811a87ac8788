"""From network outputs to factors. The scalings are the authors', so that their checkpoints mean the same here."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from g2s_cli.geometry.camera import Camera
from g2s_cli.geometry.resample import resize_bspline

MAX_ROTATION_RAD = math.radians(60)
MAX_TRANSLATION = 0.1  # scene units, along x and y; there is none along z
BORDER_COLUMNS = 2
BORDER_SHARE = 0.7  # of the way from near to far, the depth of the border columns


def view_from_code(code: Float[Tensor, "b 6"]) -> Float[Tensor, "b 6"]:
    """Views (rotations in radians, translations in scene units) from the view network's output in (-1, 1)."""
    scale = code.new_tensor([MAX_ROTATION_RAD] * 3 + [MAX_TRANSLATION] * 2 + [0.0])
    return code * scale


def light_from_code(code: Float[Tensor, "b 4"]) -> Float[Tensor, "b 4"]:
    """Lights (ambient, diffuse, l_x, l_y) from the light network's output: the first two from (-1, 1) to (0, 1)."""
    return torch.cat((code[:, :2] / 2 + 0.5, code[:, 2:]), dim=1)


def depth_from_raw(
    raw: Float[Tensor, "b h w"], mean_depth: Float[Tensor, "h w"] | Float[Tensor, "b h w"] | None, camera: Camera
) -> Float[Tensor, "b h w"]:
    """Canonical depth from the output of the depth head D.

    Args:
        raw: the output; its mean is removed.
        mean_depth: in the same units, which `raw` is a residual of; None for the authors' networks.
        camera: whose near and far bound the depth.

    Returns:
        Depth in scene units, squashed to (near, far), the border columns set back.
    """
    centred = raw - raw.mean(dim=(1, 2), keepdim=True)
    if mean_depth is not None:
        centred = centred + mean_depth
    middle, half = (camera.far + camera.near) / 2, (camera.far - camera.near) / 2
    depth = middle + half * torch.tanh(centred)
    border = BORDER_SHARE * camera.far + (1 - BORDER_SHARE) * camera.near
    column = torch.arange(depth.shape[-1], device=depth.device)
    outside = (column < BORDER_COLUMNS) | (column >= depth.shape[-1] - BORDER_COLUMNS)
    return torch.where(outside, torch.full_like(depth, border), depth)


def resize_depth(depth: Float[Tensor, "b h h"], size: int) -> Float[Tensor, "b s s"]:
    """Canonical depth at another size. Its border columns, a step that the spline would ring at, are set back again."""
    before = depth.shape[-1]
    if size == before:
        return depth
    width = max(BORDER_COLUMNS, BORDER_COLUMNS * size // before)
    inner = pad(depth[..., BORDER_COLUMNS:-BORDER_COLUMNS], (BORDER_COLUMNS,) * 2, mode="replicate")
    column = torch.arange(size, device=depth.device)
    outside = (column < width) | (column >= size - width)
    return torch.where(outside, depth[:, :1, :1], resize_bspline(inner, size))


def raw_from_depth(depth: Float[Tensor, "*b h w"], camera: Camera) -> Float[Tensor, "*b h w"]:
    """The inverse of the squashing in `depth_from_raw`."""
    middle, half = (camera.far + camera.near) / 2, (camera.far - camera.near) / 2
    return torch.atanh(((depth - middle) / half).clamp(-0.999, 0.999))
