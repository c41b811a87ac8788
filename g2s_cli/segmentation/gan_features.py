"""Where the object is, by what the GAN itself knows: clusters of the generator's own features.

The features that a late ToRGB reads, that of 64 pixels, fall into a few directions; the one that dominates the rim of
pictures is the background. It needs no labels and no parsing network: the centroids are found in random images of the
category, and the mask of a photo is the mask of its inversion. (Collins et al. 2020 found parts of faces this way; for
the figures here see docs/experiments/masks.md.)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import max_pool2d, normalize

from g2s_cli.gan.stylegan2 import Generator

CLUSTERS = 4
ROUNDS = 30


@dataclass(frozen=True)
class Segmenter:
    """Unit centroids (k c) of generator features, and which of them is the background."""

    centroids: Float[Tensor, "k c"]
    background: int

    def mask(self, features: Float[Tensor, "b c s s"]) -> Bool[Tensor, "b s s"]:
        """The object: everything but background that is connected to the picture's rim."""
        nearest = _nearest_centroid(features, self.centroids)
        return ~_connected_to_rim(nearest == self.background)


@torch.no_grad()
def segmenter_of(generator: Generator, images: int = 64) -> Segmenter:
    """Cluster the features of some random images; what fills most of the upper rim is background.

    The images are always the same ones, so that a category has one parser whatever a run's seed.
    """
    rng = torch.Generator().manual_seed(0)
    device = generator.latent_avg.device
    latents = generator.mapping(torch.randn(images, generator.latent_size, generator=rng).to(device))
    chunk = min(16, generator.at_once)
    features = torch.cat([generator.forward_features(some)[1].float() for some in torch.split(latents, chunk)])
    pixels = normalize(features.permute(0, 2, 3, 1).flatten(0, 2), dim=1)
    centroids = pixels[torch.randint(len(pixels), (CLUSTERS,), generator=rng).to(device)]
    for _ in range(ROUNDS):
        label = (pixels @ centroids.T).argmax(dim=1)
        sums = torch.zeros_like(centroids).index_add_(0, label, pixels)
        centroids = torch.where(sums.norm(dim=1, keepdim=True) > 0, normalize(sums, dim=1), centroids)
    label = _nearest_centroid(features, centroids)
    upper = label.shape[1] // 3
    rim = torch.cat((label[:, :upper, 0].flatten(), label[:, :upper, -1].flatten()))
    return Segmenter(centroids, background=int(torch.bincount(rim, minlength=CLUSTERS).argmax()))


def _nearest_centroid(features: Float[Tensor, "b c s s"], centroids: Float[Tensor, "k c"]) -> Int[Tensor, "b s s"]:
    return torch.einsum("bchw,kc->bkhw", features.float(), centroids).argmax(dim=1)


def _connected_to_rim(mask: Bool[Tensor, "b s s"]) -> Bool[Tensor, "b s s"]:
    """The part of a mask that touches the picture's rim, by spreading inwards until nothing changes."""
    inside = mask.float().unsqueeze(1)
    reached = inside.clone()
    reached[:, :, 1:-1, 1:-1] = 0
    while True:
        spread = max_pool2d(reached, 3, 1, 1) * inside
        if torch.equal(spread, reached):
            return spread[:, 0] > 0
        reached = spread


def largest_piece(mask: Bool[Tensor, "s s"]) -> Bool[Tensor, "s s"]:
    """The largest part of a mask whose pixels touch one another, corners included; none of an empty mask."""
    number = torch.arange(1.0, mask.numel() + 1, device=mask.device).view_as(mask)  # exact up to 4096 pixels a side
    piece = number * mask
    while True:  # every pixel takes the highest number next to it, until each piece has one
        spread = max_pool2d(piece[None, None], 3, 1, 1)[0, 0] * mask
        if torch.equal(spread, piece):
            return mask & (piece == piece[mask].mode().values) if mask.any() else mask
        piece = spread
