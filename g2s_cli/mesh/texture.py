"""The mesh's texture: the photo's pixels without their shading, and the networks' albedo where the photo shows none."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor
from torch.nn.functional import interpolate, max_pool2d, pad

from g2s_cli.geometry.camera import Camera, canonical_to_view, project_points, rotation_matrix, unproject_points
from g2s_cli.geometry.factors import Factors
from g2s_cli.geometry.normals import depth_to_normals, replicate_border
from g2s_cli.geometry.rasterizer import rasterize
from g2s_cli.geometry.resample import box_blur, inpaint, resize_area, resize_bspline
from g2s_cli.geometry.shading import MIN_SHADING, apply_shading, diffuse_shading, remove_shading
from g2s_cli.geometry.warp import grid_sample, hflip, points_to_grid
from g2s_cli.mesh.extract import FLIP, Mesh, transform_mesh
from g2s_cli.mesh.refine import CanonicalDepth, SilhouetteMask, refine_depth, sample_object_mask

# The photo's weight rises from 0 at the first cosine between surface and ray to 1 at the second.
MIN_COSINE, FULL_COSINE = 0.08, 0.3
# The same under a soft outline: whatever takes the photo's place between cheek and ear is coarser.
MIN_WIDE_COSINE, FULL_WIDE_COSINE = 0.04, 0.15
# Distance behind the nearest surface up to which a point is visible, scene units: the grids' own roughness.
TOLERANCE = 0.002
# Largest resolution of the visibility test, pixels a side.
MAX_VISIBILITY_PX = 512
# Largest resolution of the surface that the photo is projected onto, pixels a side: it is far smoother than the photo.
MAX_SURFACE_PX = 1024
# Width of the seam between the photo's part and the rest, as a share of the image's side.
SEAM_WIDTH = 1.5 / 64


@dataclass(frozen=True)
class Texture:
    """Colours over the image of the canonical camera with its margin."""

    lit: Float[Tensor, "3 t t"]  # in [-1, 1], under the photo's light
    albedo: Float[Tensor, "3 t t"]  # without shading; (albedo + 1) / 2 is the reflectance, above 1 in highlights
    alpha: Float[Tensor, "t t"] | None = None  # of a soft outline, finer than the mesh's; None is 1


def project_texture(
    photo: Float[Tensor, "3 n n"], factors: Factors, object_mask: SilhouetteMask, camera: Camera, mesh: Mesh, size: int
) -> Texture:
    """Project the photo onto the canonical surface, and inpaint the rest.

    Args:
        photo: in [-1, 1], at any resolution.
        mesh: the surface, for the visibility test.
        size: of the texture, pixels a side.
    """
    wide = camera.with_margin()
    canonical = refine_depth(factors, object_mask, camera, min(size, MAX_SURFACE_PX))
    points = canonical_to_view(
        unproject_points(canonical.depth[None], canonical.camera), factors.view[None], canonical.camera
    )
    mask_grid = points_to_grid(points, camera.resize(len(object_mask.mask)))
    # Without the mask that symmetry completes: the photo does not show the object there.
    visible_mask = sample_object_mask(mask_grid, canonical.camera, replace(object_mask, symmetric=False), camera)
    # Pixels finer than the texture's would alias.
    pixels = min(photo.shape[-1], -(-size * camera.size // wide.size))
    grid = _enlarge_grid(points_to_grid(points, camera.resize(pixels)), size)
    shading = _shading(factors, camera, size)
    colours = grid_sample(resize_area(photo, pixels)[None], grid, padding_mode="border", mode="bicubic")[0]
    colours = remove_shading(colours.clamp(-1, 1), shading.clamp(min=MIN_SHADING))
    seen, cosines = visible_mask, (MIN_COSINE, FULL_COSINE)
    if not object_mask.completed:
        # A photo under a soft outline has the object's colours beyond it, too: no seam there.
        seen, cosines = torch.ones_like(seen), (MIN_WIDE_COSINE, FULL_WIDE_COSINE)
    weight = _enlarge(_photo_weight(seen, points, canonical, factors, camera, mesh, cosines)[None], size)[0]

    # The networks' albedo counts inside the object only.
    known = resize_area(visible_mask[None], wide.size)[0].square()
    albedo = inpaint(_pad_margin(factors.albedo, camera), known)
    if object_mask.symmetric:
        albedo = _blend(albedo, hflip(colours), hflip(weight), wide.size)
    albedo = _blend(albedo, colours, weight, wide.size).clamp_(min=-1)
    lit = apply_shading(albedo, shading.clamp(min=MIN_SHADING)).clamp_(-1, 1)
    alpha = None
    if not object_mask.completed:
        alpha = sample_object_mask(_enlarge_grid(mask_grid, size), wide.resize(size), object_mask, camera)
    return Texture(lit, albedo, alpha)


def relight_texture(texture: Texture, factors: Factors, camera: Camera) -> Float[Tensor, "3 t t"]:
    """The texture's albedo under the factors' light, in [-1, 1]."""
    return apply_shading(texture.albedo, _shading(factors, camera, texture.albedo.shape[-1])).clamp(-1, 1)


def smooth_normals(mesh: Mesh, factors: Factors, camera: Camera) -> Float[ndarray, "v 3"]:
    """Unit outward normals of the networks' depth at each vertex, in the mesh's axes.

    The photo's shading was removed by these; the mesh's own normals are finer.
    """
    normals = normal_map(factors, camera, mesh.camera.size)
    vertices, _ = transform_mesh(mesh, torch.zeros(6))
    grid = points_to_grid(vertices[None], mesh.camera).to(normals)  # one row of all vertices
    sampled = grid_sample(normals[None], grid, padding_mode="border")[0, :, 0].T
    outward = -sampled.double().cpu().numpy() * FLIP  # inner normals point away from the viewer
    return outward / np.linalg.norm(outward, axis=1, keepdims=True).clip(min=1e-9)


def normal_map(factors: Factors, camera: Camera, size: int) -> Float[Tensor, "3 t t"]:
    """Canonical normals of the networks' depth as a texture: with the inner sign, of about unit length."""
    normals = replicate_border(depth_to_normals(factors.depth[None], camera).permute(0, 3, 1, 2))[0]
    return resize_bspline(_pad_margin(normals, camera), size)


