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
from g2s_cli.estimators.morphable_model import MorphableModel, nuisance
from g2s_cli.estimators.registration import (
    BRIGHTEN,
    TRUSTED,
    PosedTemplate,
    ShapeTemplate,
    Show,
    flow,
    logarithm,
    pose_template,
    render_template,
    residual,
    showing,
)
from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.geometry.camera import Camera, back_project, project, to_view
from g2s_cli.geometry.normals import normals_of, to_the_rim
from g2s_cli.geometry.rasterizer import depth_of_points, visible_depth
from g2s_cli.geometry.render import RIM_SHARE
from g2s_cli.geometry.shading import diffuse_shading, shading_of, specular_shading
from g2s_cli.geometry.sharpen import stepped
from g2s_cli.geometry.warp import identity_grid, sample, to_grid
from g2s_cli.progress import Progress

# How much of a photo's turn the GAN does; the mean object's relief does the rest. Turned all the way, the GAN's picture
# lies up to two pixels beside the relief.
HALF_TURN = 0.5
# Standard deviations of what views lack: rotations x, y and z in radians, translations in scene units.
VIEW_DEVIATIONS = (0.0525, 0.0525, 0.039, 0.012, 0.012, 0.03)
ALBEDO_SPREAD = 2.0  # times the model's looks, which are kept as the GAN's faces have them: photos' differ more
COLOUR_DEVIATION = 0.1  # of a photo's log brightness in each colour, beyond what the looks' factors have
FLOW_DEVIATION = 0.3 / 64  # of a flow, in shares of the side; what is wrong of it is wrong of whole regions ...
FLOW_WEIGHT = 0.01  # ... so a pixel of it counts so much
COUNTED = 0.2  # of every pixel: its neighbours are wrong as it is
UPDATES, DECAY = 240, 0.9855
RATES = {"shape": 0.1, "view": 0.1, "light": 0.04, "colour": 0.04, "albedo": 0.2, "specular": 0.1}
USUAL_SPECULAR, SPECULAR_SPREAD = 0.06, 1.0  # the median of highlights' strength, and the deviation of its logarithm
LEAST_SHADING = 0.05
LIFT = BRIGHTEN - 0.5  # what `logarithm` adds to light
INSIDE = 0.95  # of a mask: a point there is an object's
OCCLUDED_BEYOND = 0.006  # scene units behind what is seen: a point so far behind is not seen
ROUNDS = 15  # of turning a flow around


@dataclass(frozen=True)
class Correspondences:
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
class Coefficients:
    """What explains pictures: amounts of the shape's factors, view's deviations, light, colours, looks and gloss."""

    shape: Float[Tensor, "b k"]
    view: Float[Tensor, "b 6"]
    light: Float[Tensor, "b 4"]
    colour: Float[Tensor, "b 3"]
    albedo: Float[Tensor, "b l"]
    specular: Float[Tensor, "b 1"]


@dataclass(frozen=True)
class MorphableFit:
    """What pictures show, as a model has it.

    depth: in scene units, 1.2 where nothing is seen. gloss: how strong highlights are, of reflectance 1.
    """

    depth: Float[Tensor, "b h w"]
    specular: Float[Tensor, b]


def correspond_to_template(
    objects: MaskedImages, latents: Float[Tensor, "b d"], mean: ShapeTemplate, nets: FactorNets, layers: int, show: Show
) -> Correspondences:
    """Objects, of which the latents are known, observed beside the mean object as the GAN and its relief turn it.

    objects: images are 0 outside the masks. layers: how many latents `show` takes.
    """
    others = render_template(objects, latents, mean, nets, layers, show, HALF_TURN)
    with torch.no_grad():
        lights = nets.light_of(objects.image)
    return correspond(objects, pose_template(others, objects, mean, nets), lights, mean.depth, nets.camera)


@torch.no_grad()
def correspond(
    objects: MaskedImages,
    posed: PosedTemplate,
    lights: Float[Tensor, "b 4"],
    relief: Float[Tensor, "h w"],
    camera: Camera,
) -> Correspondences:
    """Objects, with the mean object laid beside them in nearly their views: the flow between, and what it tells.

    posed: the mean object in the objects' colours. lights: of the objects. relief: the mean object's canonical depth.
    """
    views = posed.views
    with torch.enable_grad():
        grid = flow(objects, posed.shown)
    apart = residual(objects, posed.shown, grid).unsqueeze(1)
    points = to_view(back_project(relief[None], camera).expand(len(views), -1, -1, -1), views, camera)
    pixels = project(points, camera)
    found = _pixels_shown(grid, pixels, camera)
    front = visible_depth(relief.expand(len(views), -1, -1), views, camera)
    plain = (points[..., 2] - sample_at_pixels(front.unsqueeze(1), pixels, camera)[:, 0]).abs() < OCCLUDED_BEYOND
    plain = plain & (sample_at_pixels(objects.mask, found, camera)[:, 0] > INSIDE)
    plain = plain & (sample_at_pixels(posed.shown.mask, pixels, camera)[:, 0] > INSIDE)
    return Correspondences(
        logarithm=logarithm(objects.image),
        relief=relief,
        views=views,
        lights=lights,
        found=found,
        weights=plain.to(apart.dtype) * (-sample_at_pixels(apart, found, camera)[:, 0] / TRUSTED).exp(),
    )


