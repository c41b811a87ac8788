"""Not in the paper: a photo explained by a model of how a category's objects differ, in shape and in look.

A flow says where the mean object's parts lie in a photo, wherever there is something to see: eyes, a mouth, an outline.
Foreheads, cheeks and chins have nothing but their shading. So the mean object's points are moved, along smooth factors
alike in both halves, until the mean object's reflectance under one light explains the photo's pixels, and not far from
where the flow has them. How much each factor varies has been learnt from random objects of the GAN's, without a label
(recipes/synface/shapes.py). It is a morphable model (Blanz and Vetter, SIGGRAPH 1999) of a relief.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float
from torch import Tensor

from g2s_cli.method.model import FactorNets
from g2s_cli.method.prior import raw_from_depth
from g2s_cli.method.progress import Watch
from g2s_cli.method.registration import (
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
    well_inside,
)
from g2s_cli.method.shapes import ShapeModel
from g2s_cli.method.stages import Samples, Target
from g2s_cli.nets.stylegan2 import Generator
from g2s_cli.scene.camera import Camera, back_project, project, to_view
from g2s_cli.scene.light import diffuse_shading, shading_of, specular_shading
from g2s_cli.scene.render import depth_with_rim
from g2s_cli.scene.resample import blurred, continued, softened
from g2s_cli.scene.surface import normals_of, to_the_rim
from g2s_cli.scene.visibility import visible_depth
from g2s_cli.scene.warp import forward_grid, identity_grid, inverse_grid, sample, to_grid

# How much of a photo's turn the GAN does; the mean object's relief does the rest. Turned all the way, the GAN's picture
# lies up to two pixels beside the relief.
HALF_TURN = 0.5
# Standard deviations of what views lack: rotations x, y and z in radians, translations in scene units.
VIEW_DEVIATIONS = (0.0525, 0.0525, 0.039, 0.012, 0.012, 0.03)
LOOKS_SPREAD = 2.0  # standard deviations of what the model has: photos' looks differ more than those of the GAN's faces
COLOUR_DEVIATION = 0.1  # of a photo's log brightness in each colour, beyond what the looks' factors have
FLOW_DEVIATION = 0.3 / 64  # of a flow, in shares of the side; what is wrong of it is wrong of whole regions ...
FLOW_WEIGHT = 1 / 30  # ... so a pixel of it counts so much
UPDATES, DECAY = 90, 0.97
RATES = {"shape": 0.05, "view": 0.05, "light": 0.02, "colour": 0.02, "look": 0.1, "gloss": 0.05}
USUAL_GLOSS, GLOSS_SPREAD = 0.06, 1.0  # the median of highlights' strength, and the deviation of its logarithm
LEAST_SHADING = 0.05
INSIDE = 0.95  # of a mask: a point there is an object's
HIDDEN = 0.006  # scene units behind what is seen: a point so far behind is not seen
ROUNDS = 15  # of turning a move of points into a flow to them, or back
STEPS, STEP = 3, 0.6  # of canonical depth towards what a photo is to show


@dataclass(frozen=True)
class Observed:
    """Pictures, and the mean object's points in them: what explaining begins with.

    logarithm: of the pictures. relief: the mean object's canonical depth. views, lights: as networks say them.
    points: the mean object's in these views, in scene units; found: the pixels where a flow has them. weights: how much
    each point counts, 0 where it is not seen. plain: 1 where it is seen. depth: the mean object's, less one, as the
    views show it, continued beyond it.
    """

    logarithm: Float[Tensor, "b 3 h w"]
    relief: Float[Tensor, "h w"]
    views: Float[Tensor, "b 6"]
    lights: Float[Tensor, "b 4"]
    points: Float[Tensor, "b h w 3"]
    found: Float[Tensor, "b h w 2"]
    weights: Float[Tensor, "b h w"]
    plain: Float[Tensor, "b h w"]
    depth: Float[Tensor, "b h w"]


@dataclass(frozen=True)
class Codes:
    """What explains pictures: amounts of the shape's factors, view's deviations, light, colours, looks and gloss."""

    shape: Float[Tensor, "b k"]
    view: Float[Tensor, "b 6"]
    light: Float[Tensor, "b 4"]
    colour: Float[Tensor, "b 3"]
    look: Float[Tensor, "b l"]
    gloss: Float[Tensor, "b 1"]


@dataclass(frozen=True)
class Explained:
    """What pictures show, as a model has it.

    relief: their depth, less one, in scene units. known: how much of what each pixel shows the model has seen (0 to 1).
    gloss: how strong highlights are, of reflectance 1.
    """

    relief: Float[Tensor, "b h w"]
    known: Float[Tensor, "b h w"]
    gloss: Float[Tensor, b]


def beside_mean(
    objects: Samples, latents: Float[Tensor, "b d"], mean: MeanObject, nets: FactorNets, layers: int, show: Show
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
    objects: Samples,
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
    points = to_view(back_project(relief[None], camera).expand(len(views), -1, -1, -1), views, camera)
    pixels = project(points, camera)
    found = _pixels_shown(grid, pixels, camera)
    front = visible_depth(relief.expand(len(views), -1, -1), views, camera)
    plain = (points[..., 2] - at_pixels(front.unsqueeze(1), pixels, camera)[:, 0]).abs() < HIDDEN
    plain = plain & (at_pixels(objects.mask, found, camera)[:, 0] > INSIDE)
    plain = plain & (at_pixels(posed.shown.mask, pixels, camera)[:, 0] > INSIDE)
    plain = plain.to(apart.dtype)
    return Observed(
        logarithm=logarithm(objects.image),
        relief=relief,
        views=views,
        lights=lights,
        points=points,
        found=found,
        weights=plain * (-at_pixels(apart, found, camera)[:, 0] / TRUSTED).exp(),
        plain=plain,
        depth=posed.relief,
    )


def second_opinion(
    nets: FactorNets,
    generator: Generator,
    target: Target,
    mean: MeanObject,
    shapes: ShapeModel,
    watch: Watch,
    *,
    masked: bool,
) -> Explained:
    """The photo's depth, had from the mean object alone. masked: whether the photo is 0 outside its object."""
    watch.begin("explain", UPDATES)
    photo, camera = target.alone, nets.camera
    show = showing(generator, target, mean, masked=masked)
    seen = beside_mean(photo, target.latent[None], mean, nets, generator.layers, show)
    codes = explain(shapes, seen, camera, begun(shapes, seen), UPDATES, DECAY)
    watch.advance(UPDATES, seen.weights.mean().item())
    return as_explained(shapes, seen, camera, codes)


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