def _blend(
    under: Float[Tensor, "3 h h"], top: Float[Tensor, "3 t t"], weight: Float[Tensor, "t t"], coarse: int
) -> Float[Tensor, "3 t t"]:
    """Blend a texture over another whose coarse colours are matched to it first: no seam, no tint.

    Args:
        under: at the texture's size, or at the coarse one.
        weight: the share of `top`.
        coarse: size at which colours are matched.
    """
    shares, mean = (resize_area(values, coarse) for values in (weight[None], weight * top))
    difference = mean / shares.clamp(min=1e-6)
    if under.shape[-1] == coarse:
        matched = resize_bspline(under + inpaint(difference - under, shares[0]), top.shape[-1])
    else:
        difference -= resize_area(weight * under, coarse) / shares.clamp(min=1e-6)
        matched = resize_bspline(inpaint(difference, shares[0]), top.shape[-1]).add_(under)
    return torch.lerp(matched, top, weight)


def _photo_weight(
    visible_mask: Float[Tensor, "t t"],
    points: Float[Tensor, "1 t t 3"],
    canonical: CanonicalDepth,
    factors: Factors,
    camera: Camera,
    mesh: Mesh,
    cosines: tuple[float, float],
) -> Float[Tensor, "t t"]:
    """The photo's share of each texel: 0 where hidden, turned away or background, with a soft edge."""
    normal = depth_to_normals(canonical.depth[None], canonical.camera, length_floor=0.0)[0]
    normal = normal @ rotation_matrix(factors.view[None])[0].T
    cosine = (normal * points[0]).sum(dim=-1) / points[0].norm(dim=-1)
    frontal = ((cosine - cosines[0]) / (cosines[1] - cosines[0])).clamp(0, 1)

    seen_by = camera.resize(min(canonical.camera.size, MAX_VISIBILITY_PX))
    _, z_buffer = rasterize(*transform_mesh(mesh, factors.view), seen_by)
    # Between pixels, and on steep slopes, the farther neighbour is visible too.
    nearest = max_pool2d(z_buffer.float(), 3, 1, 1)
    column, row = project_points(points[0], seen_by).round().long().clamp(0, seen_by.size - 1).unbind(-1)
    visible = points[0, ..., 2] <= nearest[0, row, column] + TOLERANCE

    weight = frontal * visible * visible_mask
    radius = max(1, round(SEAM_WIDTH * canonical.camera.size))
    return torch.minimum(weight, (2 * box_blur(weight, radius) - 1).clamp(min=0))


def _shading(factors: Factors, camera: Camera, size: int) -> Float[Tensor, "t t"]:
    """The shading of the networks' depth as a texture."""
    diffuse = diffuse_shading(depth_to_normals(factors.depth[None], camera), factors.light[None])
    diffuse = resize_bspline(_pad_margin(replicate_border(diffuse[None])[0], camera), size)[0].clamp(min=0)
    return factors.light[0] + factors.light[1] * diffuse


def _enlarge(maps: Float[Tensor, "c h h"], size: int) -> Float[Tensor, "c t t"]:
    return interpolate(maps[None], size=(size, size), mode="bilinear")[0] if size != maps.shape[-1] else maps


def _enlarge_grid(grid: Float[Tensor, "1 h h 2"], size: int) -> Float[Tensor, "1 t t 2"]:
    return _enlarge(grid[0].permute(2, 0, 1), size).permute(1, 2, 0)[None]


def _pad_margin(maps: Float[Tensor, "c h h"], camera: Camera) -> Float[Tensor, "c w w"]:
    """Canonical maps with the border replicated into the margin."""
    return pad(maps[None], (camera.margin_px,) * 4, mode="replicate")[0]
