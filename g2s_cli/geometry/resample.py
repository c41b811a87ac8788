"""Maps at another resolution: smooth between their pixels, averaged, and continued to where they say nothing."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

# Beyond the outermost centres a map goes on as it ends, so far that the end of that is not felt (0.27 ^ 8).
REACH = 8


def resize_bspline(maps: Float[Tensor, "*c h h"], size: int) -> Float[Tensor, "*c size size"]:
    """Square maps at `size` pixels over the same picture, by the cubic spline through their pixel centres.

    It has continuous curvature, so a relief of few pixels shows no facets. Meant for going up; going down it picks
    values and averages nothing.
    """
    count = maps.shape[-1]
    if size == count:
        return maps
    centres = torch.arange(-REACH, count + REACH).to(maps)
    wanted = (torch.arange(size).to(maps) + 0.5) / size * count - 0.5
    through = torch.linalg.inv(_cubic(centres[:, None] - centres))
    matrix = _cubic(wanted[:, None] - centres) @ through
    # Rows and columns of the padding repeat the rim: fold their shares into it.
    matrix[:, REACH] += matrix[:, :REACH].sum(dim=1)
    matrix[:, -REACH - 1] += matrix[:, -REACH:].sum(dim=1)
    matrix = matrix[:, REACH:-REACH]
    return matrix @ maps @ matrix.T


def _cubic(distance: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
    """The cubic B-spline."""
    far = distance.abs()
    inner = 2 / 3 - far.square() + far.pow(3) / 2
    outer = (2 - far).clamp(min=0).pow(3) / 6
    return torch.where(far < 1, inner, outer)


def inpaint(maps: Float[Tensor, "c h h"], weight: Float[Tensor, "h h"]) -> Float[Tensor, "c h h"]:
    """Maps where their weight is 1; where it is 0, smoothly what lies around (pull-push: Gortler et al. 1996, 4.3).

    A weight in between mixes the two. Zero everywhere if no weight is left.
    """
    held = weight * maps
    if maps.shape[-1] == 1:
        return held / weight.clamp(min=1e-6)
    odd = maps.shape[-1] % 2
    mean = avg_pool2d(pad(torch.cat((held, weight[None]))[None], (0, odd, 0, odd)), 2)[0]
    share = mean[-1]
    # Half of a coarse pixel suffices to be sure of it.
    sure = (2 * share).clamp(max=1)
    coarse = inpaint(mean[:-1] / share.clamp(min=1e-6), sure)
    around = interpolate(coarse[None], scale_factor=2, mode="bilinear", align_corners=False)[0]
    return held + (1 - weight) * around[:, : maps.shape[-2], : maps.shape[-1]]


def resize_area(maps: Float[Tensor, "c h h"], size: int) -> Float[Tensor, "c size size"]:
    """Square maps averaged over areas."""
    return interpolate(maps[None], size=(size, size), mode="area")[0]


# Three blurs, which differ in what lies beyond the picture's rim: nothing, zeros, or more of what the rim has.


def window_mean(maps: Float[Tensor, "c m m"], radius: int) -> Float[Tensor, "c m m"]:
    """Means over square windows; at the picture's rim over what of them lies inside."""
    side = 2 * radius + 1
    rows = avg_pool2d(maps[None], (side, 1), 1, (radius, 0), count_include_pad=False)
    return avg_pool2d(rows, (1, side), 1, (0, radius), count_include_pad=False)[0]


def box_blur(maps: Float[Tensor, "b c h w"], reach: int) -> Float[Tensor, "b c h w"]:
    """Means over square windows; beyond the picture's rim there is 0."""
    return avg_pool2d(maps, 2 * reach + 1, 1, reach) if reach else maps


def tent_blur(maps: Float[Tensor, "b c h w"], reach: int) -> Float[Tensor, "b c h w"]:
    """Means over square windows of the means over them; beyond the picture's rim maps go on as they end."""
    soft = pad(maps, (2 * reach,) * 4, mode="replicate")
    for _ in range(2):
        soft = avg_pool2d(soft, 2 * reach + 1, stride=1)
    return soft


def center_slice(whole: int, share: float) -> slice:
    """Which pixels of a side its middle part has."""
    side = round(share * whole)
    start = (whole - side) // 2
    return slice(start, start + side)
