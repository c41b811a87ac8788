"""Not in the paper: a photo registered with the GAN's mean object, whose shape the networks know best.

Objects of a category differ more in where their parts lie in a picture than in how deep these are
(docs/experiments/registration.md). The GAN shows its mean object in any photo's view, light and colours: the first
layers have its latents, the others the photo's. A smooth flow leads from that counterpart to the photo, and along it
goes the mean object's depth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import interpolate

from g2s_cli.estimators.feedforward import FactorNets
from g2s_cli.estimators.gan2shape.steps import MaskedImages, Target, shown
from g2s_cli.estimators.optimize import Fit, going_back, minimise
from g2s_cli.gan.losses import relief_apart
from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.geometry.rasterizer import VIEW_FAR, visible_depth
from g2s_cli.geometry.render import depth_with_rim
from g2s_cli.geometry.resample import blurred, continued
from g2s_cli.geometry.warp import forward_grid, identity_grid, inverse_grid, sample
from g2s_cli.progress import Progress
from g2s_cli.segmentation.gan_features import Segmenter

SHAPE_LAYERS = 3  # of the generator's, that have the mean object's latents
ROUNDS = 3  # of turning and lighting the mean object like the photo's
STEPS = (1.0, 1.0, 0.7, 0.7)  # how much of what rotations x and y, l_x and l_y lack is made up for in a round
MOST = (0.3, 0.3, 0.5, 0.5)  # radians and slants a round

CELLS = (4, 8)  # a flow is the sum of fields enlarged from so many numbers a side
UPDATES, RATE, DECAY = 160, 0.02, 0.985
BLURS_PX = (2, 1)  # of both pictures, in the first two quarters of the updates
STIFFNESS = 0.7  # weight of the flow's squared differences from pixel to pixel
WINDOWS_PX = ((15, 1.0), (7, 2.0))  # pixels are compared without their mean over such squares, with such weights
BRIGHTEN = 0.53

DEEPER = 1.03  # times the moved relief: what is a mean is flatter than what it is a mean of
TRUSTED = 0.2  # distance in those features, means of 5 px, at which a pixel counts 1/e
DEPTH_WEIGHT, SLOPE_WEIGHT = 4.0, 40.0
BACK = 0.5  # the share of its way that D goes back after it was fitted to the depth of one photo

# Objects that latents, one a layer, show: images, 0 outside the object, and masks.
Show = Callable[[Float[Tensor, "b n d"]], MaskedImages]


@dataclass(frozen=True)
class ShapeTemplate:
    """The GAN's mean object.

    depth: what D says of it from all sides, in the mean, in scene units. latent: its w. directions: Δw for a change of
    one in (rotation x, rotation y, l_x, l_y), in radians and slants. parser: what finds it in the GAN's pictures.
    """

    depth: Float[Tensor, "h w"]
    latent: Float[Tensor, d]
    directions: Float[Tensor, "4 d"]
    segmenter: Segmenter


@dataclass(frozen=True)
class Registered:
    """Pictures of which the depth that their camera sees is known, up to its mean.

    images: 0 where there is no object. views: radians and scene units. relief: depth less one, in scene units,
    continued beyond the object. apart: how far the moved counterpart is from the picture, pixel by pixel, in
    `features`.
    """

    images: Float[Tensor, "n 3 h w"]
    masks: Float[Tensor, "n 1 h w"]
    views: Float[Tensor, "n 6"]
    relief: Float[Tensor, "n h w"]
    apart: Float[Tensor, "n h w"]

    def pick(self, index: Int[Tensor, b]) -> Registered:
        """Some of them."""
        return Registered(*(getattr(self, field.name)[index] for field in fields(self)))


@dataclass(frozen=True)
class PosedTemplate:
    """The mean object in pictures, the views they show it from, and its depth in scene units as they show it."""

    shown: MaskedImages
    views: Float[Tensor, "b 6"]
    depth: Float[Tensor, "b h w"]

    @property
    def relief(self) -> Float[Tensor, "b h w"]:
        """The depth less one, which goes on beyond the outline, too, as it began."""
        there = (self.depth < VIEW_FAR).to(self.depth.dtype)
        return torch.cat([continued(each[None] - 1, known) for each, known in zip(self.depth, there, strict=True)])


def registered(
    objects: MaskedImages,
    latents: Float[Tensor, "b d"],
    mean: ShapeTemplate,
    nets: FactorNets,
    layers: int,
    show: Show,
) -> Registered:
    """Objects, of which the latents are known, with the mean object's depth moved to where they have it.

    objects: images are 0 outside the masks. layers: how many latents `show` takes.
    """
    posed = pose_by_view(render_template(objects, latents, mean, nets, layers, show), mean, nets)
    grid = flow(objects, posed.shown)
    with torch.no_grad():
        moved = sample(posed.relief.unsqueeze(1), grid, outside="border")[:, 0]
        return Registered(
            images=objects.image,
            masks=objects.mask,
            views=nets.view_of(objects.image),
            relief=moved * (DEEPER / magnified(grid, objects.mask))[:, None, None],
            apart=residual(objects, posed.shown, grid),
        )


@torch.no_grad()
def render_template(
    objects: MaskedImages,
    latents: Float[Tensor, "b d"],
    mean: ShapeTemplate,
    nets: FactorNets,
    layers: int,
    show: Show,
    turn: float = 1.0,
) -> MaskedImages:
    """The mean object in each one's colours, turned and lit until V and L say of it what they say of the object.

    turn: how much of the objects' turn is asked for.
    """

    def numbers(image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 4"]:
        return torch.cat((nets.view_of(image)[:, :2], nets.light_of(image)[:, 2:]), dim=1)

    asked = numbers(objects.image) * objects.image.new_tensor((turn, turn, 1, 1))
    steps, most = asked.new_tensor(STEPS), asked.new_tensor(MOST)
    change = torch.zeros_like(asked)
    own = latents[:, None].expand(-1, layers - SHAPE_LAYERS, -1)

    def changed() -> MaskedImages:
        shape = (mean.latent + change @ mean.directions)[:, None].expand(-1, SHAPE_LAYERS, -1)
        return show(torch.cat((shape, own), dim=1))

    for _ in range(ROUNDS):
        lacking = (asked - numbers(changed().image)) * steps
        change = change + lacking.clamp(-most, most)
    return changed()


@torch.no_grad()
def pose_by_view(others: MaskedImages, mean: ShapeTemplate, nets: FactorNets) -> PosedTemplate:
    """The mean object as the GAN shows it, and its relief from where V says that is."""
    views = nets.view_of(others.image)
    return PosedTemplate(others, views, visible_depth(mean.depth.expand(len(views), -1, -1), views, nets.camera))


@torch.no_grad()
def pose_template(others: MaskedImages, objects: MaskedImages, mean: ShapeTemplate, nets: FactorNets) -> PosedTemplate:
    """The mean object's picture laid on its relief, and that seen from where V says of it what it says of the objects.

    One correction: of such pictures V says too little, as of all.
    """
    camera, relief = nets.camera, mean.depth.expand(len(others.image), -1, -1)
    maps = torch.cat((others.image, others.mask), dim=1)
    laid = sample(maps, forward_grid(relief, nets.view_of(others.image), camera), outside="border")

    def seen_from(views: Float[Tensor, "b 6"]) -> PosedTemplate:
        depth = depth_with_rim(relief, views, camera)
        found = sample(laid, inverse_grid(depth, views, camera), outside="border")
        mask = ((found[:, 3:] > 0.5) & (depth < VIEW_FAR).unsqueeze(1)).to(found.dtype)
        return PosedTemplate(MaskedImages(found[:, :3] * mask, mask), views, depth)

    said = nets.view_of(objects.image)
    return seen_from(2 * said - nets.view_of(seen_from(said).shown.image))


def flow(objects: MaskedImages, others: MaskedImages) -> Float[Tensor, "b h w 2"]:
    """Where in the other pictures the pixels of objects lie: grids for `sample`, smooth and near the identity."""
    size, count, device = objects.image.shape[-1], len(objects.image), objects.image.device
    still, wanted, found = identity_grid(size, device), features(objects), features(others)
    inside = objects.mask / objects.mask.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    parts = [torch.zeros(count, 2, cells, cells, device=device, requires_grad=True) for cells in CELLS]
    adam = torch.optim.Adam(
        [{"params": [part], "lr": RATE / (1 + level)} for level, part in enumerate(parts)], betas=(0.8, 0.98)
    )
    decay = torch.optim.lr_scheduler.ExponentialLR(adam, DECAY)
    for update in range(UPDATES):
        quarter = 4 * update // UPDATES
        blur = BLURS_PX[quarter] if quarter < len(BLURS_PX) else 0
        change = _enlarged(parts, size)
        moved = sample(blurred(found, blur), still + change.permute(0, 2, 3, 1))
        apart = ((moved - blurred(wanted, blur)).abs().mean(dim=1, keepdim=True) * inside).sum()
        strain = sum((change.diff(dim=dim) * (size - 1) / 2).square().mean(dim=(1, 2, 3)).sum() for dim in (-1, -2))
        adam.zero_grad()
        (apart + STIFFNESS * strain).backward()
        adam.step()
        decay.step()
    return still + _enlarged(parts, size).detach().permute(0, 2, 3, 1)


def residual(objects: MaskedImages, others: MaskedImages, grid: Float[Tensor, "b h w 2"]) -> Float[Tensor, "b h w"]:
    """How far the other pictures, moved along a flow, are from the objects: means of what is compared, over 5 px."""
    apart = (sample(features(others), grid) - features(objects)).abs().mean(dim=1, keepdim=True)
    return blurred(apart, 2)[:, 0]


def features(shown: MaskedImages) -> Float[Tensor, "b c h w"]:
    """What of pictures is compared: logarithms less their means around, which hardly know light, and the outline."""
    light = logarithm(shown.image) * shown.mask
    found = []
    for window, weight in WINDOWS_PX:
        around, inside = blurred(light, window // 2), blurred(shown.mask, window // 2)
        found.append(weight * (light - around / inside.clamp(min=1e-3)) * shown.mask)
    return torch.cat((*found, shown.mask), dim=1)


def logarithm(image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Nearly the logarithm of the light that pixels stand for."""
    return (image / 2 + BRIGHTEN).log()


