"""Rendering of textured meshes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import avg_pool2d

from g2s_cli.geometry.camera import Camera, unproject_points, view_to_canonical
from g2s_cli.geometry.image import composite_on_white
from g2s_cli.geometry.rasterizer import rasterize
from g2s_cli.geometry.resample import resize_area
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

    grid: Float[Tensor, "1 h w 2"]  # where each pixel samples a texture
    texture_size: int  # pixels a side at which a texture is sampled
    depth: Float[Tensor, "h w"]  # scene units, infinite where there is no mesh
    hit: Bool[Tensor, "1 h w"]
    alpha: Float[Tensor, "1 1 h w"]

    def sample_texture(self, texture: Float[Tensor, "3 t t"]) -> MeshImage:
        """Colour the mesh by a texture."""
        image = grid_sample(resize_area(texture, self.texture_size)[None], self.grid, padding_mode="border")
        # The silhouette is smoothed over the pixels on both sides of it, in the colours next to them.
        hits = self.hit[:, None].to(texture.dtype)
        around = avg_pool2d(hits * image, 3, 1, 1, count_include_pad=False) / self.alpha.clamp(min=1e-6)
        return MeshImage(torch.where(self.hit[:, None], image, around)[0], self.alpha[0, 0])


def rasterize_mesh(mesh: Mesh, texture_size: int, view: Float[Tensor, 6], camera: Camera) -> Fragments:
    """Rasterize a mesh whose textures have `texture_size` pixels a side, in a view."""
    _, z_buffer = rasterize(*transform_mesh(mesh, view), camera)
    hit = z_buffer.isfinite()
    depth = torch.where(hit, z_buffer, camera.far).to(view.dtype)
    points = view_to_canonical(unproject_points(depth, camera), view[None], camera)
    alpha = avg_pool2d(hit[:, None].to(view.dtype), 3, 1, 1, count_include_pad=False)
    # Texels finer than the pixels would alias.
    sampled = mesh.camera.resize(min(texture_size, round(mesh.camera.size * camera.focal / mesh.camera.focal)))
    return Fragments(points_to_grid(points, sampled), sampled.size, z_buffer[0].to(view.dtype), hit, alpha)


def render_mesh(mesh: Mesh, texture: Float[Tensor, "3 t t"], view: Float[Tensor, 6], camera: Camera) -> MeshImage:
    """Render a mesh with a texture in a view."""
    return rasterize_mesh(mesh, texture.shape[-1], view, camera).sample_texture(texture)
