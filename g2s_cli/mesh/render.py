"""A textured mesh as a camera sees it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import avg_pool2d

from g2s_cli.geometry.camera import Camera, project_points, unproject_points, view_to_canonical
from g2s_cli.geometry.image import composite_on_white
from g2s_cli.geometry.rasterizer import rasterize
from g2s_cli.geometry.resample import resize_area
from g2s_cli.geometry.warp import grid_sample, normalize_pixels
from g2s_cli.mesh.extract import Mesh, transform_mesh


@dataclass(frozen=True)
class MeshImage:
    """A picture of a mesh: its colours in [-1, 1], and how much of each pixel it covers."""

    image: Float[Tensor, "3 h w"]
    alpha: Float[Tensor, "h w"]

    @property
    def on_white(self) -> Float[Tensor, "3 h w"]:
        """The object alone."""
        return composite_on_white(self.image, self.alpha)


@dataclass(frozen=True)
class Fragments:
    """What a camera sees of a mesh from a view, whatever its texture: the same under any light.

    grid: where in a texture each pixel lies. texels: at how many a side it is read. hit: which pixels show the mesh.
    alpha: how much of each it covers. depth: along the viewing axis in scene units, infinite where no mesh is.
    """

    grid: Float[Tensor, "1 h w 2"]
    texels: int
    depth: Float[Tensor, "h w"]
    hit: Bool[Tensor, "1 h w"]
    alpha: Float[Tensor, "1 1 h w"]

    def sample_texture(self, lit: Float[Tensor, "3 t t"]) -> MeshImage:
        """With this texture."""
        image = grid_sample(resize_area(lit, self.texels)[None], self.grid, padding_mode="border")
        # The outline lies between pixels: those on either side of it take part, with the colours next to them.
        hits = self.hit[:, None].to(lit.dtype)
        beside = avg_pool2d(hits * image, 3, 1, 1, count_include_pad=False) / self.alpha.clamp(min=1e-6)
        return MeshImage(torch.where(self.hit[:, None], image, beside)[0], self.alpha[0, 0])


def rasterize_mesh(mesh: Mesh, texels: int, view: Float[Tensor, 6], camera: Camera) -> Fragments:
    """See a mesh that has a texture of so many texels a side from a view."""
    _, nearest = rasterize(*transform_mesh(mesh, view), camera)
    hit = nearest.isfinite()
    depth = torch.where(hit, nearest, camera.far).to(view.dtype)
    points = view_to_canonical(unproject_points(depth, camera), view[None], camera)
    cover = avg_pool2d(hit[:, None].to(view.dtype), 3, 1, 1, count_include_pad=False)
    # Finer texels than the picture's pixels would alias.
    read = mesh.camera.resize(min(texels, round(mesh.camera.size * camera.focal / mesh.camera.focal)))
    return Fragments(
        normalize_pixels(project_points(points, read), read), read.size, nearest[0].to(view.dtype), hit, cover
    )


def render_mesh(mesh: Mesh, lit: Float[Tensor, "3 t t"], view: Float[Tensor, 6], camera: Camera) -> MeshImage:
    """What the camera sees of a mesh with this texture from a view."""
    return rasterize_mesh(mesh, lit.shape[-1], view, camera).sample_texture(lit)
