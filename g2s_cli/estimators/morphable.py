"""MAP fit of the morphable model to a photo: shape, pose, light, albedo and specular strength (not in the paper).

Optical flow from the template says where eyes, mouth and outline lie; foreheads and cheeks have nothing but their
shading. So the template's points are displaced until shading explains the photo's pixels, near to where the flow has
them, and as likely as possible under the model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from g2s_cli.estimators.base import DepthEstimate, MaskedImages, Observation
from g2s_cli.estimators.feedforward import FactorNets
from g2s_cli.estimators.generate import generate
from g2s_cli.estimators.morphable_model import MorphableModel
from g2s_cli.estimators.optimize import anneal
from g2s_cli.estimators.registration import (
    BRIGHTEN,
    PosedTemplate,
    ShapeTemplate,
    log_brightness,
    optical_flow,
    pose_template,
    render_template,
    residual,
)
from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.geometry.camera import Camera, canonical_to_view, project_points, unproject_points
from g2s_cli.geometry.normals import points_to_normals, replicate_border
from g2s_cli.geometry.rasterizer import has_surface, render_depth, render_grid_depth
from g2s_cli.geometry.shading import diffuse_shading, lambert_shading, specular_shading
from g2s_cli.geometry.warp import grid_sample, identity_grid, normalize_pixels
from g2s_cli.progress import Progress

# How much of a photo's rotation the GAN renders; the template's depth does the rest. Rotated all the way, the GAN's
# image lies up to two pixels beside the depth.
VIEW_SHARE = 0.5
# Standard deviations of the correction of V's view: rotations x, y, z in radians, translations in scene units.
VIEW_DEVIATIONS = (0.0525, 0.0525, 0.039, 0.012, 0.012, 0.03)
ALBEDO_SPREAD = 2.0  # photos differ more than the GAN's faces, of which the albedo basis is
COLOUR_DEVIATION = 0.1  # of a photo's log brightness in each colour, beside the albedo basis
FLOW_DEVIATION = 0.3 / 64  # of the flow, in shares of the side; it errs over whole regions, ...
FLOW_WEIGHT = 0.01  # ... so one pixel of it counts this much
PIXEL_WEIGHT = 0.2  # of every pixel: neighbours err together
RESIDUAL_SCALE = 0.2  # of the flow's residual, at which a pixel's weight is 1/e
ITERATIONS, DECAY = 240, 0.9855  # until nothing changes any more; of the learning rates, each iteration
RATES = {"shape": 0.1, "view": 0.1, "light": 0.04, "colour": 0.04, "albedo": 0.2, "specular": 0.1}
USUAL_SPECULAR, SPECULAR_SPREAD = 0.06, 1.0  # median strength, and standard deviation of its logarithm
LEAST_SHADING = 0.05
LIFT = BRIGHTEN - 0.5  # what `log_brightness` adds to brightness
INSIDE = 0.95  # of a mask: the point is the object's
OCCLUDED = 0.006  # scene units behind the visible surface
INVERSION_ROUNDS = 15  # of the flow


@dataclass(frozen=True)
class Correspondences:
    """Photos and the template's points in them: what the fit is given.

    Attributes:
        log_image: log brightness of the photos.
        template: canonical depth.
        views, lights: the networks'.
        pixels: where the flow puts the template's points.
        weights: of each point, 0 where it is not visible.
    """

    log_image: Float[Tensor, "b 3 h w"]
    template: Float[Tensor, "h w"]
    views: Float[Tensor, "b 6"]
    lights: Float[Tensor, "b 4"]
    pixels: Float[Tensor, "b h w 2"]
    weights: Float[Tensor, "b h w"]


@dataclass(frozen=True)
class Coefficients:
    """What is fitted to photos; all but the light are 0 at the prior's mean.

    Attributes:
        shape, albedo: of the bases.
        view: correction of the networks' view, in `VIEW_DEVIATIONS`.
        light: ambient, diffuse, l_x, l_y.
        colour: log gain of each channel.
        specular: of the strength's logarithm.
    """

    shape: Float[Tensor, "b k"]
    view: Float[Tensor, "b 6"]
    light: Float[Tensor, "b 4"]
    colour: Float[Tensor, "b 3"]
    albedo: Float[Tensor, "b l"]
    specular: Float[Tensor, "b 1"]


@dataclass(frozen=True)
class MorphableEstimator:
    """The morphable model, fitted to a photo that is registered with the template.

    Attributes:
        model, template: the category's.
        nets: V and L give the initial view and light.
        generator: renders the template in the photo's colours.
        iterations: of the fit.
        masked: whether observations are 0 outside the object.
    """

    model: MorphableModel
    template: ShapeTemplate
    nets: FactorNets
    generator: Generator
    iterations: int
    masked: bool

    def estimate(self, observation: Observation, progress: Progress) -> DepthEstimate:
        """Depth of the fitted model."""
        progress.begin("morphable fit", self.iterations)
        # The template's segmenter, whatever found the photo's object: a mask of the user's knows this photo alone.
        segmenter = self.template.segmenter if self.masked else None

        def render(latents: Float[Tensor, "b n d"]) -> MaskedImages:
            return generate(self.generator, latents, observation.center_crop, segmenter).masked

        layers, camera = self.generator.layers, self.nets.camera
        correspondences = find_correspondences(
            observation.batch, observation.latent[None], self.template, self.nets, layers, render
        )
        coeffs = initial_coefficients(self.model, correspondences)
        coeffs = fit_coefficients(self.model, correspondences, camera, coeffs, self.iterations, DECAY)
        progress.advance(self.iterations, correspondences.weights.mean().item())
        depth = render_fit(self.model, correspondences, camera, coeffs)[0]
        return DepthEstimate(depth, has_surface(depth).float())


def find_correspondences(
    objects: MaskedImages,
    latents: Float[Tensor, "b d"],
    template: ShapeTemplate,
    nets: FactorNets,
    layers: int,
    render: Callable[[Float[Tensor, "b n d"]], MaskedImages],
) -> Correspondences:
    """Register objects, 0 outside their masks, with the template. render: shows latents, one for each of `layers`."""
    rendered = render_template(objects, latents, template, nets, layers, render, VIEW_SHARE)
    with torch.no_grad():
        lights = nets.light_of(objects.image)
    posed = pose_template(rendered, objects, template, nets)
    return correspond(objects, posed, lights, template.depth, nets.camera)


@torch.no_grad()
def correspond(
    objects: MaskedImages,
    posed: PosedTemplate,
    lights: Float[Tensor, "b 4"],
    template: Float[Tensor, "h w"],
    camera: Camera,
) -> Correspondences:
    """The template's points in objects, by the flow from there to the template in their views and colours (`posed`)."""
    views = posed.views
    with torch.enable_grad():
        grid = optical_flow(objects, posed.images)
    error = residual(objects, posed.images, grid).unsqueeze(1)
    points = canonical_to_view(unproject_points(template[None], camera).expand(len(views), -1, -1, -1), views, camera)
    rendered = project_points(points, camera)
    pixels = _follow_flow(grid, rendered, camera)
    surface = render_depth(template.expand(len(views), -1, -1), views, camera)
    visible = (points[..., 2] - sample_at_pixels(surface.unsqueeze(1), rendered, camera)[:, 0]).abs() < OCCLUDED
    visible = visible & (sample_at_pixels(objects.mask, pixels, camera)[:, 0] > INSIDE)
    visible = visible & (sample_at_pixels(posed.images.mask, rendered, camera)[:, 0] > INSIDE)
    return Correspondences(
        log_image=log_brightness(objects.image),
        template=template,
        views=views,
        lights=lights,
        pixels=pixels,
        weights=visible.to(error.dtype) * (-sample_at_pixels(error, pixels, camera)[:, 0] / RESIDUAL_SCALE).exp(),
    )


