"""Photos that are explained, taken apart and put together otherwise: pictures whose depth is known, without a label.

The explanation of a photo says who is in it (how the mean face's points move), what that one's skin and hair look like,
and from where the camera and the light look. Any of these may be another photo's. Nothing of true shapes is known here:
how people differ, and what light does, is what the model of shape has learnt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
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
from g2s_cli.geometry.rasterizer import VIEW_FAR, grid_faces, render_grid_depth
from g2s_cli.geometry.warp import hflip
from recipes.synface.raster import NO_FACE, interpolate_attributes, rasterize
from recipes.synface.shapes import log_reflectance

UNLIKE_MODEL = 0.6  # of a logarithm: what is left of a photo's reflectance beside its looks is no more
LITTLE = 0.3  # of a mask: triangles with no corner above it are none of the object's
STEPS_BELOW = 0.5  # as the embedded category's presets have it
ANOTHERS_LOOKS, OF_TWO, MOST_OF_ANOTHER = 0.4, 0.7, 0.6  # shares of fantasies, and of a right angle


@dataclass(frozen=True)
class People:
    """Explained photos in parts, point by point of the mean face.

    shape: codes. reflectance: its logarithm. masks: what of the points is object, 0 to 1. views, lights, gloss: as
    photos show them.
    """

    shape: Float[Tensor, "n k"]
    reflectance: Float[Tensor, "n 3 h w"]
    masks: Float[Tensor, "n h w"]
    views: Float[Tensor, "n 6"]
    lights: Float[Tensor, "n 4"]
    specular: Float[Tensor, n]

    def pick(self, index: Int[Tensor, b]) -> People:
        """Some of them."""
        return People(*(getattr(self, field.name)[index] for field in fields(self)))


@dataclass(frozen=True)
class Fantasies:
    """Pictures in [-1, 1], 0 outside their masks, and the depth that they show in scene units, 1.2 where nothing is."""

    image: Float[Tensor, "b 3 h w"]
    mask: Float[Tensor, "b 1 h w"]
    depth: Float[Tensor, "b h w"]


def together(parts: Sequence[People]) -> People:
    """All of them in a row."""
    return People(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(People)))


@torch.no_grad()
def taken_apart(
    model: MorphableModel,
    seen: Correspondences,
    coeffs: Coefficients,
    masks: Float[Tensor, "b 1 h w"],
    camera: Camera,
) -> People:
    """Photos in parts, by codes that explain them. masks: of the photos.

    What a photo does not show of a point, the other half's has; what neither shows is as the looks have it.
    """
    points, views = deform(model, seen, camera, coeffs), views_of(seen, coeffs)
    there = canonical_to_view(points, views, camera)
    pixels = project_points(there, camera)
    front = render_grid_depth(
        canonical_to_view(deform(model, seen, camera, coeffs, camera.margin_px), views, camera), camera
    )
    plain = (there[..., 2] - sample_at_pixels(front.unsqueeze(1), pixels, camera)[:, 0]).abs() < OCCLUDED
    mask = sample_at_pixels(masks, pixels, camera)[:, 0]
    other = torch.where(plain.flip(-1), hflip(mask), torch.minimum(mask, hflip(mask)))

    found = log_reflectance(
        sample_at_pixels(seen.log_brightness, pixels, camera),
        point_normals(points),
        coeffs.light,
        views,
        specular_strength(coeffs),
    )
    albedo = model.albedo + ALBEDO_SPREAD * torch.einsum("chwl,bl->bchw", model.albedo_basis, coeffs.albedo)
    sure = (plain & (mask > INSIDE)).unsqueeze(1)
    count = sure.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    colour = ((found - albedo) * sure).sum(dim=(2, 3), keepdim=True) / count
    left = (found - albedo - colour).clamp(-UNLIKE_MODEL, UNLIKE_MODEL)
    known = albedo + colour + _from_either_half(left, sure, torch.zeros_like(left))
    usual = (colour + _usual(model)).expand_as(found)
    return People(
        shape=coeffs.shape,
        reflectance=torch.where(has_albedo(model.albedo), known, _from_either_half(found, sure, usual)),
        masks=torch.where(plain, mask, other),
        views=views,
        lights=coeffs.light,
        specular=specular_strength(coeffs),
    )


def mixed(people: People, count: int, rng: torch.Generator) -> People:
    """People of whom each has a photo's shape and outline, some with a part of another one's shape and all of another
    one's looks, in the view and the light of any photo.
    """
    who, view, albedo, second = (torch.randint(len(people.shape), (count,), generator=rng) for _ in range(4))
    turn = torch.pi / 2 * MOST_OF_ANOTHER * torch.rand(count, 1, generator=rng)  # which keeps codes as likely
    turn = turn * (torch.rand(count, 1, generator=rng) < OF_TWO)
    albedo = torch.where(torch.rand(count, generator=rng) < ANOTHERS_LOOKS, albedo, who)
    who, view, albedo, second, turn = (one.to(people.shape.device) for one in (who, view, albedo, second, turn))
    return replace(
        people.pick(who),
        shape=turn.cos() * people.shape[who] + turn.sin() * people.shape[second],
        reflectance=people.reflectance[albedo],
        views=people.views[view],
        lights=people.lights[view],
        specular=people.specular[view],
    )


@torch.no_grad()
def put_together(model: MorphableModel, relief: Float[Tensor, "h w"], people: People, camera: Camera) -> Fantasies:
    """Pictures of people, and the depth that these show. relief: the mean face's canonical depth.

    Points are shaded as the model has them, and lie where it has them but for the chin, which ends in a step.
    """
    seen, coeffs = _as_explained(model, relief, people, camera)
    normal = point_normals(deform(model, seen, camera, coeffs))
    generate = (people.reflectance + log_shading(normal, people.lights)).exp()
    generate = generate + highlights(normal, people.lights, people.views, people.specular)
    margin = camera.margin_px
    wide = deform(sharpen_template(model, relief, camera, STEPS_BELOW), seen, camera, coeffs, margin)
    values = pad(torch.cat((generate, people.masks.unsqueeze(1)), dim=1), (margin,) * 4, mode="replicate")
    there = canonical_to_view(wide, people.views, camera)
    corners = torch.cat((project_points(there, camera), there[..., 2:]), dim=-1).flatten(1, 2).cpu().numpy()
    triangles = grid_faces(wide.shape[1], wide.shape[2], torch.device("cpu")).int().numpy()
    drawn = [
        _drawn(corner, triangles, np.ascontiguousarray(value), camera.size)
        for corner, value in zip(corners, values.flatten(2).mT.cpu().numpy(), strict=True)
    ]
    maps = torch.from_numpy(np.stack(drawn)).to(relief.device)
    mask = (maps[:, 3:4] > 0.5).to(maps.dtype)
    return Fantasies((maps[:, :3].clamp(0, 1) * 2 - 1) * mask, mask, maps[:, 4])


def _as_explained(
    model: MorphableModel, relief: Float[Tensor, "h w"], people: People, camera: Camera
) -> tuple[Correspondences, Coefficients]:
    """People as pictures that nobody has seen yet, and the codes that explain them, as far as shapes and views go."""
    blank = people.shape.new_zeros(len(people.shape), camera.size, camera.size)
    picture = blank.unsqueeze(1).expand(-1, 3, -1, -1)
    places = blank.unsqueeze(-1).expand(-1, -1, -1, 2)
    seen = Correspondences(picture, relief, people.views, people.lights, places, blank)
    return seen, replace(initial_coefficients(model, seen), shape=people.shape)


def _drawn(
    corners: Float[np.ndarray, "v 3"], triangles: Int[np.ndarray, "t 3"], values: Float[np.ndarray, "v 4"], size: int
) -> Float[np.ndarray, "5 s s"]:
    """Colours, mask and depth of what is nearest; where nothing is, 0 and 1.2."""
    own = np.ascontiguousarray(triangles[(values[triangles, 3] > LITTLE).any(axis=1)])
    depth, generate = rasterize(corners, own, size)
    hit = generate != NO_FACE
    drawn = np.zeros((5, size, size), np.float32)
    drawn[:4, hit] = interpolate_attributes(corners, own, generate, values)
    drawn[4] = np.where(hit, depth, VIEW_FAR)
    return drawn


def _from_either_half(
    maps: Float[Tensor, "b c h w"], sure: Bool[Tensor, "b 1 h w"], else_: Float[Tensor, "b c h w"]
) -> Float[Tensor, "b c h w"]:
    """Maps where they are sure, else what the other half has, else something else."""
    return torch.where(sure, maps, torch.where(sure.flip(-1), hflip(maps), else_))


def _usual(model: MorphableModel) -> Float[Tensor, "3 1 1"]:
    """The mean reflectance of all points that have one."""
    return model.albedo[:, has_albedo(model.albedo)].mean(dim=1)[:, None, None]
