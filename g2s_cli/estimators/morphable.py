"""Not in the paper: a photo explained by a model of how a category's objects differ, in shape and in look.

A flow says where the mean object's parts lie in a photo, wherever there is something to see: eyes, a mouth, an outline.
Foreheads, cheeks and chins have nothing but their shading. So the mean object's points are moved, along smooth factors
alike in both halves, until the mean object's reflectance under one light explains the photo's pixels, and not far from
where the flow has them. How much each factor varies has been learnt without a label, from random objects of the GAN's
(recipes/synface/shapes.py) and from photos (recipes/synface/refining.py). It is a morphable model (Blanz and Vetter,
SIGGRAPH 1999) of a relief.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from g2s_cli.estimators.feedforward import FactorNets
from g2s_cli.estimators.gan2shape.steps import MaskedImages, Target
from g2s_cli.estimators.morphable_model import ShapeModel, circumstances
from g2s_cli.estimators.registration import (
    BRIGHTEN,
    TRUSTED,
    MeanObject,
    Posed,
    Show,
    counterparts,
    flow,
    logarithm,
    misfit,
    showing,
    turned_on,
)
from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.geometry.camera import Camera, canonical_to_view, project_points, unproject_points
from g2s_cli.geometry.normals import points_to_normals, replicate_border
from g2s_cli.geometry.rasterizer import render_depth, render_grid_depth
from g2s_cli.geometry.shading import diffuse_shading, lambert_shading, specular_shading
from g2s_cli.geometry.sharpen import sharpen_edges
from g2s_cli.geometry.warp import grid_sample, identity_grid, normalize_pixels
from g2s_cli.progress import Progress

# How much of a photo's turn the GAN does; the mean object's relief does the rest. Turned all the way, the GAN's picture
# lies up to two pixels beside the relief.
HALF_TURN = 0.5
# Standard deviations of what views lack: rotations x, y and z in radians, translations in scene units.
VIEW_DEVIATIONS = (0.0525, 0.0525, 0.039, 0.012, 0.012, 0.03)
LOOKS_SPREAD = 2.0  # times the model's looks, which are kept as the GAN's faces have them: photos' differ more
COLOUR_DEVIATION = 0.1  # of a photo's log brightness in each colour, beyond what the looks' factors have
FLOW_DEVIATION = 0.3 / 64  # of a flow, in shares of the side; what is wrong of it is wrong of whole regions ...
FLOW_WEIGHT = 0.01  # ... so a pixel of it counts so much
COUNTED = 0.2  # of every pixel: its neighbours are wrong as it is
UPDATES, DECAY = 240, 0.9855
RATES = {"shape": 0.1, "view": 0.1, "light": 0.04, "colour": 0.04, "look": 0.2, "gloss": 0.1}
USUAL_GLOSS, GLOSS_SPREAD = 0.06, 1.0  # the median of highlights' strength, and the deviation of its logarithm
LEAST_SHADING = 0.05
LIFT = BRIGHTEN - 0.5  # what `logarithm` adds to light
INSIDE = 0.95  # of a mask: a point there is an object's
HIDDEN = 0.006  # scene units behind what is seen: a point so far behind is not seen
ROUNDS = 15  # of turning a flow around


@dataclass(frozen=True)
class Observed:
    """Pictures, and the mean object's points in them: what explaining begins with.

    logarithm: of the pictures. relief: the mean object's canonical depth. views, lights: as networks say them.
    found: the pixels where a flow has the mean object's points. weights: how much each point counts, 0 where it is not
    seen.
    """

    logarithm: Float[Tensor, "b 3 h w"]
    relief: Float[Tensor, "h w"]
    views: Float[Tensor, "b 6"]
    lights: Float[Tensor, "b 4"]
    found: Float[Tensor, "b h w 2"]
    weights: Float[Tensor, "b h w"]


@dataclass(frozen=True)
class Codes:
    """What explains pictures: amounts of the shape's factors, view's deviations, light, colours, looks and gloss."""

    shape: Float[Tensor, "b k"]
    view: Float[Tensor, "b 6"]
    light: Float[Tensor, "b 4"]
    colour: Float[Tensor, "b 3"]
    look: Float[Tensor, "b l"]
    specular: Float[Tensor, "b 1"]


@dataclass(frozen=True)
class Explained:
    """What pictures show, as a model has it.

    depth: in scene units, 1.2 where nothing is seen. gloss: how strong highlights are, of reflectance 1.
    """

    depth: Float[Tensor, "b h w"]
    specular: Float[Tensor, b]


def beside_mean(
    objects: MaskedImages, latents: Float[Tensor, "b d"], mean: MeanObject, nets: FactorNets, layers: int, show: Show
) -> Observed:
    """Objects, of which the latents are known, observed beside the mean object as the GAN and its relief turn it.

    objects: images are 0 outside the masks. layers: how many latents `show` takes.
    """
    others = counterparts(objects, latents, mean, nets, layers, show, HALF_TURN)
    with torch.no_grad():
        lights = nets.light_of(objects.image)
    return observe(objects, turned_on(others, objects, mean, nets), lights, mean.depth, nets.camera)


@torch.no_grad()
def observe(
    objects: MaskedImages,
    posed: Posed,
    lights: Float[Tensor, "b 4"],
    relief: Float[Tensor, "h w"],
    camera: Camera,
) -> Observed:
    """Objects, with the mean object laid beside them in nearly their views: the flow between, and what it tells.

    posed: the mean object in the objects' colours. lights: of the objects. relief: the mean object's canonical depth.
    """
    views = posed.views
    with torch.enable_grad():
        grid = flow(objects, posed.shown)
    apart = misfit(objects, posed.shown, grid).unsqueeze(1)
    points = canonical_to_view(unproject_points(relief[None], camera).expand(len(views), -1, -1, -1), views, camera)
    pixels = project_points(points, camera)
    found = _pixels_shown(grid, pixels, camera)
    front = render_depth(relief.expand(len(views), -1, -1), views, camera)
    plain = (points[..., 2] - at_pixels(front.unsqueeze(1), pixels, camera)[:, 0]).abs() < HIDDEN
    plain = plain & (at_pixels(objects.mask, found, camera)[:, 0] > INSIDE)
    plain = plain & (at_pixels(posed.shown.mask, pixels, camera)[:, 0] > INSIDE)
    return Observed(
        logarithm=logarithm(objects.image),
        relief=relief,
        views=views,
        lights=lights,
        found=found,
        weights=plain.to(apart.dtype) * (-at_pixels(apart, found, camera)[:, 0] / TRUSTED).exp(),
    )


def second_opinion(
    nets: FactorNets,
    generator: Generator,
    target: Target,
    mean: MeanObject,
    shapes: ShapeModel,
    progress: Progress,
    *,
    masked: bool,
    steps: float = 1.0,
) -> Explained:
    """The photo's depth, had from the mean object alone.

    masked: whether the photo is 0 outside its object. steps: ramps of the mean object below this share of its height
    are read as steps.
    """
    progress.begin("explain", UPDATES)
    photo, camera = target.alone, nets.camera
    show = showing(generator, target, mean, masked=masked)
    seen = beside_mean(photo, target.latent[None], mean, nets, generator.layers, show)
    codes = explain(shapes, seen, camera, begun(shapes, seen), UPDATES, DECAY)
    progress.advance(UPDATES, seen.weights.mean().item())
    read = with_steps(shapes, seen.relief, camera, steps)
    return as_explained(read, seen, camera, unbiased(shapes, seen, codes))


def begun(model: ShapeModel, seen: Observed) -> Codes:
    """The mean object, where the networks have it."""
    count, like = len(seen.views), seen.logarithm
    sizes = {"shape": model.factors.shape[-1], "view": 6, "colour": 3, "look": model.looks.shape[-1], "gloss": 1}
    return Codes(light=seen.lights.clone(), **{name: like.new_zeros(count, size) for name, size in sizes.items()})


def explain(model: ShapeModel, seen: Observed, camera: Camera, codes: Codes, updates: int, decay: float) -> Codes:
    """The codes that explain pictures best, a priori likely ones first; each picture's by itself."""
    values = {field.name: getattr(codes, field.name).detach().clone() for field in fields(Codes)}
    groups = [{"params": [value.requires_grad_()], "lr": RATES[name]} for name, value in values.items()]
    adam = torch.optim.Adam(groups, betas=(0.8, 0.98))
    schedule = torch.optim.lr_scheduler.ExponentialLR(adam, decay)
    for _ in range(updates):
        adam.zero_grad()
        unlikely(model, seen, camera, Codes(**values)).sum().backward()
        adam.step()
        schedule.step()
    return Codes(**{name: value.detach() for name, value in values.items()})


