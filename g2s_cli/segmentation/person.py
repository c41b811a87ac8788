"""The matte of a person: the network's mask of the crop's surroundings, refined along the photo's own edges.

The refinement is the fast guided filter (He & Sun 2015): alpha = a · colour + b, whose coefficients are fitted in
windows at a low resolution and applied at the photo's.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate, max_pool2d

from g2s_cli.geometry.resample import window_mean
from g2s_cli.segmentation.gan_features import spread_maxima
from g2s_cli.segmentation.person_net import INPUT_SIZE, PersonNet

GUIDE_PX = 512  # side at which the filter's coefficients are fitted, at most
RADIUS = 1 / 64  # of the filter's windows, in sides of the surroundings
EPSILON = 1e-4  # variance of colours in [0, 1] below which the matte is smooth
LEVELS = (0.2, 0.8)  # of the filter's output that become 0 and 1, so that no haze remains
COMPONENT_PX = 64  # side at which the person is told from other people
CENTRE = slice(28, 36)  # of these pixels: within the face


@torch.no_grad()
def person_matte(surroundings: UInt8[np.ndarray, "n n 3"], net: PersonNet) -> Float[Tensor, "n n"]:
    """The opacity of the person whose face is in the middle of a square image.

    Args:
        surroundings: the crop of the face and as much again around it, mirrored beyond the photo's edges.

    Returns:
        From 0 to 1; all 0 if no person is in the middle.
    """
    colours = torch.from_numpy(surroundings).permute(2, 0, 1)[None].float() / 255
    device = next(net.parameters()).device
    alpha = net(_resize(colours, INPUT_SIZE).to(device) * 2 - 1).sigmoid().cpu()[None]
    return _refine(colours, alpha * _person_in_the_middle(alpha))[0, 0]


def _person_in_the_middle(alpha: Float[Tensor, "1 1 s s"]) -> Float[Tensor, "1 1 s s"]:
    """1 on and near the component that the middle of the image belongs to."""
    inside = (_resize(alpha, COMPONENT_PX) > 0.5).float()
    seeds = torch.zeros_like(inside)
    seeds[..., CENTRE, CENTRE] = inside[..., CENTRE, CENTRE]
    return interpolate(max_pool2d(spread_maxima(seeds, inside), 3, 1, 1), size=alpha.shape[2:])


def _refine(colours: Float[Tensor, "1 3 n n"], alpha: Float[Tensor, "1 1 s s"]) -> Float[Tensor, "1 1 n n"]:
    """The fast guided filter of a mask; the colours are the guide."""
    size = colours.shape[-1]
    guide = _resize(colours, min(size, GUIDE_PX))
    fitted = guide.shape[-1]
    alpha = _resize(alpha, fitted)
    radius = max(1, round(RADIUS * fitted))

    mean, mean_alpha = window_mean(guide, radius), window_mean(alpha, radius)
    covariance = window_mean(guide[0, :, None] * guide[0, None], radius) - mean[0, :, None] * mean[0, None]
    cross = window_mean(guide * alpha, radius)[0] - mean[0] * mean_alpha[0]
    system = covariance.permute(2, 3, 0, 1) + EPSILON * torch.eye(3)
    slope = torch.linalg.solve(system, cross.permute(1, 2, 0)[..., None])[..., 0].permute(2, 0, 1)[None]
    offset = mean_alpha - (slope * mean).sum(dim=1, keepdim=True)
    slope, offset = (_resize(window_mean(maps, radius), size) for maps in (slope, offset))
    matte = (slope * colours).sum(dim=1, keepdim=True) + offset
    return ((matte - LEVELS[0]) / (LEVELS[1] - LEVELS[0])).clamp(0, 1)


def _resize(maps: Float[Tensor, "1 c s s"], size: int) -> Float[Tensor, "1 c t t"]:
    """Average areas going down, interpolate bilinearly going up."""
    if size <= maps.shape[-1]:
        return interpolate(maps, size=(size, size), mode="area")
    return interpolate(maps, size=(size, size), mode="bilinear", align_corners=False)
