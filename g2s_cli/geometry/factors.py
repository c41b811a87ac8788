"""The four factors that make an image (paper Eq. 1): depth, albedo, view and light."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from g2s_cli.geometry.camera import turn
from g2s_cli.geometry.shading import light_from_user


@dataclass(frozen=True)
class Factors:
    """One object as the paper describes it: a relief in the canonical frame, and how it is seen and lit.

    depth: canonical depth in scene units, smaller is nearer; the object turns about (0, 0, 1).
    albedo: canonical albedo in [-1, 1] (the paper's convention; (albedo + 1) / 2 is the reflectance).
    view: rotation (x, y, z) in radians, then translation (x, y, z) in scene units, canonical -> photo.
    light: ambient, diffuse, l_x, l_y; the direction is normalise(l_x, l_y, 1) in the canonical frame,
        with y pointing down as everywhere inside (see `scene.camera`).
    apart: how much farther than the relief shows it a photo's own depth is known to be, pixel by pixel of the photo, in
        scene units: one relief on a coarse grid does not hold all of it beside edges. None where nothing else is known.
    """

    depth: Float[Tensor, "h w"]
    albedo: Float[Tensor, "3 h w"]
    view: Float[Tensor, 6]
    light: Float[Tensor, 4]
    apart: Float[Tensor, "h w"] | None = None

    def to(self, device: torch.device | str) -> Factors:
        """The same factors on another device."""
        apart = None if self.apart is None else self.apart.to(device)
        return Factors(
            self.depth.to(device), self.albedo.to(device), self.view.to(device), self.light.to(device), apart
        )

    def lit(self, x: float, y: float) -> Factors:
        """The object as bright as it is, lit from (x, y) as seen in the photo: x to the right, y up."""
        ambient, diffuse = self.light[0].item(), self.light[1].item()
        return replace(self, light=light_from_user(x, y, ambient, diffuse, self.view))

    def turned(self, yaw_rad: float, pitch_rad: float) -> Factors:
        """The object turned from where the photo sees it: yaw to the photo's right, pitch upwards."""
        return replace(self, view=turn(self.view, yaw_rad, pitch_rad), apart=None)
