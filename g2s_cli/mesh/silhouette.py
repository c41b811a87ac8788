"""A mask of few pixels brought to the outline that the photo itself shows."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from g2s_cli.geometry.resample import window_mean

# In pixels of the mask: how far off an outline may be and still be found.
RADIUS_PX = 3
# The filter is fitted at so many pixels for one of the mask, and applied at the photo's own.
FINER = 4
# Squared contrast, of colours from 0 to 1, below which the photo says nothing.
CONTRAST = 1e-3
# How much steeper than the fitted function the outline is drawn: colours hardly ever tell all by themselves.
STEEPER = 4
# The first round brings a hard mask near the outline, the second takes it there.
ROUNDS = 2


def refine_mask(mask: Float[Tensor, "h h"], photo: Float[Tensor, "3 n n"]) -> Float[Tensor, "n n"]:
    """A mask at the photo's resolution, from 0 to 1, whose edge follows the photo's.

    A guided filter (He et al. 2013, with colours as guide; fitted at a lower resolution, He and Sun 2015): in every
    window the mask is taken to be an affine function of the colour. photo: in [-1, 1], no smaller than the mask; at
    the mask's own size there is nothing to find, and it comes back as it is.
    """
    count, size = len(mask), photo.shape[-1]
    if size <= count:
        return mask
    guide = photo / 2 + 0.5
    fitted = min(FINER * count, size)
    radius = RADIUS_PX * fitted // count
    small = interpolate(guide[None], size=(fitted, fitted), mode="area")[0]
    fine = _enlarged(mask[None], fitted)[0]
    for _ in range(ROUNDS):
        slope, offset = _affine(fine, small, radius)
        fine = ((slope * small).sum(dim=0) + offset >= 0.5).to(fine.dtype)
    slope, offset = _enlarged(slope, size), _enlarged(offset[None], size)[0]
    return (STEEPER * ((slope * guide).sum(dim=0) + offset - 0.5) + 0.5).clamp(0, 1)


def _affine(
    mask: Float[Tensor, "m m"], guide: Float[Tensor, "3 m m"], radius: int
) -> tuple[Float[Tensor, "3 m m"], Float[Tensor, "m m"]]:
    """Slopes and offset of the affine functions, averaged over the windows that each pixel lies in."""
    products = torch.cat((mask[None], guide, mask * guide, (guide[:, None] * guide).flatten(0, 1)))
    means = window_mean(products, radius)
    of_mask, of_guide = means[0], means[1:4]
    with_mask = means[4:7] - of_mask * of_guide
    with_guide = means[7:].unflatten(0, (3, 3)) - of_guide[:, None] * of_guide
    ridge = CONTRAST * torch.eye(3, dtype=guide.dtype, device=guide.device)
    slope = torch.linalg.solve(with_guide.permute(2, 3, 0, 1) + ridge, with_mask.permute(1, 2, 0)).permute(2, 0, 1)
    offset = of_mask - (slope * of_guide).sum(dim=0)
    smooth = window_mean(torch.cat((slope, offset[None])), radius)
    return smooth[:3], smooth[3]


def _enlarged(maps: Float[Tensor, "c m m"], size: int) -> Float[Tensor, "c size size"]:
    return interpolate(maps[None], size=(size, size), mode="bilinear", align_corners=False)[0]
