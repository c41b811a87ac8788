"""Random views and lights for pseudo samples (paper A.2.3, "Sampling viewpoints and lighting directions")."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from g2s_cli.config import LightRanges
from g2s_cli.estimators.factor_codes import view_from_code


@dataclass(frozen=True)
class ViewPrior:
    """A normal distribution of views, in network units (see `factor_codes`); yaw is stretched."""

    mean: Float[Tensor, 6]
    covariance: Float[Tensor, "6 6"]
    yaw_stretch: float = 1.0

    def draw(self, count: int, rng: torch.Generator, device: torch.device) -> Float[Tensor, "b 6"]:
        """Random views in radians and scene units."""
        values, vectors = torch.linalg.eigh(self.covariance.double())
        root = (vectors * values.clamp(min=0).sqrt()).float().to(device)
        code = torch.randn(count, 6, generator=rng, device=rng.device).to(device) @ root.T + self.mean.to(device)
        stretch = code.new_tensor([1.0, self.yaw_stretch, 1.0, 1.0, 1.0, 1.0])
        return view_from_code(code * stretch)


def draw_lights(ranges: LightRanges, light: Float[Tensor, 4], count: int, rng: torch.Generator) -> Float[Tensor, "b 4"]:
    """Random lights around the photo's own: its ambient and diffuse plus the extra, new directions."""
    low, high = (light.new_tensor([span[end] for span in (ranges.x, ranges.y, ranges.diffuse)]) for end in (0, 1))
    uniform = torch.rand(count, 3, generator=rng, device=rng.device).to(light.device)
    x, y, extra = (low + (high - low) * uniform).unbind(dim=1)
    return torch.stack((light[0] + ranges.alpha * extra, light[1] + extra, x, y), dim=1)
