"""Distances between images, masked: L1, discriminator features, LPIPS (paper 3.1; Pan et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, l1_loss

from g2s_cli.gan.discriminator import Discriminator

DEPTH_UNIT = 0.1  # scene units that count as one: half the range of the relief
FEATURE_BLOCKS = 4  # the discriminator's first block outputs that make the distance


def masked_mean(values: Float[Tensor, "b c h w"], mask: Float[Tensor, "b 1 h w"]) -> Float[Tensor, ""]:
    """Mean over the channels and the pixels of a soft mask."""
    return (values * mask).sum() / (mask.sum() * values.shape[1]).clamp(min=1e-6)


def l1(a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b 3 h w"], mask: Float[Tensor, "b 1 h w"]) -> Float[Tensor, ""]:
    """Mean absolute difference over the mask."""
    return masked_mean((a - b).abs(), mask)


def masked_gradients(
    apart: Float[Tensor, "*b h w"], mask: Float[Tensor, "*c h w"]
) -> tuple[Float[Tensor, "*b h w-1"], Float[Tensor, "*b h-1 w"]]:
    """Absolute differences of neighbours to the right and downwards, 0 where not both are in the mask."""
    across = (apart.diff(dim=-1) * mask[..., 1:] * mask[..., :-1]).abs()
    down = (apart.diff(dim=-2) * mask[..., 1:, :] * mask[..., :-1, :]).abs()
    return across, down


def depth_and_slope_distance(
    apart: Float[Tensor, "b h w"], trust: Float[Tensor, "b h w"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """How large differences of depth are, less their mean, and those of their slopes; a mean over all that is trusted.

    apart: scene units. trust: how much a pixel counts, from 0 to 1.
    """
    apart = apart / DEPTH_UNIT
    apart = apart - (apart * trust).sum(dim=(1, 2), keepdim=True) / trust.sum(dim=(1, 2), keepdim=True).clamp(min=1)
    across, down = masked_gradients(apart, trust.sqrt())
    area = trust.sum().clamp(min=1)
    return (apart * trust).abs().sum() / area, (across.sum() + down.sum()) / area


@runtime_checkable
class PerceptualDistance(Protocol):
    """A perceptual distance of masked images."""

    name: str

    def __call__(
        self, a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b 3 h w"], mask: Float[Tensor, "b 1 h w"]
    ) -> Float[Tensor, ""]:
        """Distance; differentiable with respect to both images."""
        ...


class DiscriminatorDistance:
    """Mean L1 of the discriminator's first block outputs (Pan et al. 2020), masked at each resolution.

    Images of the working size are looked at as they are, as the authors do, even by the first blocks of a
    discriminator of larger pictures.
    """

    name = "discriminator features"

    def __init__(self, discriminator: Discriminator, blocks: int = FEATURE_BLOCKS) -> None:
        self.discriminator = discriminator
        self.blocks = blocks

    def features(self, image: Float[Tensor, "b 3 h w"]) -> Sequence[Float[Tensor, "b _ _ _"]]:
        """What the discriminator sees in images, block by block."""
        return self.discriminator.features(image, self.blocks)

    def between(
        self,
        a: Sequence[Float[Tensor, "b _ _ _"]],
        b: Sequence[Float[Tensor, "b _ _ _"]],
        mask: Float[Tensor, "b 1 h w"],
    ) -> Float[Tensor, ""]:
        """Distance of features already taken, summed over blocks."""
        total = mask.new_zeros(())
        for one, other in zip(a, b, strict=True):
            share = adaptive_avg_pool2d(mask, (one.shape[-2], one.shape[-1])).permute(0, 2, 3, 1)
            # Channels last, as the features lie in memory: what goes back into D keeps that layout.
            near, far = (maps.permute(0, 2, 3, 1).float() * share for maps in (one, other))
            counted = (share.expand(len(near), -1, -1, -1).sum() * near.shape[-1]).clamp(min=1e-6)
            total = total + l1_loss(near, far, reduction="sum") / counted
        return total

    def __call__(
        self, a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b 3 h w"], mask: Float[Tensor, "b 1 h w"]
    ) -> Float[Tensor, ""]:
        """Distance of the masked images, averaged over blocks."""
        return self.between(self.features(a * mask), self.features(b * mask), mask) / self.blocks


class LpipsDistance:
    """LPIPS with VGG16 and the v0.1 heads, the authors' choice, from the optional `lpips` package."""

    name = "LPIPS-VGG"

    def __init__(self, device: torch.device) -> None:
        import lpips  # noqa: PLC0415  optional: it imports torchvision, which a CPU-only torch lacks

        self.network = lpips.LPIPS(net="vgg", verbose=False).to(device).eval().requires_grad_(False)

    def __call__(
        self, a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b 3 h w"], mask: Float[Tensor, "b 1 h w"]
    ) -> Float[Tensor, ""]:
        """Mean LPIPS of the masked images."""
        return self.network(a * mask, b * mask).mean()


def perceptual_distance(discriminator: Discriminator, device: torch.device) -> PerceptualDistance:
    """LPIPS where it is installed and has its weights, else the discriminator's features."""
    try:
        return LpipsDistance(device)
    except torch.OutOfMemoryError:  # a RuntimeError, too, but no word about LPIPS
        raise
    except (
        ImportError,
        RuntimeError,
        OSError,
    ):  # no package; torchvision without its ops; no weights offline
        return DiscriminatorDistance(discriminator)
