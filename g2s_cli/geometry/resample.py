"""Resampling of maps: resizing, hole filling, blurring and cropping."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

# Pixels of border padding for the spline; its influence falls off as 0.27 ^ pixels.
SPLINE_PADDING = 8


def resize_bspline(maps: Float[Tensor, "*c h h"], size: int) -> Float[Tensor, "*c size size"]:
    """Enlarge square maps by the interpolating cubic B-spline through their pixel centres.

    Its curvature is continuous, so a coarse depth map shows no facets. There is no anti-aliasing.
    """
    count = maps.shape[-1]
    if size == count:
        return maps
    knots = torch.arange(-SPLINE_PADDING, count + SPLINE_PADDING).to(maps)
    targets = (torch.arange(size).to(maps) + 0.5) / size * count - 0.5
    to_coefficients = torch.linalg.inv(_cubic_bspline(knots[:, None] - knots))
    matrix = _cubic_bspline(targets[:, None] - knots) @ to_coefficients
    # The padding repeats the border pixels: fold its weights into theirs.
    matrix[:, SPLINE_PADDING] += matrix[:, :SPLINE_PADDING].sum(dim=1)
    matrix[:, -SPLINE_PADDING - 1] += matrix[:, -SPLINE_PADDING:].sum(dim=1)
    matrix = matrix[:, SPLINE_PADDING:-SPLINE_PADDING]
    return matrix @ maps @ matrix.T


def _cubic_bspline(distance: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
    distance = distance.abs()
    inner = 2 / 3 - distance.square() + distance.pow(3) / 2
    outer = (2 - distance).clamp(min=0).pow(3) / 6
    return torch.where(distance < 1, inner, outer)


def inpaint(maps: Float[Tensor, "c h h"], weight: Float[Tensor, "h h"]) -> Float[Tensor, "c h h"]:
    """Fill maps smoothly from their surroundings (pull-push: Gortler et al. 1996, 4.3).

    weight: 1 where a value is known, 0 where it is to be filled, between them a blend. If all are 0, so is the result.
    """
    weighted = weight * maps
    if maps.shape[-1] == 1:
        return weighted / weight.clamp(min=1e-6)
    mean, share = (_halve(values) for values in (weighted, weight[None]))
    # A coarse pixel counts as known if half of it is.
    coarse = inpaint(mean / share.clamp(min=1e-6), (2 * share[0]).clamp(max=1))
    filled = interpolate(coarse[None], scale_factor=2, mode="bilinear", align_corners=False)[0]
    return torch.addcmul(weighted, 1 - weight, filled[:, : maps.shape[-2], : maps.shape[-1]])


def _halve(maps: Float[Tensor, "c h h"]) -> Float[Tensor, "c g g"]:
    """Average areas of 2 x 2 pixels, with zeros outside."""
    odd = maps.shape[-1] % 2
    return avg_pool2d((pad(maps, (0, odd, 0, odd)) if odd else maps)[None], 2)[0]


def resize_area(maps: Float[Tensor, "c h h"], size: int) -> Float[Tensor, "c size size"]:
    """Reduce square maps by averaging areas."""
    if size == maps.shape[-1]:
        return maps
    return interpolate(maps[None], size=(size, size), mode="area")[0]


# Three blurs that differ at the image's border.


def box_blur(maps: Float[Tensor, "*c h w"], radius: int) -> Float[Tensor, "*c h w"]:
    """Box blur with zeros outside the image, by running sums: its cost does not depend on the radius."""
    mean = maps.double()
    for axis in (-2, -1):
        side = mean.shape[axis]
        sums = pad(mean.movedim(axis, -1), (radius + 1, radius)).cumsum(dim=-1)
        mean = ((sums[..., -side:] - sums[..., :side]) / (2 * radius + 1)).movedim(-1, axis)
    return mean.to(maps.dtype)


def window_mean(maps: Float[Tensor, "*c m m"], radius: int) -> Float[Tensor, "*c m m"]:
    """Box blur over the part of each window that lies inside the image."""
    return box_blur(maps, radius) / box_blur(torch.ones_like(maps[:1]), radius)


def tent_blur(maps: Float[Tensor, "b c h w"], radius: int) -> Float[Tensor, "b c h w"]:
    """Box blur applied twice, with the border replicated outside the image."""
    padded = pad(maps, (2 * radius,) * 4, mode="replicate")
    return avg_pool2d(avg_pool2d(padded, 2 * radius + 1, stride=1), 2 * radius + 1, stride=1)


def center_slice(size: int, share: float) -> slice:
    """The pixels of a side that its middle `share` covers."""
    length = round(share * size)
    start = (size - length) // 2
    return slice(start, start + length)