def initial_coefficients(model: MorphableModel, correspondences: Correspondences) -> Coefficients:
    """The prior's mean, in the networks' view and light."""
    count, like = len(correspondences.views), correspondences.log_image
    sizes = {
        "shape": model.shape_basis.shape[-1],
        "view": 6,
        "colour": 3,
        "albedo": model.albedo_basis.shape[-1],
        "specular": 1,
    }
    zeros = {name: like.new_zeros(count, size) for name, size in sizes.items()}
    return Coefficients(light=correspondences.lights.clone(), **zeros)


def fit_coefficients(
    model: MorphableModel,
    correspondences: Correspondences,
    camera: Camera,
    coeffs: Coefficients,
    iterations: int,
    decay: float,
) -> Coefficients:
    """Maximum a posteriori coefficients, each photo's by itself, by Adam from given ones."""
    values = {field.name: getattr(coeffs, field.name).detach().clone() for field in fields(Coefficients)}
    rates = {value.requires_grad_(): RATES[name] for name, value in values.items()}

    def loss(_: int) -> Tensor:
        return neg_log_posterior(model, correspondences, camera, Coefficients(**values)).sum()

    anneal(loss, rates, iterations, decay)
    return Coefficients(**{name: value.detach() for name, value in values.items()})


def neg_log_posterior(
    model: MorphableModel, correspondences: Correspondences, camera: Camera, coeffs: Coefficients
) -> Float[Tensor, b]:
    """Negative log posterior of coefficients given photos, up to constants."""
    differences, pixels = residuals(model, correspondences, camera, coeffs)
    photometric = (1 + differences.square() / model.variance).sqrt() - 1  # pseudo-Huber
    deviation = FLOW_DEVIATION * camera.size
    geometric = FLOW_WEIGHT * (pixels - correspondences.pixels).square().sum(dim=-1) / deviation**2
    likelihood = PIXEL_WEIGHT * (correspondences.weights * (photometric.sum(dim=1) + geometric / 2)).sum(dim=(1, 2))
    mean, deviations = model.lights
    standard = (coeffs.shape, coeffs.view, coeffs.colour / COLOUR_DEVIATION, coeffs.albedo, coeffs.specular)
    prior = ((coeffs.light - mean) / deviations).square().sum(dim=1)
    return likelihood + (prior + sum(values.square().sum(dim=1) for values in standard)) / 2