def moved_points(
    model: ShapeModel, seen: Observed, camera: Camera, codes: Codes, margin: int = 0
) -> Float[Tensor, "b v u 3"]:
    """The canonical points as the codes have them. margin: so many more on each side, which go on as the outermost."""
    moves = model.mean + torch.einsum("hwik,bk->bhwi", model.factors, codes.shape)
    relief = seen.relief[None, None]
    if margin:
        relief, moves = pad(relief, (margin,) * 4, mode="replicate"), _going_on(moves, margin)
    return unproject_points(relief[:, 0], camera, margin) + moves


def views_of(seen: Observed, codes: Codes) -> Float[Tensor, "b 6"]:
    """The views of pictures by their codes, in radians and scene units."""
    return seen.views + codes.view * seen.views.new_tensor(VIEW_DEVIATIONS)


def left_over(
    model: ShapeModel, seen: Observed, camera: Camera, codes: Codes
) -> tuple[Float[Tensor, "b 3 h w"], Float[Tensor, "b h w 2"]]:
    """What codes leave of the pictures' logarithms, point by point, and the pixels where the points lie."""
    points = moved_points(model, seen, camera, codes)
    views = views_of(seen, codes)
    pixels = project_points(canonical_to_view(points, views, camera), camera)
    apart = LOOKS_SPREAD * torch.einsum("chwl,bl->bchw", model.looks, codes.look)
    look = model.albedo + apart + codes.colour[..., None, None]
    normal = slanted(points)
    shown = (look + log_shading(normal, codes.light)).exp() + highlights(normal, codes.light, views, gloss_of(codes))
    return at_pixels(seen.logarithm, pixels, camera) - (shown + LIFT).log(), pixels


