"""The weak shape prior that the first cycle starts from (paper 3.1, A.2.3)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import mse_loss

from g2s_cli.config import Ellipsoid
from g2s_cli.estimators.base import Observation
from g2s_cli.estimators.feedforward import FactorNets

MASK_THRESHOLD = 0.7  # of the box that the ellipsoid stands on


def ellipsoid(mask: Float[Tensor, "h w"], shape: Ellipsoid) -> Float[Tensor, "h w"]:
    """Depth of half an ellipsoid on the object's mask, `far` around it.

    Its axes are those of the mask's box, stretched and shrunk by the category's shares of the box; without such a box
    it is a circle of `radius` image widths in the middle. Then come the variations of table 2.
    """
    height, width = mask.shape
    left, right, top, bottom = _box(mask, shape)
    y, x = torch.meshgrid(
        (torch.arange(height, device=mask.device) - (top + bottom) / 2) / ((bottom - top) / 2),
        (torch.arange(width, device=mask.device) - ((left + right) / 2 + shape.shift * width)) / ((right - left) / 2),
        indexing="ij",
    )
    if shape.round_right:
        y = torch.where(x > 0, y * ((bottom - top) / (right - left)), y)
    bulge = (1 - x.square() - y.square()).clamp(min=0).sqrt()
    return shape.far - (shape.far - shape.near) * shape.bulge * bulge


def _box(mask: Float[Tensor, "h w"], shape: Ellipsoid) -> tuple[float, float, float, float]:
    """Left, right, top and bottom of the ellipsoid, pixels."""
    height, width = mask.shape
    rows, columns = torch.nonzero(mask >= MASK_THRESHOLD, as_tuple=True)
    if not len(rows):
        left, right = (0.5 - shape.radius) * width, (0.5 + shape.radius) * width
        return left, right, left + (height - width) / 2, right + (height - width) / 2
    left, right = columns.min().item() - 0.5, columns.max().item() + 0.5
    top, bottom = rows.min().item() - 0.5, rows.max().item() + 0.5
    left, right = left + shape.shrink_sides * (right - left), right - shape.shrink_sides * (right - left)
    top, bottom = top - shape.raise_top * (bottom - top), bottom + shape.extend_bottom * (bottom - top)
    return left, right, top, height - 0.5 if shape.to_lower_edge else bottom


def prior_loss(nets: FactorNets, observation: Observation, depth: Float[Tensor, "h w"]) -> Float[Tensor, ""]:
    """Mean squared distance of D's depth of the photo from a depth."""
    return mse_loss(nets.depth_of(observation.image[None]), depth[None])
