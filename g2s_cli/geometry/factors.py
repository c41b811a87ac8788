"""The four factors of an image (paper Eq. 1): depth, albedo, view and light."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from g2s_cli.geometry.camera import rotate_view
from g2s_cli.geometry.shading import light_from_position, position_from_light

STRENGTH_SHARE = 0.63  # of a new light in its brightness: a cheek changes by about a stop from far left to far right
SAME_POSITION = 0.01  # distance of a light's positions that are one


@dataclass(frozen=True)
class Factors:
    """One object: canonical depth and albedo, its view and its light (conventions: `geometry.camera`).

    depth_residual: depth of the photo minus that of the rendered canonical depth, at the photo's pixels: a coarse
    canonical grid cannot hold sharp edges. None if unknown.
    """

    depth: Float[Tensor, "h w"]  # canonical, scene units
    albedo: Float[Tensor, "3 h w"]  # canonical, in [-1, 1]; (albedo + 1) / 2 is the reflectance
    view: Float[Tensor, 6]  # rotations (x, y, z) in radians, translation in scene units
    light: Float[Tensor, 4]  # ambient, diffuse, l_x, l_y
    depth_residual: Float[Tensor, "h w"] | None = None  # scene units

    def to(self, device: torch.device | str) -> Factors:
        """Copy to a device."""
        return replace(self, **{name: value.to(device) for name, value in vars(self).items() if value is not None})

    def is_lit_from(self, x: float, y: float, within: float = SAME_POSITION) -> bool:
        """Whether this is the position of the object's light."""
        return math.dist((x, y), position_from_light(self.light, self.view)) <= within

    def relight(self, x: float, y: float, *, strength: float | None = None, ambient: float | None = None) -> Factors:
        """Light the object from (x, y) in the photo: x right, y up.

        Args:
            strength, ambient: k_d of the light, k_s of light from all sides. None: shares of the object's own k_s + k_d
                that do not depend on their ratio, except that a light at its old position stays as it is.
        """
        own_ambient, own_strength = self.light[:2].tolist()
        if strength is None:
            strength = own_strength if self.is_lit_from(x, y) else STRENGTH_SHARE * (own_ambient + own_strength)
        if ambient is None:
            ambient = own_ambient if self.is_lit_from(x, y) else (1 - STRENGTH_SHARE) * (own_ambient + own_strength)
        return replace(self, light=light_from_position(x, y, ambient, strength, self.view))

    def rotate(self, yaw_rad: float, pitch_rad: float) -> Factors:
        """Rotate the object as the photo shows it: yaw to the photo's right, pitch upwards."""
        return replace(self, view=rotate_view(self.view, yaw_rad, pitch_rad), depth_residual=None)
