"""Rendering of textured meshes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import avg_pool2d

from g2s_cli.geometry.camera import Camera
from g2s_cli.geometry.image import composite_on_white
from g2s_cli.geometry.rasterizer import interpolate, rasterize
from g2s_cli.geometry.resample import inpaint, resize_area
from g2s_cli.geometry.warp import grid_sample, points_to_grid
from g2s_cli.mesh.extract import Mesh, transform_mesh


@dataclass(frozen=True)
class MeshImage:
    """An image of a mesh in [-1, 1], and the share of each pixel that the mesh covers."""

    image: Float[Tensor, "3 h w"]
    alpha: Float[Tensor, "h w"]

    @property
    def on_white(self) -> Float[Tensor, "3 h w"]:
        """The mesh on a white background."""
        return composite_on_white(self.image, self.alpha)


@dataclass(frozen=True)
class Fragments:
    """A rasterized mesh, independent of its texture and light."""

    points: Float[Tensor, "h w 3"]  # the canonical point that each pixel shows
    sampled: Camera  # whose image the texture is, at the resolution at which it is sampled
    depth: Float[Tensor, "h w"]  # scene units, infinite where there is no mesh
    hit: Bool[Tensor, "h w"]
    alpha: Float[Tensor, "1 1 h w"]
    mode: Literal["bilinear", "bicubic"]  # of sampling a texture
    behind: Bool[Tensor, "h w"]  # the pixel shows the mesh's back
    rim: Float[Tensor, "r r"] | None  # texels that the back takes its colours from, if it is shown

    def sample_texture(self, texture: Float[Tensor, "3 t t"]) -> MeshImage:
        """Colour the mesh by a texture."""
        grid = points_to_grid(self.points[None], self.sampled)
        texels = resize_area(texture, self.sampled.size)[None]
        image = grid_sample(texels, grid, padding_mode="border", mode=self.mode)
        if self.rim is not None:
            colours = extend_to_back(texture, self.rim)[None]
            image = torch.where(self.behind, grid_sample(colours, grid, padding_mode="border"), image)
        # The silhouette is smoothed over the pixels on both sides of it, in the colours next to them.
        hits = self.hit[None, None].to(texture.dtype)
        around = avg_pool2d(hits * image, 3, 1, 1, count_include_pad=False) / self.alpha.clamp(min=1e-6)
        return MeshImage(torch.where(self.hit, image, around)[0], self.alpha[0, 0])


def rasterize_mesh(
    mesh: Mesh,
    texture_size: int,
    view: Float[Tensor, 6],
    camera: Camera,
    bend: Callable[[Float[Tensor, "n 3"]], Float[Tensor, "n 3"]] = lambda points: points,
) -> Fragments:
    """Rasterize a mesh whose textures have `texture_size` pixels a side, in a view.

    Args:
        bend: moves vertices in the view's frame.
    """
    closed = mesh.closed
    canonical, _ = transform_mesh(closed, torch.zeros(6))
    vertices, faces = transform_mesh(closed, view)
    vertices = bend(vertices[0])[None]
    shown, z_buffer = rasterize(vertices, faces, camera)
    hit = shown[0] >= 0
    corners = faces[shown[0, hit]]
    pixels = hit.nonzero().flip(1).to(vertices)
    points = canonical.new_zeros((*hit.shape, 3))
    points[..., 2] = camera.far
    points[hit] = interpolate(pixels, vertices[0, corners], canonical[0, corners], camera)
    alpha = avg_pool2d(hit[None, None].to(view.dtype), 3, 1, 1, count_include_pad=False)
    # Texels finer than the pixels would alias.
    sampled = mesh.camera.resize(min(texture_size, round(mesh.camera.size * camera.focal / mesh.camera.focal)))
    behind = shown[0] >= len(mesh.faces)
    rim = mesh.rim if behind.any() else None
    mode: Literal["bilinear", "bicubic"] = "bicubic" if mesh.back else "bilinear"
    return Fragments(points.to(view.dtype), sampled, z_buffer[0].to(view.dtype), hit, alpha, mode, behind, rim)


def extend_to_back(texture: Float[Tensor, "3 t t"], rim: Float[Tensor, "r r"]) -> Float[Tensor, "3 r r"]:
    """The colours of the back: those of the rim, spread over it."""
    return inpaint(resize_area(texture, len(rim)), rim)


def render_mesh(mesh: Mesh, texture: Float[Tensor, "3 t t"], view: Float[Tensor, 6], camera: Camera) -> MeshImage:
    """Render a mesh with a texture in a view."""
    return rasterize_mesh(mesh, texture.shape[-1], view, camera).sample_texture(texture)
