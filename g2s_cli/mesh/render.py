"""A textured mesh as a camera sees it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import avg_pool2d

from g2s_cli.geometry.camera import Camera, back_project, project, to_canonical
from g2s_cli.geometry.rasterizer import nearest_triangle
from g2s_cli.geometry.render import on_white
from g2s_cli.geometry.resample import shrunk
from g2s_cli.geometry.warp import sample, to_grid
from g2s_cli.mesh.extract import Mesh, mesh_points


@dataclass(frozen=True)
class Shown:
    """A picture of a mesh: its colours in [-1, 1], and how much of each pixel it covers."""

    image: Float[Tensor, "3 h w"]
    cover: Float[Tensor, "h w"]

    @property
    def on_white(self) -> Float[Tensor, "3 h w"]:
        """The object alone."""
        return on_white(self.image, self.cover)


@dataclass(frozen=True)
class Look:
    """What a camera sees of a mesh from a view, whatever its texture: the same under any light.

    grid: where in a texture each pixel lies. texels: at how many a side it is read. hit: which pixels show the mesh.
    cover: how much of each it covers. depth: along the viewing axis in scene units, infinite where no mesh is.
    """

    grid: Float[Tensor, "1 h w 2"]
    texels: int
    depth: Float[Tensor, "h w"]
    hit: Bool[Tensor, "1 h w"]
    cover: Float[Tensor, "1 1 h w"]

    def painted(self, lit: Float[Tensor, "3 t t"]) -> Shown:
        """With this texture."""
        image = sample(shrunk(lit, self.texels)[None], self.grid, outside="border")
        # The outline lies between pixels: those on either side of it take part, with the colours next to them.
        hits = self.hit[:, None].to(lit.dtype)
        beside = avg_pool2d(hits * image, 3, 1, 1, count_include_pad=False) / self.cover.clamp(min=1e-6)
        return Shown(torch.where(self.hit[:, None], image, beside)[0], self.cover[0, 0])


def look(mesh: Mesh, texels: int, view: Float[Tensor, 6], camera: Camera) -> Look:
    """See a mesh that has a texture of so many texels a side from a view."""
    _, nearest = nearest_triangle(*mesh_points(mesh, view), camera)
    hit = nearest.isfinite()
    depth = torch.where(hit, nearest, camera.far).to(view.dtype)
    points = to_canonical(back_project(depth, camera), view[None], camera)
    cover = avg_pool2d(hit[:, None].to(view.dtype), 3, 1, 1, count_include_pad=False)
    # Finer texels than the picture's pixels would alias.
    read = mesh.camera.resized(min(texels, round(mesh.camera.size * camera.focal / mesh.camera.focal)))
    return Look(to_grid(project(points, read), read), read.size, nearest[0].to(view.dtype), hit, cover)


def show(mesh: Mesh, lit: Float[Tensor, "3 t t"], view: Float[Tensor, 6], camera: Camera) -> Shown:
    """What the camera sees of a mesh with this texture from a view."""
    return look(mesh, lit.shape[-1], view, camera).painted(lit)
