"""Losses of D, A, V and L: reconstruction of generated images, and view and light of labelled renderings."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, smooth_l1_loss

from g2s_cli.config import LightRanges
from g2s_cli.estimators.base import MaskedImages
from g2s_cli.estimators.factor_codes import light_from_code, view_from_code
from g2s_cli.estimators.feedforward import Canonical, FactorNets, render_batch
from g2s_cli.estimators.reconstruction import SMOOTHNESS_WEIGHT
from g2s_cli.gan.losses import l1, masked_gradients
from g2s_cli.geometry.camera import Camera
from g2s_cli.geometry.normals import depth_to_normals, smoothness_loss
from g2s_cli.geometry.shading import diffuse_shading, shade
from g2s_cli.geometry.warp import forward_grid, grid_sample, hflip, warp

# Standard deviations of the views of labelled renderings, in network units (`prior.view_from_code`): 8°, 20°, 4°,
# 0.006 scene units to the side and upwards. Wider than the GAN's own, which V does not know at first.
VIEW_STD = (8 / 60, 20 / 60, 4 / 60, 0.06, 0.06, 0.0)
MAX_VIEW = 0.95
AMBIENT, DIFFUSE = (-0.5, 0.4), (-0.3, 0.6)  # ranges of their lights, in network units
VIEW_WEIGHT, VIEW_BETA = 1.0, 0.05  # of the smooth L1 loss
LIGHT_WEIGHT, LIGHT_BETA = 0.3, 0.1
COARSE_PX = 4

Losses = dict[str, Float[Tensor, ""]]  # weighted terms of a sum


def reconstruction_losses(
    canonical: Canonical,
    view: Float[Tensor, "b 6"],
    light: Float[Tensor, "b 4"],
    images: MaskedImages,
    camera: Camera,
    coarse_weight: float,
) -> Losses:
    """The difference of images from their rendered factors inside the masks, and the smoothness of Eq. 3.

    The difference is of pixels, of image gradients, and of means over 4 px, which forgive small displacements.
    """
    rendered = render_batch(canonical, view, light, camera)
    mask = images.mask * rendered.valid.unsqueeze(1)
    difference = rendered.image - images.image
    across, down = masked_gradients(difference, mask)
    return {
        "pixels": l1(rendered.image, images.image, mask),
        "gradients": across.mean() + down.mean(),
        "coarse": coarse_weight * avg_pool2d(difference * mask, COARSE_PX).abs().mean(),
        "smoothness": SMOOTHNESS_WEIGHT * (smoothness_loss(canonical.depth) + smoothness_loss(rendered.diffuse)),
    }


def canonical_of(nets: FactorNets, images: MaskedImages, views: int) -> Canonical:
    """The networks' canonical object of each image. Of `views` consecutive ones the first is the input for all."""
    canonical = nets.canonical(images.image[::views])
    return Canonical(*(maps.repeat_interleave(views, dim=0) for maps in (canonical.depth, canonical.albedo)))


@dataclass(frozen=True)
class LabelledRenderings:
    """Rendered images with their views and lights, in network units."""

    image: Float[Tensor, "b 3 h w"]
    view: Float[Tensor, "b 6"]
    light: Float[Tensor, "b 4"]


@torch.no_grad()
def render_labelled(
    canonical: Canonical,
    view: Float[Tensor, "b 6"],
    mask: Float[Tensor, "b 1 h w"],
    camera: Camera,
    lights: LightRanges,
    rng: torch.Generator,
) -> LabelledRenderings:
    """Render canonical objects from random views in random lights.

    Args:
        view: of the images that the objects were predicted from, in radians and scene units.
        mask: of these images. A point is the object's if it or its mirror image lies inside.
        lights: ranges of l_x and l_y.
    """
    inside = grid_sample(mask, forward_grid(canonical.depth, view, camera))
    view_code, light_code = _random_codes(len(view), lights, rng, mask.device)
    light = light_from_code(light_code)
    texture = shade(canonical.albedo, diffuse_shading(depth_to_normals(canonical.depth, camera), light), light)
    textures = torch.cat((texture, torch.maximum(inside, hflip(inside))), dim=1)
    image, _ = warp(textures, canonical.depth, view_from_code(view_code), camera)
    return LabelledRenderings(image[:, :3].clamp(-1, 1) * (image[:, 3:] > 0.5), view_code, light_code)


def view_light_loss(nets: FactorNets, labelled: LabelledRenderings) -> Losses:
    """Smooth L1 losses of V and L on labelled renderings."""
    view = smooth_l1_loss(nets.view_code(labelled.image), labelled.view, beta=VIEW_BETA)
    light = smooth_l1_loss(nets.light_code(labelled.image), labelled.light, beta=LIGHT_BETA)
    return {"view": VIEW_WEIGHT * view, "light": LIGHT_WEIGHT * light}


def _random_codes(
    count: int, lights: LightRanges, rng: torch.Generator, device: torch.device
) -> tuple[Float[Tensor, "b 6"], Float[Tensor, "b 4"]]:
    view = torch.randn(count, 6, generator=rng) * torch.tensor(VIEW_STD)
    low, high = torch.tensor([AMBIENT, DIFFUSE, lights.x, lights.y]).unbind(dim=1)
    light = low + (high - low) * torch.rand(count, 4, generator=rng)
    return view.clamp(-MAX_VIEW, MAX_VIEW).to(device), light.to(device)