def fit_morphable(
    nets: FactorNets,
    generator: Generator,
    target: Target,
    mean: ShapeTemplate,
    shapes: MorphableModel,
    progress: Progress,
    *,
    masked: bool,
    steps: float = 1.0,
) -> MorphableFit:
    """The photo's depth, had from the mean object alone.

    masked: whether the photo is 0 outside its object. steps: ramps of the mean object below this share of its height
    are read as steps.
    """
    progress.begin("explain", UPDATES)
    photo, camera = target.alone, nets.camera
    show = showing(generator, target, mean, masked=masked)
    seen = correspond_to_template(photo, target.latent[None], mean, nets, generator.layers, show)
    coeffs = fit_coefficients(shapes, seen, camera, begun(shapes, seen), UPDATES, DECAY)
    progress.advance(UPDATES, seen.weights.mean().item())
    read = sharpen_template(shapes, seen.relief, camera, steps)
    return render_fit(read, seen, camera, debias(shapes, seen, coeffs))


def begun(model: MorphableModel, seen: Correspondences) -> Coefficients:
    """The mean object, where the networks have it."""
    count, like = len(seen.views), seen.logarithm
    sizes = {
        "shape": model.shape_basis.shape[-1],
        "view": 6,
        "colour": 3,
        "albedo": model.albedo_basis.shape[-1],
        "specular": 1,
    }
    return Coefficients(
        light=seen.lights.clone(), **{name: like.new_zeros(count, size) for name, size in sizes.items()}
    )


def fit_coefficients(
    model: MorphableModel, seen: Correspondences, camera: Camera, coeffs: Coefficients, updates: int, decay: float
) -> Coefficients:
    """The codes that explain pictures best, a priori likely ones first; each picture's by itself."""
    values = {field.name: getattr(coeffs, field.name).detach().clone() for field in fields(Coefficients)}
    groups = [{"params": [value.requires_grad_()], "lr": RATES[name]} for name, value in values.items()]
    adam = torch.optim.Adam(groups, betas=(0.8, 0.98))
    schedule = torch.optim.lr_scheduler.ExponentialLR(adam, decay)
    for _ in range(updates):
        adam.zero_grad()
        neg_log_posterior(model, seen, camera, Coefficients(**values)).sum().backward()
        adam.step()
        schedule.step()
    return Coefficients(**{name: value.detach() for name, value in values.items()})


def deform(
    model: MorphableModel, seen: Correspondences, camera: Camera, coeffs: Coefficients, margin: int = 0
) -> Float[Tensor, "b v u 3"]:
    """The canonical points as the codes have them. margin: so many more on each side, which go on as the outermost."""
    moves = model.mean + torch.einsum("hwik,bk->bhwi", model.shape_basis, coeffs.shape)
    relief = seen.relief[None, None]
    if margin:
        relief, moves = pad(relief, (margin,) * 4, mode="replicate"), _going_on(moves, margin)
    return back_project(relief[:, 0], camera, margin) + moves


def views_of(seen: Correspondences, coeffs: Coefficients) -> Float[Tensor, "b 6"]:
    """The views of pictures by their codes, in radians and scene units."""
    return seen.views + coeffs.view * seen.views.new_tensor(VIEW_DEVIATIONS)


def residuals(
    model: MorphableModel, seen: Correspondences, camera: Camera, coeffs: Coefficients
) -> tuple[Float[Tensor, "b 3 h w"], Float[Tensor, "b h w 2"]]:
    """What codes leave of the pictures' logarithms, point by point, and the pixels where the points lie."""
    points = deform(model, seen, camera, coeffs)
    views = views_of(seen, coeffs)
    pixels = project(to_view(points, views, camera), camera)
    apart = ALBEDO_SPREAD * torch.einsum("chwl,bl->bchw", model.albedo_basis, coeffs.albedo)
    albedo = model.albedo + apart + coeffs.colour[..., None, None]
    normal = point_normals(points)
    shown = (albedo + log_shading(normal, coeffs.light)).exp() + highlights(
        normal, coeffs.light, views, specular_strength(coeffs)
    )
    return sample_at_pixels(seen.logarithm, pixels, camera) - (shown + LIFT).log(), pixels


