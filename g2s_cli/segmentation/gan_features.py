"""Object masks without labels: clusters of the generator's own features (cf. Collins et al. 2020).

The features read by the ToRGB layer at 64 pixels fall into a few directions. The one that dominates the images' upper
rim is the background. Figures are in docs/experiments/masks.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import max_pool2d, normalize

from g2s_cli.gan.stylegan2 import Generator

CLUSTERS = 4
ITERATIONS = 30
BATCH = 16


@dataclass(frozen=True)
class Segmenter:
    """Unit centroids of generator features, one of which is the background."""

    centroids: Float[Tensor, "k c"]
    background: int

    def mask(self, features: Float[Tensor, "b c s s"]) -> Bool[Tensor, "b s s"]:
        """The object: all pixels but background that is connected to the image's rim."""
        return ~connected_to_rim(_labels(features, self.centroids) == self.background)


@torch.no_grad()
def fit_segmenter(generator: Generator, images: int = 64) -> Segmenter:
    """Cluster the features of random images by spherical k-means.

    The images do not depend on the run's seed, so a category has one segmenter.
    """
    rng = torch.Generator().manual_seed(0)
    device = generator.latent_avg.device
    latents = generator.mapping(torch.randn(images, generator.latent_size, generator=rng).to(device))
    batches = torch.split(latents, min(BATCH, generator.max_batch))
    features = torch.cat([generator.forward_features(batch)[1].float() for batch in batches])
    pixels = normalize(features.permute(0, 2, 3, 1).flatten(0, 2), dim=1)
    centroids = pixels[torch.randint(len(pixels), (CLUSTERS,), generator=rng).to(device)]
    for _ in range(ITERATIONS):
        nearest = (pixels @ centroids.T).argmax(dim=1)
        sums = torch.zeros_like(centroids).index_add_(0, nearest, pixels)
        centroids = torch.where(sums.norm(dim=1, keepdim=True) > 0, normalize(sums, dim=1), centroids)
    labels = _labels(features, centroids)
    upper = labels.shape[1] // 3
    rim = torch.cat((labels[:, :upper, 0].flatten(), labels[:, :upper, -1].flatten()))
    return Segmenter(centroids, background=int(torch.bincount(rim, minlength=CLUSTERS).argmax()))


def connected_to_rim(mask: Bool[Tensor, "b s s"]) -> Bool[Tensor, "b s s"]:
    """The parts of masks that touch the image's rim, with 8-connectivity."""
    inside = mask.float().unsqueeze(1)
    reached = inside.clone()
    reached[:, :, 1:-1, 1:-1] = 0
    return spread_maxima(reached, inside)[:, 0] > 0


def largest_component(mask: Bool[Tensor, "s s"]) -> Bool[Tensor, "s s"]:
    """The largest 8-connected component of a mask."""
    if not mask.any():
        return mask
    inside = mask[None, None].float()
    indices = torch.arange(1.0, mask.numel() + 1, device=mask.device).view_as(inside)  # exact up to 4096 pixels a side
    component = spread_maxima(indices * inside, inside)[0, 0]
    return mask & (component == component[mask].mode().values)


def spread_maxima(values: Float[Tensor, "b 1 s s"], inside: Float[Tensor, "b 1 s s"]) -> Float[Tensor, "b 1 s s"]:
    """The maximum of the values, which are not negative, in each 8-connected component, at all of its pixels."""
    while True:
        spread = max_pool2d(values, 3, 1, 1) * inside
        for dim in (-1, -2):
            spread = _spread_along(spread, inside, dim)
        if torch.equal(spread, values):
            return values
        values = spread


def _spread_along(
    values: Float[Tensor, "b 1 s s"], inside: Float[Tensor, "b 1 s s"], dim: int
) -> Float[Tensor, "b 1 s s"]:
    """The maximum of the values in each segment of a row or column, at all of its pixels."""
    step = values.double().max() + 1  # each segment's values lie above those of all before
    for _ in range(2):
        offset = (inside == 0).cumsum(dim) * step
        values = ((values + offset).cummax(dim).values - offset).to(values.dtype) * inside
        values, inside = values.flip(dim), inside.flip(dim)
    return values


def _labels(features: Float[Tensor, "b c s s"], centroids: Float[Tensor, "k c"]) -> Int[Tensor, "b s s"]:
    return torch.einsum("bchw,kc->bkhw", features.float(), centroids).argmax(dim=1)
