"""S, which says how far away is what each pixel of a picture shows. Not in the paper.

A U-Net (Ronneberger et al., MICCAI 2015): D, A, V and L read a whole picture into a few numbers and say what an object
is like from there; S keeps what it saw where, outlines too, and says depth as the photo's camera has it. Beside
reading how an object looks there is nothing that it knows: no view, no light, no relief.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, pixel_shuffle, pixel_unshuffle, silu

from g2s_cli.estimators.networks import load_state, state_mismatch

CHANNELS_A_GROUP = 8
LEVELS = 3  # halvings of a picture whose squares of four pixels have become one
UNIT = 0.02  # scene units: what the network says is in these


class DepthNet(nn.Module):
    """Pictures and masks to depth, up to its mean.

    Forward: images (b 3 s s) in [-1, 1], 0 outside their masks (b 1 s s), to depths (b s s) less one, in scene units.
    size: of the pictures, in pixels: a multiple of 16. width: channels of the finest level. thought: numbers that all
    of a picture is read into on the coarsest.
    """

    def __init__(self, size: int, width: int, thought: int) -> None:
        super().__init__()
        self.size = size
        seen = 4 * width * (size // 2 ** (LEVELS + 1)) ** 2
        self.fine = Block(4 * (3 + 1), width)
        self.coarse = Block(width, 2 * width, stride=2)
        self.coarser = Block(2 * width, 4 * width, stride=2)
        self.coarsest = Block(4 * width, 4 * width, stride=2)
        self.whole = nn.Sequential(nn.Flatten(), nn.Linear(seen, thought), nn.SiLU(), nn.Linear(thought, seen))
        self.back_to_coarser = Block(8 * width, 4 * width)
        self.back_to_coarse = Block(6 * width, 2 * width)
        self.back_to_fine = Block(3 * width, width)
        self.said = nn.Conv2d(width, 4, 3, padding=1)

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> DepthNet:
        """The network a state dict belongs to, with its weights. Raises WeightsError."""
        first, whole = state.get("fine.first.weight"), state.get("whole.1.weight")
        if first is None or whole is None or first.dim() != 4 or whole.dim() != 2:
            raise state_mismatch(cls, "no fine.first.weight and whole.1.weight of a U-Net")
        width, (thought, seen) = len(first), whole.shape
        side = round((seen / (4 * width)) ** 0.5) if width else 0
        if not side or width % CHANNELS_A_GROUP or 4 * width * side**2 != seen:
            raise state_mismatch(cls, f"{seen} numbers from a width of {width}")
        return load_state(cls, lambda: cls(side * 2 ** (LEVELS + 1), width, thought), state)

    def forward(self, image: Float[Tensor, "b 3 s s"], mask: Float[Tensor, "b 1 s s"]) -> Float[Tensor, "b s s"]:
        """Depths less one; of all of a picture, also where there is no object."""
        fine = self.fine(pixel_unshuffle(torch.cat((image, mask), dim=1), 2))
        coarse = self.coarse(fine)
        coarser = self.coarser(coarse)
        coarsest = self.coarsest(coarser)
        coarsest = coarsest + self.whole(coarsest).view_as(coarsest)
        coarser = self.back_to_coarser(torch.cat((_doubled(coarsest), coarser), dim=1))
        coarse = self.back_to_coarse(torch.cat((_doubled(coarser), coarse), dim=1))
        fine = self.back_to_fine(torch.cat((_doubled(coarse), fine), dim=1))
        with torch.autocast(image.device.type, enabled=False):  # slopes are differences of what is nearly the same
            return UNIT * pixel_shuffle(self.said(fine.float()), 2)[:, 0]


class Block(nn.Module):
    """Two convolutions, the second beside a way around it."""

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, stride, padding=1)
        self.first_norm = nn.GroupNorm(after // CHANNELS_A_GROUP, after)
        self.second = nn.Conv2d(after, after, 3, padding=1)
        self.second_norm = nn.GroupNorm(after // CHANNELS_A_GROUP, after)

    def forward(self, maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d v u"]:
        """Maps of as many pixels, or with a stride of 2 of a quarter of them."""
        maps = silu(self.first_norm(self.first(maps)))
        return maps + silu(self.second_norm(self.second(maps)))


def _doubled(maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c v u"]:
    return interpolate(maps, scale_factor=2, mode="bilinear", align_corners=False)
