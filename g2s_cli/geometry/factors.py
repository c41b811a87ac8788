"""The four factors of an image (paper Eq. 1): depth, albedo, view and light."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from g2s_cli.geometry.camera import rotate_view
from g2s_cli.geometry.shading import light_from_position


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

    def relight(self, x: float, y: float) -> Factors:
        """Light the object, as strongly as before, from (x, y) in the photo: x right, y up."""
        ambient, diffuse = self.light[:2].tolist()
        return replace(self, light=light_from_position(x, y, ambient, diffuse, self.view))

    def rotate(self, yaw_rad: float, pitch_rad: float) -> Factors:
        """Rotate the object as the photo shows it: yaw to the photo's right, pitch upwards."""
        return replace(self, view=rotate_view(self.view, yaw_rad, pitch_rad), depth_residual=None)