def moved_points(model: ShapeModel, seen: Observed, camera: Camera, codes: Codes) -> Float[Tensor, "b h w 3"]:
    """The canonical points as the codes have them."""
    still = back_project(seen.relief[None], camera)
    return still + model.mean + torch.einsum("hwik,bk->bhwi", model.factors, codes.shape)


def left_over(
    model: ShapeModel, seen: Observed, camera: Camera, codes: Codes
) -> tuple[Float[Tensor, "b 3 h w"], Float[Tensor, "b h w 2"], Float[Tensor, "b h w 3"]]:
    """What codes leave of the pictures' logarithms, point by point; where the points lie; and their places in view."""
    points = moved_points(model, seen, camera, codes)
    views = seen.views + codes.view * seen.views.new_tensor(VIEW_DEVIATIONS)
    placed = to_view(points, views, camera)
    pixels = project(placed, camera)
    apart = LOOKS_SPREAD * torch.einsum("chwl,bl->bchw", model.looks, codes.look)
    look = model.albedo + apart + codes.colour[..., None, None]
    normal = slanted(points)
    shown = (look + log_shading(normal, codes.light)).exp() + highlights(normal, codes.light, views, gloss_of(codes))
    return at_pixels(seen.logarithm, pixels, camera) - shown.log(), pixels, placed


@torch.no_grad()
def as_explained(model: ShapeModel, seen: Observed, camera: Camera, codes: Codes) -> Explained:
    """The depth that pictures have by their codes."""
    _, pixels, placed = left_over(model, seen, camera, codes)
    looking = inverse_grid(seen.depth + 1, seen.views, camera)
    move = sample((pixels - project(seen.points, camera)).permute(0, 3, 1, 2), looking, outside="border")
    deeper = sample((placed - seen.points)[..., 2].unsqueeze(1), looking, outside="border")
    known = sample(seen.plain.unsqueeze(1), looking, outside="border")
    # A pixel shows what came to it: g(p) = p - move(g(p)).
    still = identity_grid(camera.size, move.device).expand(len(move), -1, -1, -1)
    grid = still
    for _ in range(ROUNDS):
        grid = still - sample(move, grid, outside="border").permute(0, 2, 3, 1) / camera.centre
    maps = torch.cat((seen.depth.unsqueeze(1) + deeper, known), dim=1)
    relief, share = sample(maps, grid, outside="border").unbind(dim=1)
    return Explained(relief, softened(share.unsqueeze(1), 1)[:, 0], gloss_of(codes))


