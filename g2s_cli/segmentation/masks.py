"""The object mask of a photo: the user's own, a parsing network's, the person network's, or the GAN's features'."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from g2s_cli.config import Category, MaskRule
from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.geometry.center_crop import CenterCrop
from g2s_cli.photo.crop import Matte
from g2s_cli.photo.load import SURROUNDINGS
from g2s_cli.segmentation.gan_features import Segmenter, largest_component
from g2s_cli.segmentation.parsing_net import ParsingNet
from g2s_cli.segmentation.person import person_matte
from g2s_cli.segmentation.person_net import PersonNet

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MIN_SHARE = 0.01  # of the image; smaller masks are errors of the network
MIN_PERSON_SHARE = 0.1  # the same, of a person in the crop of a face


@dataclass(frozen=True)
class ObjectMask:
    """The object in a photo, at the working size.

    Args:
        mask: the whole object, from 0 to 1.
        inner_mask: support of the ellipsoid prior; for faces it excludes half of the hair.
        method: what made the mask, for report.json.
        segmenter: makes masks of the GAN's images, too; None if the mask exists for this photo only.
        notes: sentences for the user.
        matte: the person network's opacity of the crop with its surroundings, at the photo's resolution.
    """

    mask: Float[Tensor, "h w"]
    inner_mask: Float[Tensor, "h w"]
    method: str
    segmenter: Segmenter | None = None
    notes: tuple[str, ...] = ()
    matte: Float[Tensor, "n n"] | None = None

    @property
    def wide_matte(self) -> Matte | None:
        """The matte in 8 bits, with its place."""
        return None if self.matte is None else Matte((self.matte * 255).round().byte().cpu().numpy(), SURROUNDINGS)


def segment_object(
    photo: Float[Tensor, "3 h w"],
    category: Category,
    net: ParsingNet | None,
    fallback: Callable[[], ObjectMask],
    user_mask: Float[Tensor, "h w"] | None = None,
) -> ObjectMask:
    """The object mask of a photo.

    Args:
        photo: in [-1, 1].
        net: the category's parsing network, None if it is not downloaded.
        fallback: makes the mask that is used if the network is missing or finds nothing.
        user_mask: takes precedence over all.
    """
    if user_mask is not None:
        return ObjectMask(user_mask, user_mask, method="the user")
    if category.mask_rule is None:
        return fallback()
    if net is None:
        reason = f"The parsing network of {category.name} is not here (g2s weights pull {category.name})"
    else:
        result = segment_with_network(photo, net, category.mask_rule)
        if result.mask.mean() >= MIN_SHARE:
            return result
        reason = f"The parsing network {category.mask_rule.segmenter} finds nothing of {category.title} in the photo"
    result = fallback()
    return replace(result, notes=(f"{reason}: the mask is that of the {result.method}.",))


@torch.no_grad()
def segment_with_network(photo: Float[Tensor, "3 h w"], net: ParsingNet, rule: MaskRule) -> ObjectMask:
    """The mask of a parsing network for a photo in [-1, 1], which is resized to the network's input size."""
    image = CenterCrop(1.0, net.input_size)(photo[None])
    if rule.normalise:
        mean, std = (image.new_tensor(channels)[:, None, None] for channels in (IMAGENET_MEAN, IMAGENET_STD))
        image = (image / 2 + 0.5 - mean) / std
    masks = masks_from_labels(net(image).argmax(dim=1), rule)
    mask, inner_mask = CenterCrop(1.0, photo.shape[-1])(masks)[0]
    return ObjectMask(mask, inner_mask, method=rule.segmenter)


def segment_person(
    surroundings: UInt8[np.ndarray, "n n 3"],
    net: PersonNet,
    center_crop: CenterCrop,
    fallback: Callable[[], ObjectMask],
    segmenter: Segmenter | None = None,
) -> ObjectMask:
    """The mask of the person network.

    Args:
        surroundings: the crop and as much again around it.
        center_crop: of the crop.
        fallback: makes the mask that is used if the network finds nobody.
        segmenter: makes masks of the GAN's images.
    """
    matte = person_matte(surroundings, net)
    opaque = (matte > 0.5).float().to(next(net.parameters()).device)
    mask = CenterCrop(center_crop.share / SURROUNDINGS, center_crop.size)(opaque[None, None])[0, 0]
    if mask.mean() >= MIN_PERSON_SHARE:
        return ObjectMask(mask, mask, method="person network", segmenter=segmenter, matte=matte)
    result = fallback()
    reason = "The person network finds nobody in the middle of the photo"
    remedy = "If the photo shows no person, name another --category; else set --crop around the face, or give a --mask."
    return replace(result, notes=(f"{reason}: the mask is that of the {result.method}. {remedy}",))


@torch.no_grad()
def segment_with_features(
    latent: Float[Tensor, d], generator: Generator, segmenter: Segmenter, center_crop: CenterCrop
) -> ObjectMask:
    """The mask of the photo's inversion (docs/decisions/0005), reduced to one component as the mesh is."""
    features = generator.forward_features(latent[None])[1]
    component = largest_component(segmenter.mask(features)[0])
    mask = center_crop(component.float()[None, None])[0, 0]
    return ObjectMask(mask, mask, method="features of the GAN", segmenter=segmenter)


def masks_from_labels(labels: Int[Tensor, "b h w"], rule: MaskRule) -> Float[Tensor, "b 2 h w"]:
    """The union and the mean of a rule's sets of classes.

    The mean is the authors' mask: a half in the hair of faces, which the union counts as object.
    """
    sets = torch.stack([torch.isin(labels, labels.new_tensor(classes)) for classes in rule.classes], dim=1)
    return torch.stack((sets.any(dim=1).float(), sets.float().mean(dim=1)), dim=1)