def debias(model: MorphableModel, seen: Correspondences, coeffs: Coefficients) -> Coefficients:
    """Codes of shape less what the view and the light of a picture alone make of them, and their mean over pictures.

    Who is in a picture does not depend on where the camera and the light stand, so what codes of many pictures have in
    common with those (`ShapeModel.bias`), the explanation has put there.
    """
    return replace(coeffs, shape=coeffs.shape - nuisance(views_of(seen, coeffs), coeffs.light) @ model.bias)


def sharpen_template(
    model: MorphableModel, relief: Float[Tensor, "h w"], camera: Camera, below: float
) -> MorphableModel:
    """The model with steps for ramps of its mean object, in the part that lies below a share of its height.

    relief: the mean object's canonical depth, without what the model adds.
    """
    depth = back_project(relief[None], camera)[..., 2] + model.mean[None, ..., 2]
    farther = (stepped(depth, camera, below) - depth)[0]
    return replace(model, mean=torch.cat((model.mean[..., :2], (model.mean[..., 2] + farther).unsqueeze(-1)), dim=-1))


@torch.no_grad()
def render_fit(model: MorphableModel, seen: Correspondences, camera: Camera, coeffs: Coefficients) -> MorphableFit:
    """The depth that pictures have by their codes: of the nearest of the moved points' surface, folds and steps too."""
    points = deform(model, seen, camera, coeffs, camera.size // RIM_SHARE)
    depth = depth_of_points(to_view(points, views_of(seen, coeffs), camera), camera)
    return MorphableFit(depth, specular_strength(coeffs))


def neg_log_posterior(
    model: MorphableModel, seen: Correspondences, camera: Camera, coeffs: Coefficients
) -> Float[Tensor, b]:
    """Negative logarithms of the codes' probabilities given the pictures, up to constants."""
    left, pixels = residuals(model, seen, camera, coeffs)
    looks_wrong = (1 + left.square() / model.variance).sqrt() - 1  # robust: half of the square where it is small
    deviation = FLOW_DEVIATION * camera.size
    lies_wrong = FLOW_WEIGHT * (pixels - seen.found).square().sum(dim=-1) / deviation**2
    pictures = COUNTED * (seen.weights * (looks_wrong.sum(dim=1) + lies_wrong / 2)).sum(dim=(1, 2))
    mean, deviations = model.lights
    prior = (
        coeffs.shape.square().sum(dim=1)
        + coeffs.view.square().sum(dim=1)
        + ((coeffs.light - mean) / deviations).square().sum(dim=1)
        + (coeffs.colour / COLOUR_DEVIATION).square().sum(dim=1)
        + coeffs.albedo.square().sum(dim=1)
        + coeffs.specular.square().sum(dim=1)
    )
    return pictures + prior / 2


def point_normals(points: Float[Tensor, "b h w 3"]) -> Float[Tensor, "b h w 3"]:
    """Normals of points that lie on no grid; the outermost have their neighbours'."""
    return to_the_rim(normals_of(points).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def log_shading(normal: Float[Tensor, "b h w 3"], light: Float[Tensor, "b 4"]) -> Float[Tensor, "b 1 h w"]:
    """What shading takes of the logarithm of the light that points send, point by point."""
    return shading_of(diffuse_shading(normal, light), light).clamp(min=LEAST_SHADING).log()


def specular_strength(coeffs: Coefficients) -> Float[Tensor, b]:
    """How strong highlights are, of reflectance 1."""
    return USUAL_SPECULAR * (SPECULAR_SPREAD * coeffs.specular[:, 0]).exp()


def highlights(
    normal: Float[Tensor, "b h w 3"],
    light: Float[Tensor, "b 4"],
    views: Float[Tensor, "b 6"],
    specular: Float[Tensor, b],
) -> Float[Tensor, "b 1 h w"]:
    """What highlights add to pictures, point by point."""
    return (specular[:, None, None] * specular_shading(normal, light, views)).unsqueeze(1)


def sample_at_pixels(
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
        found = pixels - sample_at_pixels(move, found, camera).permute(0, 2, 3, 1)
    return found


def _going_on(points: Float[Tensor, "b h w c"], margin: int) -> Float[Tensor, "b v u c"]:
    """So many more on each side, like the outermost."""
    return pad(points.permute(0, 3, 1, 2), (margin,) * 4, mode="replicate").permute(0, 2, 3, 1)