@torch.no_grad()
def agreeing(nets: FactorNets, photo: Samples, other: Explained, share: float) -> FactorNets:
    """The networks with a mean shape of this photo's own: what they show of it goes part of the way to another depth.

    photo: one. Where all of the depth is does not count, nor what the other one has not seen.
    """
    camera, view, begin = nets.camera, nets.view_of(photo.image), nets.depth_of(photo.image)
    depth, asked = begin, None
    for _ in range(STEPS):
        seen = depth_with_rim(depth, view, camera)
        there = well_inside(photo.mask, seen)
        if asked is None:
            asked = seen + share * other.known * _centred(other.relief + 1 - seen, there * other.known)
        lacking = there * _centred(asked - seen, there)
        smooth = blurred(lacking[None], 1) / blurred(there[None], 1).clamp(min=1e-6)
        whole = continued(smooth[0], there[0])
        depth = depth + STEP * sample(whole[None], forward_grid(depth, view, camera), outside="border")[:, 0]
    own = raw_from_depth(depth, camera) - raw_from_depth(begin, camera)
    return replace(nets, base=own[0] if nets.base is None else nets.base + own[0])


def unlikely(model: ShapeModel, seen: Observed, camera: Camera, codes: Codes) -> Float[Tensor, b]:
    """Negative logarithms of the codes' probabilities given the pictures, up to constants."""
    left, pixels, _ = left_over(model, seen, camera, codes)
    looks_wrong = (1 + left.square() / model.variance).sqrt() - 1  # robust: half of the square where it is small
    deviation = FLOW_DEVIATION * camera.size
    lies_wrong = FLOW_WEIGHT * (pixels - seen.found).square().sum(dim=-1) / deviation**2
    pictures = (seen.weights * (looks_wrong.sum(dim=1) + lies_wrong / 2)).sum(dim=(1, 2))
    mean, deviations = model.lights
    prior = (
        codes.shape.square().sum(dim=1)
        + codes.view.square().sum(dim=1)
        + ((codes.light - mean) / deviations).square().sum(dim=1)
        + (codes.colour / COLOUR_DEVIATION).square().sum(dim=1)
        + codes.look.square().sum(dim=1)
        + codes.gloss.square().sum(dim=1)
    )
    return pictures + prior / 2


def slanted(points: Float[Tensor, "b h w 3"]) -> Float[Tensor, "b h w 3"]:
    """Normals of points that lie on no grid; the outermost have their neighbours'."""
    return to_the_rim(normals_of(points).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def log_shading(normal: Float[Tensor, "b h w 3"], light: Float[Tensor, "b 4"]) -> Float[Tensor, "b 1 h w"]:
    """What light takes of the logarithms of pictures, point by point."""
    return shading_of(diffuse_shading(normal, light), light).clamp(min=LEAST_SHADING).log()


def gloss_of(codes: Codes) -> Float[Tensor, b]:
    """How strong highlights are, of reflectance 1."""
    return USUAL_GLOSS * (GLOSS_SPREAD * codes.gloss[:, 0]).exp()


def highlights(
    normal: Float[Tensor, "b h w 3"], light: Float[Tensor, "b 4"], views: Float[Tensor, "b 6"], gloss: Float[Tensor, b]
) -> Float[Tensor, "b 1 h w"]:
    """What highlights add to pictures, point by point."""
    return (gloss[:, None, None] * specular_shading(normal, light, views)).unsqueeze(1)


def at_pixels(
    maps: Float[Tensor, "b c h w"], pixels: Float[Tensor, "b v u 2"], camera: Camera
) -> Float[Tensor, "b c v u"]:
    """Maps at pixel coordinates; beyond their border what that has."""
    return sample(maps, to_grid(pixels, camera), outside="border")


def _pixels_shown(
    grid: Float[Tensor, "b h w 2"], pixels: Float[Tensor, "b h w 2"], camera: Camera
) -> Float[Tensor, "b h w 2"]:
    """Where a flow's pictures show what lies at `pixels` of the other ones: the flow's inverse."""
    move = ((grid - identity_grid(camera.size, grid.device)) * camera.centre).permute(0, 3, 1, 2)
    found = pixels
    for _ in range(ROUNDS):
        found = pixels - at_pixels(move, found, camera).permute(0, 2, 3, 1)
    return found


def _centred(maps: Float[Tensor, "1 h w"], weights: Float[Tensor, "1 h w"]) -> Float[Tensor, "1 h w"]:
    return maps - (maps * weights).sum() / weights.sum().clamp(min=1)