def unbiased(model: ShapeModel, seen: Observed, codes: Codes) -> Codes:
    """Codes of shape less what the view and the light of a picture alone make of them, and their mean over pictures.

    Who is in a picture does not depend on where the camera and the light stand, so what codes of many pictures have in
    common with those (`ShapeModel.bias`), the explanation has put there.
    """
    return replace(codes, shape=codes.shape - circumstances(views_of(seen, codes), codes.light) @ model.bias)


def with_steps(model: ShapeModel, relief: Float[Tensor, "h w"], camera: Camera, below: float) -> ShapeModel:
    """The model with steps for ramps of its mean object, in the part that lies below a share of its height.

    relief: the mean object's canonical depth, without what the model adds.
    """
    depth = unproject_points(relief[None], camera)[..., 2] + model.mean[None, ..., 2]
    farther = (sharpen_edges(depth, camera, below) - depth)[0]
    return replace(model, mean=torch.cat((model.mean[..., :2], (model.mean[..., 2] + farther).unsqueeze(-1)), dim=-1))


@torch.no_grad()
def as_explained(model: ShapeModel, seen: Observed, camera: Camera, codes: Codes) -> Explained:
    """The depth that pictures have by their codes: of the nearest of the moved points' surface, folds and steps too."""
    points = moved_points(model, seen, camera, codes, camera.margin_px)
    depth = render_grid_depth(canonical_to_view(points, views_of(seen, codes), camera), camera)
    return Explained(depth, gloss_of(codes))


