"""The textured mesh and the masks of a result."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d

from g2s_cli.geometry.camera import Camera
from g2s_cli.geometry.factors import Factors
from g2s_cli.geometry.image import composite_on_white, from_uint8
from g2s_cli.geometry.render import mask_to_canonical, mask_to_view, render
from g2s_cli.geometry.resample import inpaint, window_mean
from g2s_cli.geometry.warp import hflip
from g2s_cli.mesh.extract import Back, Mesh, extract_mesh
from g2s_cli.mesh.options import MeshOptions
from g2s_cli.mesh.refine import CanonicalDepth, SilhouetteMask, refine_depth
from g2s_cli.mesh.silhouette import refine_mask
from g2s_cli.mesh.texture import Texture, project_texture
from g2s_cli.result.schema import Result

# Default sizes, at most: vertices of the mesh's grid (or those of a wide frame's depth map, if it has more) and texels
# of its texture, a side. Twice as many vertices show no difference (docs/experiments/texture-and-mesh.md).
MAX_MESH_SIZE, MAX_TEXTURE_SIZE = 320, 2048
FINE_TEXTURE_SIZE = 1024  # up to which the texture of a whole head has twice the photo's resolution
MIXED_SHARE = 1 / 200  # of a wide frame's side, inside the outline, where colours are mixed with the background's
BACK_HEIGHT = 0.5  # of a whole head's back, in sides of the tight crop, at most
SOFT_EDGE_PX = 5  # width of a soft mask's edge, canonical pixels


def textured_mesh(result: Result, detail: MeshOptions, *, extend: bool = False) -> tuple[Mesh, Texture]:
    """The mesh and the texture of a result.

    Args:
        result: The result.
        detail: Their sizes; by default those of the photo.
        extend: Continue an object above and below the photo's edge that cuts it off (for pictures).

    Raises:
        UsageError, G2SError: As `MeshOptions.check`.
    """
    detail.check()
    photo_size = max(len(result.center_crop), result.camera.size)
    wide_size = round(photo_size * result.camera.with_margin().size / result.camera.size)
    # Twice the photo's resolution: the outline is smooth between the photo's pixels.
    mesh_size = detail.mesh_size or min(2 * wide_size, max(MAX_MESH_SIZE, result.camera.size))
    texture_size = detail.texture_size or min(wide_size, MAX_TEXTURE_SIZE)
    if detail.texture_size is None and result.outline is not None:
        # A small photo is resampled twice on its way to a picture: finer texels keep it sharp.
        texture_size = max(texture_size, min(2 * wide_size, FINE_TEXTURE_SIZE))
    with ThreadPoolExecutor(1) as pool:
        colours = pool.submit(_object_colours, result)  # takes as long as the mesh
        outline = _silhouette(result)
        mesh = _extract(result, replace(outline, extend=extend and result.outline is None), mesh_size)
    return mesh, project_texture(colours.result(), result.factors, outline, result.camera, mesh, texture_size)


def _object_colours(result: Result) -> Float[Tensor, "3 n n"]:
    """The photo, without its background where the outline is known."""
    photo = from_uint8(result.center_crop)
    return photo if result.outline is None else extend_colours(photo, result.outline)


def _silhouette(result: Result) -> SilhouetteMask:
    """The object in the photo at the photo's resolution."""
    if result.outline is None:
        return SilhouetteMask(refine_mask(result.mask, from_uint8(result.center_crop)), result.is_symmetric)
    return SilhouetteMask(result.outline, result.is_symmetric, completed=False, support=result.support)


def _extract(result: Result, outline: SilhouetteMask, mesh_size: int) -> Mesh:
    """The mesh, which has a back where the outline is known."""
    canonical = refine_depth(result.factors, outline, result.camera, mesh_size)
    if result.outline is None:
        return extract_mesh(canonical)
    mesh = extract_mesh(replace(canonical, mask=_smooth_outline(canonical, result.camera)), between_pixels=True)
    return replace(mesh, back=Back(result.factors.view, BACK_HEIGHT * result.photo.shape[-1] / result.camera.focal))


def _smooth_outline(canonical: CanonicalDepth, camera: Camera) -> Float[Tensor, "g g"]:
    """The mask without roughness below a pixel of the networks' depth map: single hairs are in the texture's alpha."""
    radius = round(len(canonical.mask) / camera.with_margin().size / 2)
    return window_mean(window_mean((canonical.mask >= 0.5).float()[None], radius), radius)[0]


def extend_colours(photo: Float[Tensor, "3 n n"], outline: Float[Tensor, "n n"]) -> Float[Tensor, "3 n n"]:
    """A photo whose background, and the mixed colours at the outline, are those of the object next to them."""
    inside, radius = ((outline - 0.5) * 2).clamp(0, 1), max(1, round(MIXED_SHARE * len(outline)))
    outside = max_pool2d(-inside[None], (2 * radius + 1, 1), 1, (radius, 0))  # separable: each side by itself
    return inpaint(photo, -max_pool2d(outside, (1, 2 * radius + 1), 1, (0, radius))[0])


def canonical_mask(result: Result) -> Float[Tensor, "h w"]:
    """The object mask in the canonical view.

    The mask of a symmetric object is the union with its mirror image. Without it the far cheek of a turned head would
    end ragged at the photo's horizon.
    """
    mask = mask_to_canonical(result.mask, result.factors, result.camera)
    return torch.maximum(mask, hflip(mask)) if result.is_symmetric else mask


def soft_mask(result: Result, factors: Factors) -> Float[Tensor, "h w"]:
    """The object mask in the view of `factors`, from 0 to 1 across a soft edge.

    The edge is softened in the canonical view: a hard one would turn ragged where the depth map is steep.
    """
    mask = canonical_mask(result)[None, None]
    soft = avg_pool2d(mask, SOFT_EDGE_PX, 1, SOFT_EDGE_PX // 2, count_include_pad=False)[0, 0]
    return ((mask_to_view(soft, factors, result.camera) - 0.25) * 2).clamp(0, 1)


def render_on_white(result: Result, factors: Factors) -> Float[Tensor, "3 h w"]:
    """The object with other factors (view, light), at the working size on white."""
    return composite_on_white(render(factors, result.camera).image, soft_mask(result, factors))
