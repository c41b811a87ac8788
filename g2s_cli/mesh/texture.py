"""The photo's own pixels on the canonical relief, delit; what the photo does not show is the networks' albedo."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d, pad

from g2s_cli.geometry.camera import Camera, project_points, rotation_matrix
from g2s_cli.geometry.factors import Factors
from g2s_cli.geometry.normals import depth_to_normals, replicate_border
from g2s_cli.geometry.rasterizer import rasterize
from g2s_cli.geometry.resample import inpaint, resize_area, resize_bspline
from g2s_cli.geometry.shading import apply_shading, diffuse_shading, remove_shading
from g2s_cli.geometry.warp import grid_sample, hflip, normalize_pixels
from g2s_cli.mesh.extract import FLIP, Mesh, transform_mesh
from g2s_cli.mesh.refine import CanonicalDepth, ObjectMask, canonical_object_mask, points_in_view, refine_depth

# Delit colours are divided by no less: in deep shadow there is more noise than colour.
MIN_SHADING = 0.2
# The photo counts not at all where the surface is seen at the first of these cosines, fully from the second on.
GRAZING, PLAIN = 0.08, 0.3
# How far behind the nearest surface a point is still on it, scene units: the grids' own roughness.
TOLERANCE = 0.002
# Visibility is decided at no more pixels than this a side.
MOST_SEEN_PX = 512
# From the photo's part to the rest the texture changes over this share of the picture.
SEAM_SHARE = 1.5 / 64


@dataclass(frozen=True)
class Texture:
    """Colours of the canonical relief, over the picture of its widened camera.

    lit: in [-1, 1], as the photo shows them. albedo: lit without the shading; (albedo + 1) / 2 is the reflectance,
    which exceeds 1 in highlights.
    """

    lit: Float[Tensor, "3 t t"]
    albedo: Float[Tensor, "3 t t"]


def project_texture(
    photo: Float[Tensor, "3 n n"], factors: Factors, outline: ObjectMask, camera: Camera, mesh: Mesh, size: int
) -> Texture:
    """The texture of `size` pixels a side: the photo projected onto the relief, and the rest painted in.

    photo: what the camera saw, in [-1, 1], at any resolution. mesh: the surface that hides parts of itself.
    """
    wide = camera.with_margin()
    relief = refine_depth(factors, outline, camera, size)
    # What the other half lends the outline is no object where the photo looks.
    shown_object = canonical_object_mask(
        relief.depth, relief.camera, factors, replace(outline, symmetric=False), camera
    )
    # Finer pixels than the texture's would alias.
    pixels = min(photo.shape[-1], -(-size * camera.size // wide.size))
    points, seen_by = points_in_view(relief, factors), camera.resize(pixels)
    grid = normalize_pixels(project_points(points, seen_by), seen_by)
    shading = _shading(factors, camera, size)
    shown = grid_sample(resize_area(photo, pixels)[None], grid, padding_mode="border", mode="bicubic")[0].clamp(-1, 1)
    shown = remove_shading(shown, shading.clamp(min=MIN_SHADING))
    weight = _weight(shown_object, points, relief, factors, camera, mesh)

    # The networks paint the background, too.
    trusted = resize_area(shown_object[None], wide.size)[0].square()
    albedo = resize_bspline(inpaint(_framed(factors.albedo, wide), trusted), size)
    if outline.symmetric:
        albedo = _over(albedo, hflip(shown), hflip(weight), wide.size)
    albedo = _over(albedo, shown, weight, wide.size).clamp(min=-1)
    return Texture(apply_shading(albedo, shading.clamp(min=MIN_SHADING)).clamp(-1, 1), albedo)


def relight_texture(texture: Texture, factors: Factors, camera: Camera) -> Float[Tensor, "3 t t"]:
    """The texture's albedo under the factors' light, in [-1, 1]."""
    return apply_shading(texture.albedo, _shading(factors, camera, texture.albedo.shape[-1])).clamp(-1, 1)


def smooth_normals(mesh: Mesh, factors: Factors, camera: Camera) -> Float[ndarray, "v 3"]:
    """What light falls on at each vertex: unit outward normals of the networks' relief, in the mesh's axes.

    They are smooth, as the shading is that the photo's light was taken off by; the mesh's own are finer.
    """
    inward = normal_map(factors, camera, mesh.camera.size)
    points, _ = transform_mesh(mesh, torch.zeros(6))
    grid = normalize_pixels(project_points(points[None], mesh.camera), mesh.camera).to(inward)  # a row of all vertices
    found = grid_sample(inward[None], grid, padding_mode="border")[0, :, 0].T
    outward = -found.double().cpu().numpy() * FLIP  # inner normals point away from the viewer
    return outward / np.linalg.norm(outward, axis=1, keepdims=True).clip(min=1e-9)


def normal_map(factors: Factors, camera: Camera, size: int) -> Float[Tensor, "3 t t"]:
    """Normals of the networks' relief as a texture of the mesh: canonical, with the internal sign, about one long."""
    facing = replicate_border(depth_to_normals(factors.depth[None], camera).permute(0, 3, 1, 2))[0]
    return resize_bspline(_framed(facing, camera.with_margin()), size)