def unlikely(model: ShapeModel, seen: Observed, camera: Camera, codes: Codes) -> Float[Tensor, b]:
    """Negative logarithms of the codes' probabilities given the pictures, up to constants."""
    left, pixels = left_over(model, seen, camera, codes)
    looks_wrong = (1 + left.square() / model.variance).sqrt() - 1  # robust: half of the square where it is small
    deviation = FLOW_DEVIATION * camera.size
    lies_wrong = FLOW_WEIGHT * (pixels - seen.found).square().sum(dim=-1) / deviation**2
    pictures = COUNTED * (seen.weights * (looks_wrong.sum(dim=1) + lies_wrong / 2)).sum(dim=(1, 2))
    mean, deviations = model.lights
    prior = (
        codes.shape.square().sum(dim=1)
        + codes.view.square().sum(dim=1)
        + ((codes.light - mean) / deviations).square().sum(dim=1)
        + (codes.colour / COLOUR_DEVIATION).square().sum(dim=1)
        + codes.look.square().sum(dim=1)
        + codes.specular.square().sum(dim=1)
    )
    return pictures + prior / 2


def slanted(points: Float[Tensor, "b h w 3"]) -> Float[Tensor, "b h w 3"]:
    """Normals of points that lie on no grid; the outermost have their neighbours'."""
    return replicate_border(points_to_normals(points).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def log_shading(normal: Float[Tensor, "b h w 3"], light: Float[Tensor, "b 4"]) -> Float[Tensor, "b 1 h w"]:
    """What shading takes of the logarithm of the light that points send, point by point."""
    return lambert_shading(diffuse_shading(normal, light), light).clamp(min=LEAST_SHADING).log()


def gloss_of(codes: Codes) -> Float[Tensor, b]:
    """How strong highlights are, of reflectance 1."""
    return USUAL_GLOSS * (GLOSS_SPREAD * codes.specular[:, 0]).exp()


def highlights(
    normal: Float[Tensor, "b h w 3"],
    light: Float[Tensor, "b 4"],
    views: Float[Tensor, "b 6"],
    specular: Float[Tensor, b],
) -> Float[Tensor, "b 1 h w"]:
    """What highlights add to pictures, point by point."""
    return (specular[:, None, None] * specular_shading(normal, light, views)).unsqueeze(1)


def at_pixels(
    maps: Float[Tensor, "b c h w"], pixels: Float[Tensor, "b v u 2"], camera: Camera
) -> Float[Tensor, "b c v u"]:
    """Maps at pixel coordinates; beyond their border what that has."""
    return grid_sample(maps, normalize_pixels(pixels, camera), padding_mode="border")


def _pixels_shown(
    grid: Float[Tensor, "b h w 2"], pixels: Float[Tensor, "b h w 2"], camera: Camera
) -> Float[Tensor, "b h w 2"]:
    """Where a flow's pictures show what lies at `pixels` of the other ones: the flow's inverse."""
    move = ((grid - identity_grid(camera.size, grid.device)) * camera.centre).permute(0, 3, 1, 2)
    found = pixels
    for _ in range(ROUNDS):
        found = pixels - at_pixels(move, found, camera).permute(0, 2, 3, 1)
    return found


def _going_on(points: Float[Tensor, "b h w c"], margin: int) -> Float[Tensor, "b v u c"]:
    """So many more on each side, like the outermost."""
    return pad(points.permute(0, 3, 1, 2), (margin,) * 4, mode="replicate").permute(0, 2, 3, 1)
