"""Refinement of a coarse mask to the edges of the photo."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from g2s_cli.geometry.resample import resize_area, window_mean

RADIUS_PX = 3  # window radius, pixels of the mask: the largest error of its edge that is corrected
FIT_FACTOR = 4  # the filter is fitted at this many times the mask's resolution and applied at the photo's
EPS = 1e-3  # regularisation: squared contrast of colours in [0, 1] below which the mask stays
EDGE_GAIN = 4  # contrast gain of the fitted function about 0.5
ROUNDS = 2  # the first takes a hard mask near the edge, the second onto it


def refine_mask(mask: Float[Tensor, "h h"], photo: Float[Tensor, "3 n n"]) -> Float[Tensor, "n n"]:
    """Refine a mask to the photo's resolution and edges by a guided filter.

    In every window the mask is an affine function of the photo's colours (He et al. 2013), fitted at a lower resolution
    (He and Sun 2015).

    The mask is in [0, 1], the photo in [-1, 1] and no smaller. If they have one size, the mask is returned.
    """
    count, size = len(mask), photo.shape[-1]
    if size <= count:
        return mask
    guide = photo / 2 + 0.5
    fit_size = min(FIT_FACTOR * count, size)
    small = resize_area(guide, fit_size)
    fine = _enlarge(mask[None], fit_size)[0]
    for _ in range(ROUNDS):
        slope, offset = _fit_affine(fine, small, RADIUS_PX * fit_size // count)
        fine = ((slope * small).sum(dim=0) + offset >= 0.5).to(fine.dtype)
    slope, offset = _enlarge(slope, size), _enlarge(offset[None], size)[0]
    return (EDGE_GAIN * ((slope * guide).sum(dim=0) + offset - 0.5) + 0.5).clamp(0, 1)


def _fit_affine(
    mask: Float[Tensor, "m m"], guide: Float[Tensor, "3 m m"], radius: int
) -> tuple[Float[Tensor, "3 m m"], Float[Tensor, "m m"]]:
    """Slopes and offsets of the affine functions, averaged over the windows that contain each pixel."""
    products = torch.cat((mask[None], guide, mask * guide, (guide[:, None] * guide).flatten(0, 1)))
    means = window_mean(products, radius)
    mask_mean, guide_mean = means[0], means[1:4]
    cross_covariance = means[4:7] - mask_mean * guide_mean
    covariance = means[7:].unflatten(0, (3, 3)) - guide_mean[:, None] * guide_mean
    ridge = EPS * torch.eye(3, dtype=guide.dtype, device=guide.device)
    slope = torch.linalg.solve(covariance.permute(2, 3, 0, 1) + ridge, cross_covariance.permute(1, 2, 0))
    slope = slope.permute(2, 0, 1)
    smooth = window_mean(torch.cat((slope, (mask_mean - (slope * guide_mean).sum(dim=0))[None])), radius)
    return smooth[:3], smooth[3]


def _enlarge(maps: Float[Tensor, "c m m"], size: int) -> Float[Tensor, "c size size"]:
    return interpolate(maps[None], size=(size, size), mode="bilinear", align_corners=False)[0]
