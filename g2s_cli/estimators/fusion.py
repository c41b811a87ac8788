"""Not in the paper: what several witnesses say of one photo's depth, brought together in its canonical relief.

Step 3 fits a relief to the photo's pixels; a model of how objects differ explains them (`method.morphing`); S reads
depth off them (`nets.sight`). Each errs in its own way, so their mean is better than any of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from g2s_cli.estimators.depth_net import DepthNet
from g2s_cli.estimators.feedforward import FactorNets
from g2s_cli.estimators.gan2shape.prior import raw_from_depth
from g2s_cli.estimators.gan2shape.steps import MaskedImages
from g2s_cli.estimators.registration import well_inside
from g2s_cli.geometry.rasterizer import VIEW_FAR
from g2s_cli.geometry.render import depth_with_rim
from g2s_cli.geometry.warp import mirrored

UPDATES, RATE, DECAY = 60, 0.003, 0.97  # of canonical depth towards what a photo is to show
STIFFNESS = 20.0  # of the change's squared differences from pixel to pixel beside the mean distance
AGREED = 1e-3  # scene units: distances count by their squares up to there, beyond by themselves


@dataclass(frozen=True)
class Witness:
    """A photo's depth as its camera sees it, up to its mean; 1.2 scene units where nothing is seen.

    share: how much it counts of all that is said.
    """

    depth: Float[Tensor, "1 h w"]
    share: float


@dataclass(frozen=True)
class Agreed:
    """What all witnesses together say of a photo's depth, up to its mean, and where all of them say something."""

    depth: Float[Tensor, "1 h w"]
    there: Float[Tensor, "1 h w"]

    def apart(self, shown: Float[Tensor, "1 h w"]) -> Float[Tensor, "h w"]:
        """How much farther it is than a relief shows it; 0 where one of them says nothing."""
        there = self.there * (shown < VIEW_FAR)
        return (there * _centred(self.depth - shown, there))[0]


@torch.no_grad()
def depth_by_sight(net: DepthNet, photo: MaskedImages) -> Float[Tensor, "b h w"]:
    """What S says of photos, which are 0 outside their masks, and of their mirror images, in the mean. Scene units.

    S has learnt from masks of 0 and 1; what it makes of soft ones has not been measured.
    """
    own, other = net(photo.image, photo.mask), net(mirrored(photo.image), mirrored(photo.mask))
    return 1 + (own + mirrored(other)) / 2


def agreeing(nets: FactorNets, photo: MaskedImages, witnesses: Sequence[Witness]) -> tuple[FactorNets, Agreed]:
    """The networks with a mean shape of this photo's own: what they show of it goes part of the way to other depths.

    And that depth itself, which one relief does not hold to the last pixel. photo: one. The networks' own share is what
    the witnesses leave. Where all of the depth is does not count, nor what one of them does not show.
    """
    camera = nets.camera
    with torch.no_grad():
        view, begin = nets.view_of(photo.image), nets.depth_of(photo.image)
        seen = depth_with_rim(begin, view, camera)
        inside = well_inside(photo.mask, seen)
        for one in witnesses:
            inside = inside * (one.depth < VIEW_FAR)
        asked = seen + sum(one.share * _centred(one.depth - seen, inside) for one in witnesses)
    change = torch.zeros_like(begin, requires_grad=True)
    adam = torch.optim.Adam([change], lr=RATE, betas=(0.8, 0.98))
    schedule = torch.optim.lr_scheduler.ExponentialLR(adam, DECAY)
    for _ in range(UPDATES):
        shown = depth_with_rim(begin + change, view, camera)
        there = inside * (shown < VIEW_FAR)
        lacking = (_centred(shown - asked, there).square() + AGREED**2).sqrt()
        bent = sum(change.diff(dim=dim).square().mean() for dim in (-1, -2))
        adam.zero_grad()
        ((lacking * there).sum() / there.sum().clamp(min=1) + STIFFNESS * bent).backward()
        adam.step()
        schedule.step()
    own = (raw_from_depth((begin + change).detach(), camera) - raw_from_depth(begin, camera))[0]
    return replace(nets, base=own if nets.base is None else nets.base + own), Agreed(asked, inside)


def _centred(maps: Float[Tensor, "1 h w"], weights: Float[Tensor, "1 h w"]) -> Float[Tensor, "1 h w"]:
    return maps - (maps * weights).sum() / weights.sum().clamp(min=1)