def magnified(grid: Float[Tensor, "b h w 2"], mask: Float[Tensor, "b 1 h w"]) -> Float[Tensor, " b"]:
    """How much larger the other picture has what lies in the mask. What is larger is deeper, too."""
    pixels, inside = grid * (grid.shape[1] - 1) / 2, mask[:, 0, 1:, 1:]
    wide, high = pixels[..., 0].diff(dim=2)[:, 1:], pixels[..., 1].diff(dim=1)[:, :, 1:]
    area = inside.sum(dim=(1, 2)).clamp(min=1)
    stretch = ((wide * inside).sum(dim=(1, 2)) / area) * ((high * inside).sum(dim=(1, 2)) / area)
    return stretch.clamp(min=0.5).sqrt()


def misplacing(nets: FactorNets, asked: Registered) -> dict[str, Float[Tensor, ""]]:
    """How far what D says of registered pictures is from their depth, as their camera sees it; terms that add up."""
    seen = visible_depth(nets.depth_of(asked.images), asked.views, nets.camera)
    return misplaced(seen, asked)


def misplaced(seen: Float[Tensor, "b h w"], asked: Registered) -> dict[str, Float[Tensor, ""]]:
    """The distance of depths from those asked for, whose mean does not count, and of their slopes."""
    trust = well_inside(asked.masks, seen) * (-asked.apart / TRUSTED).exp()
    depth, slope = relief_apart(seen - 1 - asked.relief, trust)
    return {"place": DEPTH_WEIGHT * depth, "place's slopes": SLOPE_WEIGHT * slope}


