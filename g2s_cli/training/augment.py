"""Adaptive discriminator augmentation (Karras et al. 2020, "Training GANs with Limited Data").

The discriminator gets real and generated images under the same random transformations, each with probability p. As long
as p is well below 1 the generator's images are not transformed themselves. p follows an overfitting heuristic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

# Standard deviations (log2 of scales and factors) and ranges of the paper's table 3.
SCALE, STRETCH, CONTRAST, SATURATION = 0.2, 0.2, 0.5, 1.0
SHIFT, BRIGHTNESS = 0.125, 0.2  # share of the image's side; of the value range [0, 1]
LUMA = 1 / math.sqrt(3)  # each channel's part of the unit vector of grey


@dataclass(frozen=True)
class Augmentation:
    """One random transformation for each image of a batch.

    Attributes:
        affine: from coordinates of the result to those of the image, both from -1 to 1.
        colour: of an RGB value in [-1, 1] and 1.
    """

    affine: Float[Tensor, "b 2 3"]
    colour: Float[Tensor, "b 3 4"]

    def __getitem__(self, part: slice) -> Augmentation:
        """The transformations of some of the images."""
        return Augmentation(self.affine[part], self.colour[part])

    def __call__(self, images: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b 3 s s"]:
        """The transformed images, differentiably; mirrored beyond their edges."""
        grid = affine_grid(self.affine.to(images), list(images.shape), align_corners=False)
        warped = grid_sample(images, grid, padding_mode="reflection", align_corners=False)
        colour = self.colour.to(images)
        return torch.einsum("bij,bjhw->bihw", colour[:, :, :3], warped) + colour[:, :, 3, None, None]


def random_augmentation(batch: int, p: float, rng: torch.Generator) -> Augmentation:
    """Draw transformations, of which each has probability p, for a batch of images."""

    def chosen(values: Float[Tensor, b], neutral: float, share: float = p) -> Float[Tensor, b]:
        return torch.where(torch.rand(batch, generator=rng) < share, values, neutral)

    def normal(deviation: float) -> Float[Tensor, b]:
        return torch.randn(batch, generator=rng) * deviation

    def uniform(limit: float) -> Float[Tensor, b]:
        return (2 * torch.rand(batch, generator=rng) - 1) * limit

    # Two rotations around the stretch; together they happen with probability p.
    share = 1 - math.sqrt(1 - p)
    scale, stretch = chosen(normal(SCALE).exp2(), 1.0), chosen(normal(STRETCH).exp2(), 1.0)
    affine = _rotation(chosen(uniform(math.pi), 0.0, share))
    affine = affine * torch.stack((scale * stretch, scale / stretch), dim=-1)[:, None]
    affine = affine @ _rotation(chosen(uniform(math.pi), 0.0, share))
    # A shift of a share of the side is twice that in coordinates from -1 to 1.
    shift = torch.stack([chosen(uniform(2 * SHIFT), 0.0) for _ in "xy"], dim=-1)[:, :, None]

    contrast, saturation = chosen(normal(CONTRAST).exp2(), 1.0), chosen(normal(SATURATION).exp2(), 1.0)
    chroma = _hue_rotation(chosen(uniform(math.pi), 0.0)) - LUMA**2  # without the projection to grey
    colour = contrast[:, None, None] * (LUMA**2 + saturation[:, None, None] * chroma)
    brightness = chosen(normal(2 * BRIGHTNESS), 0.0)[:, None, None].expand(batch, 3, 1)
    return Augmentation(torch.cat((affine, shift), dim=-1), torch.cat((colour, brightness), dim=-1))


def adapted_probability(p: float, overfitting: float, target: float, step: float) -> float:
    """The next p: larger where the discriminator overfits more than the target, within [0, 1).

    Args:
        overfitting: the paper's r_t, the mean sign of the discriminator's logits of real images.
        target: of r_t, 0.6 in the paper.
        step: change of p.
    """
    return min(max(p + math.copysign(step, overfitting - target), 0.0), 0.99)


def _rotation(angle: Float[Tensor, b]) -> Float[Tensor, "b 2 2"]:
    return torch.stack((angle.cos(), -angle.sin(), angle.sin(), angle.cos()), dim=-1).view(-1, 2, 2)


def _hue_rotation(angle: Float[Tensor, b]) -> Float[Tensor, "b 3 3"]:
    """Rotations about the grey axis, by Rodrigues' formula."""
    cross = LUMA * torch.tensor(((0.0, -1, 1), (1, 0, -1), (-1, 1, 0)))
    cosine, sine = angle.cos()[:, None, None], angle.sin()[:, None, None]
    return cosine * torch.eye(3) + sine * cross + (1 - cosine) * LUMA**2