def residuals(
    model: MorphableModel, correspondences: Correspondences, camera: Camera, coeffs: Coefficients
) -> tuple[Float[Tensor, "b 3 h w"], Float[Tensor, "b h w 2"]]:
    """Log brightness of photos less the model's, point by point, and the pixels where the points lie."""
    displaced, views = deform(model, correspondences, camera, coeffs), views_of(correspondences, coeffs)
    pixels = project_points(canonical_to_view(displaced, views, camera), camera)
    albedo = model.albedo + ALBEDO_SPREAD * torch.einsum("chwl,bl->bchw", model.albedo_basis, coeffs.albedo)
    normal = point_normals(displaced)
    diffuse = (albedo + coeffs.colour[..., None, None] + log_shading(normal, coeffs.light)).exp()
    brightness = diffuse + highlights(normal, coeffs.light, views, specular_strength(coeffs))
    return sample_at_pixels(correspondences.log_image, pixels, camera) - (brightness + LIFT).log(), pixels


def deform(
    model: MorphableModel, correspondences: Correspondences, camera: Camera, coeffs: Coefficients, margin: int = 0
) -> Float[Tensor, "b v u 3"]:
    """Canonical points displaced by coefficients; a margin on each side continues the outermost ones."""
    displacements = model.mean + torch.einsum("hwik,bk->bhwi", model.shape_basis, coeffs.shape)
    template = correspondences.template[None, None]
    if margin:
        margins = (margin,) * 4
        template = pad(template, margins, mode="replicate")
        displacements = pad(displacements.permute(0, 3, 1, 2), margins, mode="replicate").permute(0, 2, 3, 1)
    return unproject_points(template[:, 0], camera, margin) + displacements


def views_of(correspondences: Correspondences, coeffs: Coefficients) -> Float[Tensor, "b 6"]:
    """Views by the coefficients, radians and scene units."""
    return correspondences.views + coeffs.view * correspondences.views.new_tensor(VIEW_DEVIATIONS)


@torch.no_grad()
def render_fit(
    model: MorphableModel, correspondences: Correspondences, camera: Camera, coeffs: Coefficients
) -> Float[Tensor, "b h w"]:
    """Depth of the displaced points' surface in the photos' views, 1.2 scene units where there is none."""
    displaced = deform(model, correspondences, camera, coeffs, camera.margin_px)
    return render_grid_depth(canonical_to_view(displaced, views_of(correspondences, coeffs), camera), camera)


def point_normals(points: Float[Tensor, "b h w 3"]) -> Float[Tensor, "b h w 3"]:
    """Normals of points that lie on no regular grid; the outermost have their neighbours'."""
    return replicate_border(points_to_normals(points).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def log_shading(normal: Float[Tensor, "b h w 3"], light: Float[Tensor, "b 4"]) -> Float[Tensor, "b 1 h w"]:
    """Logarithm of the shading, point by point."""
    return lambert_shading(diffuse_shading(normal, light), light).clamp(min=LEAST_SHADING).log()


def specular_strength(coeffs: Coefficients) -> Float[Tensor, b]:
    """Strength of highlights, relative to a reflectance of 1."""
    return USUAL_SPECULAR * (SPECULAR_SPREAD * coeffs.specular[:, 0]).exp()


def highlights(
    normal: Float[Tensor, "b h w 3"],
    light: Float[Tensor, "b 4"],
    views: Float[Tensor, "b 6"],
    strength: Float[Tensor, b],
) -> Float[Tensor, "b 1 h w"]:
    """What highlights add to brightness, point by point."""
    return (strength[:, None, None] * specular_shading(normal, light, views)).unsqueeze(1)


def sample_at_pixels(
    maps: Float[Tensor, "b c h w"], pixels: Float[Tensor, "b v u 2"], camera: Camera
) -> Float[Tensor, "b c v u"]:
    """Maps at pixel coordinates; beyond the border its values."""
    return grid_sample(maps, normalize_pixels(pixels, camera), padding_mode="border")


def _follow_flow(
    grid: Float[Tensor, "b h w 2"], pixels: Float[Tensor, "b h w 2"], camera: Camera
) -> Float[Tensor, "b h w 2"]:
    """Where the flow's first images have what lies at `pixels` of the second: the inverse of the flow."""
    displacement = ((grid - identity_grid(camera.size, grid.device)) * camera.centre).permute(0, 3, 1, 2)
    source = pixels
    for _ in range(INVERSION_ROUNDS):
        source = pixels - sample_at_pixels(displacement, source, camera).permute(0, 2, 3, 1)
    return source
