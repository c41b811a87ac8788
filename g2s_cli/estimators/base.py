"""The one interface of the method layer: an observation goes in, a depth estimate comes out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from g2s_cli.geometry.center_crop import CenterCrop
from g2s_cli.geometry.factors import Factors
from g2s_cli.progress import Progress
from g2s_cli.segmentation.gan_features import Segmenter


@dataclass(frozen=True)
class MaskedImages:
    """Images in [-1, 1] and where they count, from 0 to 1."""

    image: Float[Tensor, "n 3 h w"]
    mask: Float[Tensor, "n 1 h w"]

    def pick(self, index: Int[Tensor, b]) -> MaskedImages:
        """Some of them."""
        return MaskedImages(self.image[index], self.mask[index])

    @property
    def masked(self) -> MaskedImages:
        """The same images, 0 outside their masks."""
        return MaskedImages(self.image * self.mask, self.mask)


@dataclass(frozen=True)
class Observation:
    """One photo at the working size, as all estimators get it.

    Attributes:
        image: in [-1, 1], 0 outside the mask.
        mask: where losses count: of the object, or 1 everywhere for models that were trained with background.
        latent: w of the photo.
        center_crop: which part of the GAN's image the photo shows.
        inner_mask: of the object; the weak shape prior stands on it, without hair for a face.
        segmenter: finds the object in the GAN's images; None: all of an image counts.
    """

    image: Float[Tensor, "3 h w"]
    mask: Float[Tensor, "h w"]
    latent: Float[Tensor, d]
    center_crop: CenterCrop
    inner_mask: Float[Tensor, "h w"] | None = None
    segmenter: Segmenter | None = None

    @property
    def batch(self) -> MaskedImages:
        """The photo as a batch of one."""
        return MaskedImages(self.image[None], self.mask[None, None])


@dataclass(frozen=True)
class DepthEstimate:
    """What one estimator knows of a photo's depth.

    Attributes:
        depth: along the viewing axis in the photo's view, scene units, up to an additive constant.
        valid: where it is known.
        factors: canonical depth and albedo, view and light, of estimators that have them.
        encoder: state dict of the offset encoder E that was trained on the photo, if there is one.
    """

    depth: Float[Tensor, "h w"]
    valid: Float[Tensor, "h w"]
    factors: Factors | None = None
    encoder: dict[str, Tensor] = field(default_factory=dict)


@runtime_checkable
class DepthEstimator(Protocol):
    """Estimates a photo's depth. Its networks are its own, and no call changes them."""

    def estimate(self, observation: Observation, progress: Progress) -> DepthEstimate:
        """The depth of one photo."""
        ...
