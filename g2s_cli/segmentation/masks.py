"""Which of a photo's pixels are the object: what a parsing network says, else what the GAN's own features say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.geometry.center_crop import CenterCrop
from g2s_cli.segmentation.gan_features import Segmenter, largest_piece
from g2s_cli.segmentation.parsing_net import ParsingNet
from g2s_cli.weights.catalog import Category, MaskRule

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_SPREAD = (0.229, 0.224, 0.225)
LEAST_SHARE = 0.01  # of the picture; whatever is smaller is a slip of the network


@dataclass(frozen=True)
class ObjectMask:
    """The object in a photo, at the working size.

    whole: all of it, from 0 to 1. core: what the weak prior stands on, which for a face leaves out the hair. by: what
    found it. parser: what finds it in the GAN's pictures too; None where it is known in this photo alone. notes: what
    the user should be told.
    """

    mask: Float[Tensor, "h w"]
    inner_mask: Float[Tensor, "h w"]
    method: str
    segmenter: Segmenter | None = None
    notes: tuple[str, ...] = ()


def segment_object(
    photo: Float[Tensor, "3 h w"],
    category: Category,
    net: ParsingNet | None,
    by_features: Callable[[], ObjectMask],
    given: Float[Tensor, "h w"] | None = None,
) -> ObjectMask:
    """The object in a photo in [-1, 1].

    net: the category's parsing network, if it is here. by_features: the mask that the GAN's features make, asked for
    where there is no network or it finds nothing; `notes` then says so. given: the user's own mask, which goes before
    both.
    """
    if given is not None:
        return ObjectMask(given, given, method="the user")
    if category.mask is None:
        return by_features()
    if net is None:
        missed = f"The parsing network of {category.name} is not here (g2s weights pull {category.name})"
    else:
        parsed = segment_with_network(photo, net, category.mask)
        if parsed.mask.mean() >= LEAST_SHARE:
            return parsed
        missed = f"The parsing network {category.mask.segmenter} finds nothing of {category.title} in the photo"
    return replace(by_features(), notes=(f"{missed}: the mask is that of the GAN's own features.",))


@torch.no_grad()
def segment_with_network(photo: Float[Tensor, "3 h w"], net: ParsingNet, rule: MaskRule) -> ObjectMask:
    """What a parsing network says of a photo in [-1, 1]. The authors enlarge the working size to the network's too."""
    image = CenterCrop(1.0, net.side)(photo[None])
    if rule.normalise:
        mean, spread = (image.new_tensor(three)[:, None, None] for three in (IMAGENET_MEAN, IMAGENET_SPREAD))
        image = (image / 2 + 0.5 - mean) / spread
    mask, inner_mask = CenterCrop(1.0, photo.shape[-1])(masks_from_labels(net(image).argmax(dim=1), rule))[0]
    return ObjectMask(mask, inner_mask, method=rule.segmenter)


def masks_from_labels(label: Int[Tensor, "b h w"], rule: MaskRule) -> Float[Tensor, "b 2 h w"]:
    """What is in any of the sets of classes, and the mean of the sets.

    The mean is the authors' mask. Where it is a half, as in hair, there is object all the same.
    """
    sets = torch.stack([torch.isin(label, label.new_tensor(classes)) for classes in rule.classes], dim=1)
    return torch.stack((sets.any(dim=1).float(), sets.float().mean(dim=1)), dim=1)


@torch.no_grad()
def segment_with_features(
    latent: Float[Tensor, d], generator: Generator, segmenter: Segmenter, center_crop: CenterCrop
) -> ObjectMask:
    """The mask of the photo's inversion (docs/decisions/0005)."""
    found = largest_piece(segmenter.mask(generator.forward_features(latent[None])[1])[0])  # as a mesh is of one piece
    mask = center_crop(found.float()[None, None])[0, 0]
    return ObjectMask(mask, mask, method="features of the GAN", segmenter=segmenter)