def well_inside(masks: Float[Tensor, "b 1 h w"], seen: Float[Tensor, "b h w"]) -> Float[Tensor, "b h w"]:
    """1 where masks and depths have something to see, and so do all eight pixels around."""
    there = masks * (seen < VIEW_FAR).unsqueeze(1)
    return (blurred(there, 1)[:, 0] > 0.99).to(seen.dtype)


def match(
    nets: FactorNets, generator: Generator, target: Target, mean: ShapeTemplate, progress: Progress, *, masked: bool
) -> Registered:
    """The photo registered. masked: whether it is 0 outside its object."""
    progress.begin("match", 1)
    show = showing(generator, target, mean, masked=masked)
    found = registered(target.alone, target.latent[None], mean, nets, generator.layers, show)
    progress.advance(1, found.apart.mean().item())
    return found


def showing(generator: Generator, target: Target, mean: ShapeTemplate, *, masked: bool) -> Show:
    """What a GAN shows beside a photo. masked: whether the photo is 0 outside its object."""
    # The mean object's parser, whatever found the photo's: a mask of the user's knows this photo alone.
    segmenter = mean.segmenter if masked else None
    return lambda latents: shown(generator, latents, target.center_crop, segmenter).bare


def fit_registered(nets: FactorNets, asked: Registered, settings: Fit, progress: Progress) -> None:
    """Change D until it says the depth that registering found, and go part of the way back."""

    def loss() -> Iterator[Tensor]:
        yield torch.stack(list(misplacing(nets, asked).values())).sum()

    with going_back(nets.parameters("depth"), BACK):
        minimise(loss, nets.parameters("depth"), settings, "register", progress)


def _enlarged(parts: list[Float[Tensor, "b 2 _ _"]], size: int) -> Float[Tensor, "b 2 h w"]:
    whole = [interpolate(part, (size, size), mode="bicubic", align_corners=True) for part in parts]
    return torch.stack(whole).sum(dim=0)
