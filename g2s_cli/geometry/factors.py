"""The four factors that make an image (paper Eq. 1): depth, albedo, view and light."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from g2s_cli.geometry.camera import rotate_view
from g2s_cli.geometry.shading import light_from_position


@dataclass(frozen=True)
class Factors:
    """One object as the paper describes it: a relief in the canonical frame, and how it is seen and lit.

    depth: canonical depth in scene units, smaller is nearer; the object turns about (0, 0, 1).
    albedo: canonical albedo in [-1, 1] (the paper's convention; (albedo + 1) / 2 is the reflectance).
    view: rotation (x, y, z) in radians, then translation (x, y, z) in scene units, canonical -> photo.
    light: ambient, diffuse, l_x, l_y; the direction is normalise(l_x, l_y, 1) in the canonical frame,
        with y pointing down as everywhere inside (see `scene.camera`).
    depth_residual: per-pixel depth of the photo minus that of the rendered canonical depth, scene units; a coarse
        canonical grid cannot hold sharp edges. None if unknown.
    """

    depth: Float[Tensor, "h w"]
    albedo: Float[Tensor, "3 h w"]
    view: Float[Tensor, 6]
    light: Float[Tensor, 4]
    depth_residual: Float[Tensor, "h w"] | None = None

    def to(self, device: torch.device | str) -> Factors:
        """The same factors on another device."""
        depth_residual = None if self.depth_residual is None else self.depth_residual.to(device)
        return Factors(
            self.depth.to(device), self.albedo.to(device), self.view.to(device), self.light.to(device), depth_residual
        )

    def relight(self, x: float, y: float) -> Factors:
        """The object as bright as it is, lit from (x, y) as seen in the photo: x to the right, y up."""
        ambient, diffuse = self.light[0].item(), self.light[1].item()
        return replace(self, light=light_from_position(x, y, ambient, diffuse, self.view))

    def rotate(self, yaw_rad: float, pitch_rad: float) -> Factors:
        """The object turned from where the photo sees it: yaw to the photo's right, pitch upwards."""
        return replace(self, view=rotate_view(self.view, yaw_rad, pitch_rad), depth_residual=None)
