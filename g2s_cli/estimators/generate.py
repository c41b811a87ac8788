"""The GAN's images as the method sees them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from g2s_cli.estimators.base import MaskedImages
from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.geometry.center_crop import CenterCrop
from g2s_cli.segmentation.gan_features import Segmenter


@torch.no_grad()
def generate(
    generator: Generator, latents: Float[Tensor, "b *n d"], crop: CenterCrop, segmenter: Segmenter | None
) -> MaskedImages:
    """The GAN's images at the working size, with background; without a segmenter all of an image counts."""
    images, masks = [], []
    for part in latents.split(generator.max_batch):
        image, features = generator.forward_features(part)
        images.append(crop(image.clamp(-1, 1)))
        if segmenter is None:
            masks.append(torch.ones_like(images[-1][:, :1]))
        else:
            masks.append(crop(segmenter.mask(features).float().unsqueeze(1)))
    return MaskedImages(torch.cat(images), torch.cat(masks))
