"""How well factors reconstruct images: the reconstruction loss of the paper's Eq. 3, shared by steps 1 and 3."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from g2s_cli.estimators.base import MaskedImages, Observation
from g2s_cli.estimators.feedforward import FactorNets, RenderedBatch, ShadedGeometry, shade_geometry
from g2s_cli.gan.losses import PerceptualDistance, l1
from g2s_cli.geometry.normals import smoothness_loss
from g2s_cli.geometry.warp import hflip

PERCEPTUAL_WEIGHT = 0.5
SMOOTHNESS_WEIGHT = 0.01  # the paper's λ₂
WHITE = 0.98  # of -1 to 1: brighter than this is clipped


@dataclass(frozen=True)
class PhotoGeometry:
    """A photo's depth, view and light, ready to be rendered with any albedo.

    Attributes:
        depth: canonical.
        geometry: the same, shaded and seen.
        mirror: of the mirrored depth, if that is to reconstruct the photo too.
    """

    depth: Float[Tensor, "1 h w"]
    geometry: ShadedGeometry
    mirror: ShadedGeometry | None

    @classmethod
    def of(
        cls,
        depth: Float[Tensor, "1 h w"],
        view: Float[Tensor, "1 6"],
        light: Float[Tensor, "1 4"],
        nets: FactorNets,
        *,
        symmetric: bool,
    ) -> PhotoGeometry:
        """A depth from a view, under a light, seen by the networks' camera."""
        geometry = shade_geometry(depth, view, light, nets.camera)
        mirror = shade_geometry(hflip(depth), view, light, nets.camera) if symmetric else None
        return cls(depth, geometry, mirror)

    @classmethod
    @torch.no_grad()
    def predicted(cls, nets: FactorNets, observation: Observation, *, symmetric: bool) -> PhotoGeometry:
        """The networks' depth, view and light of a photo, without gradients."""
        image = observation.image[None]
        return cls.of(nets.depth_of(image), nets.view_of(image), nets.light_of(image), nets, symmetric=symmetric)


def photo_loss(
    photo: PhotoGeometry, albedo: Float[Tensor, "1 3 h w"], observation: Observation, perceptual: PerceptualDistance
) -> Float[Tensor, ""]:
    """How badly factors reconstruct the photo, with the smoothness term (Eq. 3)."""
    loss = image_loss(photo.geometry.with_albedo(albedo), observation.batch, perceptual)
    if photo.mirror:
        loss = (loss + image_loss(photo.mirror.with_albedo(hflip(albedo)), observation.batch, perceptual)) / 2
    return loss + SMOOTHNESS_WEIGHT * (smoothness_loss(photo.depth) + smoothness_loss(photo.geometry.diffuse))


def image_loss(rendered: RenderedBatch, images: MaskedImages, perceptual: PerceptualDistance) -> Float[Tensor, ""]:
    """L1 + 0.5 perceptual distance, where images count and the object is visible.

    White pixels of an image are clipped: there a rendering need only be as bright. (The authors clip renderings
    everywhere, so that what is too bright for a darker pixel has no gradient.)
    """
    mask = images.mask * rendered.valid.unsqueeze(1)
    clipped = torch.where(images.image > WHITE, rendered.image.clamp(max=1), rendered.image)
    return l1(clipped, images.image, mask) + PERCEPTUAL_WEIGHT * perceptual(clipped, images.image, mask)
