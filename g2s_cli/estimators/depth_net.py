"""The depth network: a U-Net (Ronneberger et al., MICCAI 2015) that regresses depth from a photo and its mask.

Not in the paper. D, A, V and L squeeze an image through a bottleneck; this network keeps where it saw what, and gives
depth in the photo's view. It was trained on synthetic pairs (docs/decisions/0026-depth-network.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pixel_shuffle, pixel_unshuffle, silu

from g2s_cli.estimators.base import DepthEstimate, Observation
from g2s_cli.gan.state_dict import load_state, state_mismatch
from g2s_cli.geometry.resample import resize_bspline
from g2s_cli.geometry.warp import hflip
from g2s_cli.progress import Progress

CHANNELS_A_GROUP = 8
LEVELS = 3  # halvings after the first, of pixel unshuffling
UNIT = 0.02  # scene units of the network's output
ON_DISK = {"whole": "bottleneck", "said": "head"}  # module names of files of version 0.1.0


class DepthNet(nn.Module):
    """Images and masks to depth, up to an additive constant.

    Forward: images (b 3 s s) in [-1, 1], 0 outside their masks (b 1 s s), to depth less one (b s s), scene units.

    With a level of detail, the U-Net sees the images at half their size, and the level adds what it cannot show.

    Args:
        size: of the U-Net's images in pixels, a multiple of 16.
        width: channels of the U-Net's finest level.
        bottleneck: numbers that the coarsest level is squeezed through.
        detail_width: channels of the level of detail; 0 for none.

    Attributes:
        size: of the network's images in pixels.
    """

    def __init__(self, size: int, width: int, bottleneck: int, detail_width: int = 0) -> None:
        super().__init__()
        self.size = 2 * size if detail_width else size
        coarsest = 4 * width * (size // 2 ** (LEVELS + 1)) ** 2
        self.fine = Block(4 * (3 + 1), width)
        self.coarse = Block(width, 2 * width, stride=2)
        self.coarser = Block(2 * width, 4 * width, stride=2)
        self.coarsest = Block(4 * width, 4 * width, stride=2)
        self.bottleneck = nn.Sequential(
            nn.Flatten(), nn.Linear(coarsest, bottleneck), nn.SiLU(), nn.Linear(bottleneck, coarsest)
        )
        self.back_to_coarser = Block(8 * width, 4 * width)
        self.back_to_coarse = Block(6 * width, 2 * width)
        self.back_to_fine = Block(3 * width, width)
        self.head = nn.Conv2d(width, 4, 3, padding=1)
        if detail_width:
            self.detail = Block(4 * (3 + 1) + width, detail_width)
            self.detail_head = nn.Conv2d(detail_width, 4, 3, padding=1)

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> DepthNet:
        """The network of a state dict, with its weights. Raises WeightsError for another network's."""
        named = ((*name.partition("."), tensor) for name, tensor in state.items())
        state = {ON_DISK.get(module, module) + dot + rest: tensor for module, dot, rest, tensor in named}
        first, linear = state.get("fine.first.weight"), state.get("bottleneck.1.weight")
        if first is None or linear is None or first.dim() != 4 or linear.dim() != 2:
            raise state_mismatch(cls, "no fine.first.weight and bottleneck.1.weight of a U-Net")
        width, (bottleneck, coarsest) = len(first), linear.shape
        side = round((coarsest / (4 * width)) ** 0.5) if width else 0
        if not side or width % CHANNELS_A_GROUP or 4 * width * side**2 != coarsest:
            raise state_mismatch(cls, f"{coarsest} numbers from a width of {width}")
        detail_width = len(state.get("detail.first.weight", ()))
        return load_state(cls, lambda: cls(side * 2 ** (LEVELS + 1), width, bottleneck, detail_width), state)

    def forward(self, image: Float[Tensor, "b 3 s s"], mask: Float[Tensor, "b 1 s s"]) -> Float[Tensor, "b s s"]:
        """Depth less one, of all pixels, also outside the masks."""
        if not hasattr(self, "detail"):
            return _depth(self.head, self._features(image, mask))[:, 0]
        covered = avg_pool2d(mask, 2)
        half = (covered >= 0.5).to(image.dtype)
        fine = self._features(avg_pool2d(image * mask, 2) / covered.clamp(min=0.25) * half, half)
        detail = self.detail(torch.cat((pixel_unshuffle(torch.cat((image, mask), dim=1), 2), _doubled(fine)), dim=1))
        return (_doubled(_depth(self.head, fine)) + _depth(self.detail_head, detail))[:, 0]

    def _features(self, image: Float[Tensor, "b 3 s s"], mask: Float[Tensor, "b 1 s s"]) -> Float[Tensor, "b c t t"]:
        """The U-Net's features, at half the size."""
        fine = self.fine(pixel_unshuffle(torch.cat((image, mask), dim=1), 2))
        coarse = self.coarse(fine)
        coarser = self.coarser(coarse)
        coarsest = self.coarsest(coarser)
        coarsest = coarsest + self.bottleneck(coarsest).view_as(coarsest)
        coarser = self.back_to_coarser(torch.cat((_doubled(coarsest), coarser), dim=1))
        coarse = self.back_to_coarse(torch.cat((_doubled(coarser), coarse), dim=1))
        return self.back_to_fine(torch.cat((_doubled(coarse), fine), dim=1))


class Block(nn.Module):
    """Two convolutions, the second with a residual connection; a stride of 2 halves the maps."""

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, stride, padding=1)
        self.first_norm = nn.GroupNorm(after // CHANNELS_A_GROUP, after)
        self.second = nn.Conv2d(after, after, 3, padding=1)
        self.second_norm = nn.GroupNorm(after // CHANNELS_A_GROUP, after)

    def forward(self, maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d v u"]:
        """Features."""
        maps = silu(self.first_norm(self.first(maps)))
        return maps + silu(self.second_norm(self.second(maps)))


@dataclass(frozen=True)
class DepthNetEstimator:
    """The depth network on a photo and on its mirror image, averaged. It was trained on binary masks."""

    network: DepthNet

    @torch.no_grad()
    def estimate(self, observation: Observation, progress: Progress) -> DepthEstimate:
        """Depth of every pixel."""
        progress.begin("depth network", 1)
        image, mask = observation.image[None], observation.mask[None, None]
        size = image.shape[-1]
        if size != self.network.size:
            image, mask = (interpolate(maps, size=(self.network.size,) * 2, mode="area") for maps in (image, mask))
            mask = (mask >= 0.5).to(mask.dtype)
        depth = self.network(image, mask) + hflip(self.network(hflip(image), hflip(mask)))
        depth = resize_bspline(depth, size)[0]
        progress.advance(1, 0.0)
        return DepthEstimate(1 + depth / 2, torch.ones_like(depth))


def _depth(head: nn.Module, features: Float[Tensor, "b c s s"]) -> Float[Tensor, "b 1 t t"]:
    """A head's output, at twice the size of its features, in scene units."""
    with torch.autocast(features.device.type, enabled=False):  # normals are small differences of depth
        return UNIT * pixel_shuffle(head(features.float()), 2)


def _doubled(maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c v u"]:
    return interpolate(maps, scale_factor=2, mode="bilinear", align_corners=False)
