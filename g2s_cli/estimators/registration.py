"""Dense registration of a photo with the category's template (not in the paper).

The GAN renders its mean object in the photo's view, light and colours: the first layers get the mean object's latent,
the others the photo's. A smooth optical flow leads from there to the photo.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from g2s_cli.estimators.base import MaskedImages
from g2s_cli.estimators.feedforward import FactorNets
from g2s_cli.estimators.optimize import anneal
from g2s_cli.geometry.rasterizer import has_surface
from g2s_cli.geometry.render import render_depth_with_margin
from g2s_cli.geometry.resample import box_blur
from g2s_cli.geometry.warp import forward_grid, grid_sample, identity_grid, inverse_grid
from g2s_cli.segmentation.gan_features import Segmenter

SHAPE_LAYERS = 3  # of the generator, that get the mean object's latent
ROUNDS = 3  # of correcting the template's view and light
GAINS = (1.0, 1.0, 0.7, 0.7)  # of a round's corrections of rotations x, y and of l_x, l_y
LARGEST = (0.3, 0.3, 0.5, 0.5)  # corrections of a round, radians and slants

CELLS = (4, 8)  # control points a side; a flow is the sum of their upsampled displacements
ITERATIONS, RATE, DECAY = 160, 0.02, 0.985
BLURS_PX = (2, 1)  # of both images in the first two quarters of the iterations
STIFFNESS = 0.7  # weight of the flow's squared gradients
WINDOWS_PX = ((15, 1.0), (7, 2.0))  # of the local means that features are free of, with the features' weights
BRIGHTEN = 0.53  # before the logarithm

# Renders latents, one a layer: images, 0 outside the object, and masks.
Render = Callable[[Float[Tensor, "b n d"]], MaskedImages]


@dataclass(frozen=True)
class ShapeTemplate:
    """The GAN's mean object.

    Attributes:
        depth: canonical depth, the mean of D's over many views, scene units.
        latent: its w.
        directions: Δw for a change of one in (rotation x, rotation y, l_x, l_y), radians and slants.
        segmenter: finds it in the GAN's images.
    """

    depth: Float[Tensor, "h w"]
    latent: Float[Tensor, d]
    directions: Float[Tensor, "4 d"]
    segmenter: Segmenter


@dataclass(frozen=True)
class PosedTemplate:
    """The template in images, the views it is seen from, and its depth there in scene units."""

    images: MaskedImages
    views: Float[Tensor, "b 6"]
    depth: Float[Tensor, "b h w"]


@torch.no_grad()
def render_template(
    objects: MaskedImages,
    latents: Float[Tensor, "b d"],
    template: ShapeTemplate,
    nets: FactorNets,
    layers: int,
    render: Render,
    view_share: float = 1.0,
) -> MaskedImages:
    """The GAN's images of the template in each object's colours, view and light.

    View and light are corrected until V and L see in the template what they see in the object.

    Args:
        objects: images, 0 outside their masks.
        layers: of the generator.
        view_share: how much of the objects' rotation is wanted.
    """

    def view_and_light(image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 4"]:
        return torch.cat((nets.view_of(image)[:, :2], nets.light_of(image)[:, 2:]), dim=1)

    target = view_and_light(objects.image) * objects.image.new_tensor((view_share, view_share, 1, 1))
    gains, largest = target.new_tensor(GAINS), target.new_tensor(LARGEST)
    change = torch.zeros_like(target)
    colours = latents[:, None].expand(-1, layers - SHAPE_LAYERS, -1)

    def rendered() -> MaskedImages:
        shape = (template.latent + change @ template.directions)[:, None].expand(-1, SHAPE_LAYERS, -1)
        return render(torch.cat((shape, colours), dim=1))

    for _ in range(ROUNDS):
        error = (target - view_and_light(rendered().image)) * gains
        change = change + error.clamp(-largest, largest)
    return rendered()


@torch.no_grad()
def pose_template(
    rendered: MaskedImages, objects: MaskedImages, template: ShapeTemplate, nets: FactorNets
) -> PosedTemplate:
    """The template's image mapped onto its depth and seen from the objects' views.

    V underestimates the rotation of such images, so the view is corrected once by what V sees in the first rendering.
    """
    camera, depth = nets.camera, template.depth.expand(len(rendered.image), -1, -1)
    maps = torch.cat((rendered.image, rendered.mask), dim=1)
    texture = grid_sample(maps, forward_grid(depth, nets.view_of(rendered.image), camera), padding_mode="border")

    def seen_from(views: Float[Tensor, "b 6"]) -> PosedTemplate:
        visible = render_depth_with_margin(depth, views, camera)
        warped = grid_sample(texture, inverse_grid(visible, views, camera), padding_mode="border")
        mask = ((warped[:, 3:] > 0.5) & has_surface(visible).unsqueeze(1)).to(warped.dtype)
        return PosedTemplate(MaskedImages(warped[:, :3] * mask, mask), views, visible)

    views = nets.view_of(objects.image)
    return seen_from(2 * views - nets.view_of(seen_from(views).images.image))


def optical_flow(objects: MaskedImages, others: MaskedImages) -> Float[Tensor, "b h w 2"]:
    """Smooth flow from objects to other images: grids for `grid_sample`, near the identity."""
    size, count, device = objects.image.shape[-1], len(objects.image), objects.image.device
    identity, target, moving = identity_grid(size, device), features(objects), features(others)
    weights = objects.mask / objects.mask.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    controls = [torch.zeros(count, 2, cells, cells, device=device, requires_grad=True) for cells in CELLS]
    rates = {control: RATE / (1 + level) for level, control in enumerate(controls)}

    def loss(iteration: int) -> Tensor:
        quarter = 4 * iteration // ITERATIONS
        blur = BLURS_PX[quarter] if quarter < len(BLURS_PX) else 0
        change = _upsampled(controls, size)
        warped = grid_sample(box_blur(moving, blur), identity + change.permute(0, 2, 3, 1))
        difference = ((warped - box_blur(target, blur)).abs().mean(dim=1, keepdim=True) * weights).sum()
        strain = sum((change.diff(dim=dim) * (size - 1) / 2).square().mean(dim=(1, 2, 3)).sum() for dim in (-1, -2))
        return difference + STIFFNESS * strain

    anneal(loss, rates, ITERATIONS, DECAY)
    return identity + _upsampled(controls, size).detach().permute(0, 2, 3, 1)


def residual(objects: MaskedImages, others: MaskedImages, grid: Float[Tensor, "b h w 2"]) -> Float[Tensor, "b h w"]:
    """Absolute difference of features after the flow, averaged over 5 px."""
    difference = (grid_sample(features(others), grid) - features(objects)).abs().mean(dim=1, keepdim=True)
    return box_blur(difference, 2)[:, 0]


def features(images: MaskedImages) -> Float[Tensor, "b c h w"]:
    """What of images is compared: log brightness less its local means, which hardly depends on light, and the mask."""
    log_image = log_brightness(images.image) * images.mask
    maps = []
    for window, weight in WINDOWS_PX:
        around, inside = box_blur(log_image, window // 2), box_blur(images.mask, window // 2)
        maps.append(weight * (log_image - around / inside.clamp(min=1e-3)) * images.mask)
    return torch.cat((*maps, images.mask), dim=1)


def log_brightness(image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Logarithm of the brightness of images in [-1, 1], lifted off zero."""
    return (image / 2 + BRIGHTEN).log()


def _upsampled(controls: list[Float[Tensor, "b 2 _ _"]], size: int) -> Float[Tensor, "b 2 h w"]:
    maps = [interpolate(control, (size, size), mode="bicubic", align_corners=True) for control in controls]
    return torch.stack(maps).sum(dim=0)
