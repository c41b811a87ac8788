"""Masked distances: L1, discriminator features, LPIPS (paper 3.1; Pan et al. 2020), and differences of depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, l1_loss

from g2s_cli.gan.discriminator import Discriminator

FEATURE_BLOCKS = 4  # discriminator blocks that are compared
MIN_PYRAMID_PX = 4

Features = Sequence[Float[Tensor, "b _ _ _"]]


def masked_mean(values: Float[Tensor, "b c h w"], mask: Float[Tensor, "b 1 h w"]) -> Float[Tensor, ""]:
    """Mean over the channels and the pixels of a soft mask."""
    return (values * mask).sum() / (mask.sum() * values.shape[1]).clamp(min=1e-6)


def l1(a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b 3 h w"], mask: Float[Tensor, "b 1 h w"]) -> Float[Tensor, ""]:
    """Mean absolute difference over the mask."""
    return masked_mean((a - b).abs(), mask)


def masked_gradients(
    maps: Float[Tensor, "*b h w"], mask: Float[Tensor, "*c h w"]
) -> tuple[Float[Tensor, "*b h w-1"], Float[Tensor, "*b h-1 w"]]:
    """Absolute differences of horizontal and vertical neighbours, weighted by both pixels' mask."""
    horizontal = (maps.diff(dim=-1) * mask[..., 1:] * mask[..., :-1]).abs()
    vertical = (maps.diff(dim=-2) * mask[..., 1:, :] * mask[..., :-1, :]).abs()
    return horizontal, vertical


@runtime_checkable
class PerceptualDistance(Protocol):
    """A perceptual distance of masked images, differentiable with respect to both."""

    name: str

    def __call__(
        self, a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b 3 h w"], mask: Float[Tensor, "b 1 h w"]
    ) -> Float[Tensor, ""]:
        """Mean distance."""
        ...


class PixelPyramid:
    """Stands in for a discriminator where there is none: its features are the image at each resolution down to 4 px."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.blocks = range((size // MIN_PYRAMID_PX).bit_length() - 1)

    def to(self, _: torch.device) -> PixelPyramid:
        """Itself, which has no weights."""
        return self

    def with_dtype(self, _: torch.dtype) -> PixelPyramid:
        """Itself, which has no weights."""
        return self

    def features(self, image: Float[Tensor, "b 3 s s"], count: int = FEATURE_BLOCKS) -> Features:
        """The image at its own resolution, then at a half, a quarter, ..."""
        return [avg_pool2d(image, 2**level) for level in range(min(count, len(self.blocks)))]


class DiscriminatorDistance:
    """Mean L1 of the discriminator's first block outputs (Pan et al. 2020), masked at each resolution.

    As in the authors' code, images of the working size are not resized to the discriminator's input size.
    """

    def __init__(self, discriminator: Discriminator | PixelPyramid, blocks: int = FEATURE_BLOCKS) -> None:
        self.discriminator = discriminator
        self.name = "pixels" if isinstance(discriminator, PixelPyramid) else "discriminator features"
        self.blocks = blocks

    def features(self, image: Float[Tensor, "b 3 h w"]) -> Features:
        """Outputs of the discriminator's blocks."""
        return self.discriminator.features(image, self.blocks)

    def between(self, a: Features, b: Features, mask: Float[Tensor, "b 1 h w"]) -> Float[Tensor, ""]:
        """Masked distance of features, summed over blocks."""
        total = mask.new_zeros(())
        for x, y in zip(a, b, strict=True):
            share = adaptive_avg_pool2d(mask, (x.shape[-2], x.shape[-1])).permute(0, 2, 3, 1)
            # Channels last, as the features lie in memory, so that gradients keep that layout.
            x, y = (maps.permute(0, 2, 3, 1).float() * share for maps in (x, y))  # noqa: PLW2901
            area = (share.expand(len(x), -1, -1, -1).sum() * x.shape[-1]).clamp(min=1e-6)
            total = total + l1_loss(x, y, reduction="sum") / area
        return total

    def __call__(
        self, a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b 3 h w"], mask: Float[Tensor, "b 1 h w"]
    ) -> Float[Tensor, ""]:
        """Distance of masked images, averaged over blocks."""
        return self.between(self.features(a * mask), self.features(b * mask), mask) / self.blocks


class LpipsDistance:
    """LPIPS (VGG16, v0.1), the authors' choice, from the optional package `lpips`."""

    name = "LPIPS-VGG"

    def __init__(self, device: torch.device) -> None:
        import lpips  # noqa: PLC0415  optional: it imports torchvision, which a CPU-only torch lacks

        self.network = lpips.LPIPS(net="vgg", verbose=False).to(device).eval().requires_grad_(False)

    def __call__(
        self, a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b 3 h w"], mask: Float[Tensor, "b 1 h w"]
    ) -> Float[Tensor, ""]:
        """Mean LPIPS of masked images."""
        return self.network(a * mask, b * mask).mean()


def perceptual_distance(discriminator: Discriminator | PixelPyramid, device: torch.device) -> PerceptualDistance:
    """LPIPS if it and its weights are available, else the discriminator's features."""
    try:
        return LpipsDistance(device)
    except torch.OutOfMemoryError:  # a RuntimeError that does not concern LPIPS
        raise
    except (ImportError, RuntimeError, OSError):  # no package, a broken torchvision, no weights offline
        return DiscriminatorDistance(discriminator)
