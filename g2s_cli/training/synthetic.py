"""Synthetic training pairs of image and depth, recombined from photos that the morphable model was fitted to.

A fit separates a photo into shape, albedo, view and light; each of these may be another photo's. No true shape is
known: variation of shape and shading come from the morphable model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from g2s_cli.estimators.morphable import (
    ALBEDO_SPREAD,
    INSIDE,
    OCCLUDED,
    Coefficients,
    Correspondences,
    deform,
    highlights,
    initial_coefficients,
    log_shading,
    point_normals,
    sample_at_pixels,
    specular_strength,
    views_of,
)
from g2s_cli.estimators.morphable_model import MorphableModel, has_albedo, sharpen_template
from g2s_cli.geometry.camera import Camera, canonical_to_view, project_points
from g2s_cli.geometry.rasterizer import VIEW_FAR, grid_faces, interpolate, rasterize, render_grid_depth
from g2s_cli.geometry.warp import hflip
from g2s_cli.training.morphable import log_albedo

MAX_RESIDUAL = 0.6  # of a photo's log albedo beside the model's
MIN_MASK = 0.3  # a triangle is the object's if a corner's mask is above
SHARPEN_BELOW = 0.5  # of the mean shape's edges, as in the presets
# Shares of recombined objects with another one's albedo, and with shape of two; how far the latter go, of 90°.
OTHER_ALBEDO, TWO_SHAPES, MAX_MIX = 0.4, 0.7, 0.6


@dataclass(frozen=True)
class FittedObjects:
    """The factors of photos, in the template's canonical pixels.

    Attributes:
        shape: coefficients.
        albedo: its logarithm.
        masks: of the object, 0 to 1.
        specular: strength.
    """

    shape: Float[Tensor, "n k"]
    albedo: Float[Tensor, "n 3 h w"]
    masks: Float[Tensor, "n h w"]
    views: Float[Tensor, "n 6"]
    lights: Float[Tensor, "n 4"]
    specular: Float[Tensor, n]

    def pick(self, index: Int[Tensor, b]) -> FittedObjects:
        """Some of them."""
        return FittedObjects(*(each[index] for each in vars(self).values()))

    @classmethod
    def concatenate(cls, parts: Sequence[FittedObjects]) -> FittedObjects:
        """The objects of all parts."""
        return cls(*(torch.cat(column) for column in zip(*(vars(part).values() for part in parts), strict=True)))


@dataclass(frozen=True)
class Pairs:
    """Images in [-1, 1], 0 outside their masks, and depth in their views in scene units, 1.2 where there is none."""

    image: Float[Tensor, "b 3 h w"]
    mask: Float[Tensor, "b 1 h w"]
    depth: Float[Tensor, "b h w"]

    def to(self, device: torch.device) -> Pairs:
        """The same pairs on a device."""
        return Pairs(self.image.to(device), self.mask.to(device), self.depth.to(device))

    @classmethod
    def concatenate(cls, parts: Sequence[Pairs]) -> Pairs:
        """The pairs of all parts."""
        return cls(*(torch.cat(column) for column in zip(*(vars(part).values() for part in parts), strict=True)))


@torch.no_grad()
def decompose(
    model: MorphableModel,
    part: Correspondences,
    coeffs: Coefficients,
    masks: Float[Tensor, "b 1 h w"],
    camera: Camera,
) -> FittedObjects:
    """Separate photos into factors, by their fitted coefficients.

    The residual of the albedo is kept. A point that the photo does not show has its mirror image's; if that is not
    shown either, the model's albedo.
    """
    points, views = deform(model, part, camera, coeffs), views_of(part, coeffs)
    in_view = canonical_to_view(points, views, camera)
    pixels = project_points(in_view, camera)
    surface = canonical_to_view(deform(model, part, camera, coeffs, camera.margin_px), views, camera)
    front = sample_at_pixels(render_grid_depth(surface, camera).unsqueeze(1), pixels, camera)[:, 0]
    visible = (in_view[..., 2] - front).abs() < OCCLUDED
    mask = sample_at_pixels(masks, pixels, camera)[:, 0]
    hidden_mask = torch.where(visible.flip(-1), hflip(mask), torch.minimum(mask, hflip(mask)))

    log_image, specular = sample_at_pixels(part.log_image, pixels, camera), specular_strength(coeffs)
    shown = log_albedo(log_image, point_normals(points), coeffs.light, views, specular)
    albedo = model.albedo + ALBEDO_SPREAD * torch.einsum("chwl,bl->bchw", model.albedo_basis, coeffs.albedo)
    known = (visible & (mask > INSIDE)).unsqueeze(1)
    count = known.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    colour = ((shown - albedo) * known).sum(dim=(2, 3), keepdim=True) / count
    residual = (shown - albedo - colour).clamp(-MAX_RESIDUAL, MAX_RESIDUAL)
    in_model = has_albedo(model.albedo)
    usual = (colour + model.albedo[:, in_model].mean(dim=1)[:, None, None]).expand_as(shown)
    modelled = albedo + colour + _fill_by_symmetry(residual, known, torch.zeros_like(residual))
    return FittedObjects(
        shape=coeffs.shape,
        albedo=torch.where(in_model, modelled, _fill_by_symmetry(shown, known, usual)),
        masks=torch.where(visible, mask, hidden_mask),
        views=views,
        lights=coeffs.light,
        specular=specular,
    )


def recombine(objects: FittedObjects, count: int, rng: torch.Generator) -> FittedObjects:
    """Random combinations of factors.

    Each has the mask and shape of one object; some mix in another one's shape, and some have another one's albedo.
    View, light and specular strength are of one random photo.
    """
    one, view, albedo, second = (torch.randint(len(objects.shape), (count,), generator=rng) for _ in range(4))
    angle = torch.pi / 2 * MAX_MIX * torch.rand(count, 1, generator=rng)  # a rotation keeps the prior probability
    angle = angle * (torch.rand(count, 1, generator=rng) < TWO_SHAPES)
    albedo = torch.where(torch.rand(count, generator=rng) < OTHER_ALBEDO, albedo, one)
    one, view, albedo, second, angle = (each.to(objects.shape.device) for each in (one, view, albedo, second, angle))
    return replace(
        objects.pick(one),
        shape=angle.cos() * objects.shape[one] + angle.sin() * objects.shape[second],
        albedo=objects.albedo[albedo],
        views=objects.views[view],
        lights=objects.lights[view],
        specular=objects.specular[view],
    )


@torch.no_grad()
def render_pairs(
    model: MorphableModel, mean_depth: Float[Tensor, "h w"], objects: FittedObjects, camera: Camera
) -> Pairs:
    """Render objects, with the depth that the images show.

    Shading is of the model's smooth shape; depth has its edges sharpened, as at the chin.

    Args:
        mean_depth: canonical depth of the template.
    """
    part, coeffs = _fit_of(model, mean_depth, objects, camera)
    normal = point_normals(deform(model, part, camera, coeffs))
    brightness = (objects.albedo + log_shading(normal, objects.lights)).exp()
    brightness = brightness + highlights(normal, objects.lights, objects.views, objects.specular)
    margin = camera.margin_px
    points = deform(sharpen_template(model, mean_depth, camera, SHARPEN_BELOW), part, camera, coeffs, margin)
    values = pad(torch.cat((brightness, objects.masks.unsqueeze(1)), dim=1), (margin,) * 4, mode="replicate")
    maps, depth = _rasterize(canonical_to_view(points, objects.views, camera), values, camera)
    mask = (maps[:, 3:] > 0.5).to(maps.dtype)
    return Pairs((maps[:, :3].clamp(0, 1) * 2 - 1) * mask, mask, depth)


def _fit_of(
    model: MorphableModel, mean_depth: Float[Tensor, "h w"], objects: FittedObjects, camera: Camera
) -> tuple[Correspondences, Coefficients]:
    """Correspondences without images, and coefficients, by which `deform` moves points as the objects have them."""
    blank = objects.shape.new_zeros(len(objects.shape), camera.size, camera.size)
    image, pixels = blank.unsqueeze(1).expand(-1, 3, -1, -1), blank.unsqueeze(-1).expand(-1, -1, -1, 2)
    part = Correspondences(image, mean_depth, objects.views, objects.lights, pixels, blank)
    return part, replace(initial_coefficients(model, part), shape=objects.shape)


def _rasterize(
    points: Float[Tensor, "b v u 3"], values: Float[Tensor, "b c v u"], camera: Camera
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b h w"]]:
    """Values and depth of the nearest surface through grids of points whose last value is their mask."""
    triangles = grid_faces(points.shape[1], points.shape[2], points.device)
    inside = (values[:, -1].flatten(1)[:, triangles] > MIN_MASK).any(dim=2)
    used = inside.any(dim=0)
    triangles, inside = triangles[used], inside[:, used]
    corners, corner_values = points.flatten(1, 2)[:, triangles], values.flatten(2).mT[:, triangles]
    corners[~inside] = corners.new_tensor((1e3, 1e3, 1.0))  # beyond the image
    separate = torch.arange(3 * len(triangles), device=points.device).view(-1, 3)
    winner, depth = rasterize(corners.flatten(1, 2), separate, camera)
    index = winner.clamp(min=0).flatten(1)[..., None, None]
    ticks = torch.arange(camera.size, device=points.device).to(points)
    pixels = torch.stack(torch.meshgrid(ticks, ticks, indexing="xy"), dim=-1).view(-1, 2)
    corner, value = (some.take_along_dim(index, dim=1) for some in (corners, corner_values))
    maps = interpolate(pixels, corner, value, camera).mT
    hit = winner >= 0
    maps = torch.where(hit.unsqueeze(1), maps.unflatten(2, (camera.size, camera.size)), 0.0)
    return maps, torch.where(hit, depth, VIEW_FAR)


def _fill_by_symmetry(
    maps: Float[Tensor, "b c h w"], known: Bool[Tensor, "b 1 h w"], fallback: Float[Tensor, "b c h w"]
) -> Float[Tensor, "b c h w"]:
    """Maps where they are known, else their known mirror image, else the fallback."""
    return torch.where(known, maps, torch.where(known.flip(-1), hflip(maps), fallback))