def _over(
    under: Float[Tensor, "3 t t"], top: Float[Tensor, "3 t t"], weight: Float[Tensor, "t t"], coarse: int
) -> Float[Tensor, "3 t t"]:
    """One texture laid over another, whose coarse colours are matched first: no seam, no tint beyond it."""
    shares = resize_area(weight[None], coarse)
    difference = resize_area(weight * (top - under), coarse) / shares.clamp(min=1e-6)
    return torch.lerp(under + resize_bspline(inpaint(difference, shares[0]), under.shape[-1]), top, weight)


def _weight(
    shown_object: Float[Tensor, "t t"],
    points: Float[Tensor, "1 t t 3"],
    relief: CanonicalDepth,
    factors: Factors,
    camera: Camera,
    mesh: Mesh,
) -> Float[Tensor, "t t"]:
    """How far each texel is the photo's: 0 where hidden, turned away or not object, and softly up from there."""
    normal = (
        depth_to_normals(relief.depth[None], relief.camera, length_floor=0.0)[0]
        @ rotation_matrix(factors.view[None])[0].T
    )
    facing = (normal * points[0]).sum(dim=-1) / points[0].norm(dim=-1)
    plain = ((facing - GRAZING) / (PLAIN - GRAZING)).clamp(0, 1)

    seen_by = camera.resize(min(relief.camera.size, MOST_SEEN_PX))
    _, nearest = rasterize(*transform_mesh(mesh, factors.view), seen_by)
    # Between pixels, and on steep slopes, the farther neighbour is the surface too.
    nearest = max_pool2d(nearest.float(), 3, 1, 1)
    column, row = project_points(points[0], seen_by).round().long().clamp(0, seen_by.size - 1).unbind(-1)
    visible = points[0, ..., 2] <= nearest[0, row, column] + TOLERANCE

    weight = plain * visible * shown_object
    radius = max(1, round(SEAM_SHARE * relief.camera.size))
    soft = avg_pool2d(weight[None], 2 * radius + 1, 1, radius)[0]
    return torch.minimum(weight, (2 * soft - 1).clamp(min=0))


def _shading(factors: Factors, camera: Camera, size: int) -> Float[Tensor, "t t"]:
    """Ambient and diffuse light on every texel: smooth, as the networks' relief is."""
    fine = resize_bspline(_diffuse(factors, camera)[None], size)[0].clamp(min=0)
    return factors.light[0] + factors.light[1] * fine


def _diffuse(factors: Factors, camera: Camera) -> Float[Tensor, "w w"]:
    """The diffuse shading of the networks' relief, in the widened frame."""
    diffuse = diffuse_shading(depth_to_normals(factors.depth[None], camera), factors.light[None])
    return _framed(replicate_border(diffuse[None])[0], camera.with_margin())[0]


def _framed(maps: Float[Tensor, "c h h"], wide: Camera) -> Float[Tensor, "c w w"]:
    """Maps that go on in the margin as they end."""
    return pad(maps[None], ((wide.size - maps.shape[-1]) // 2,) * 4, mode="replicate")[0]
