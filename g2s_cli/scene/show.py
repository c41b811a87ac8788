"""A textured mesh as a camera sees it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d

from g2s_cli.scene.camera import Camera, back_project, project, to_canonical
from g2s_cli.scene.mesh import Mesh, mesh_points
from g2s_cli.scene.render import on_white
from g2s_cli.scene.resample import shrunk
from g2s_cli.scene.visibility import nearest_triangle
from g2s_cli.scene.warp import sample, to_grid


@dataclass(frozen=True)
class Shown:
    """A picture of a mesh: its colours in [-1, 1], and how much of each pixel it covers."""

    image: Float[Tensor, "3 h w"]
    cover: Float[Tensor, "h w"]

    @property
    def on_white(self) -> Float[Tensor, "3 h w"]:
        """The object alone."""
        return on_white(self.image, self.cover)


def show(mesh: Mesh, lit: Float[Tensor, "3 t t"], view: Float[Tensor, 6], camera: Camera) -> Shown:
    """What the camera sees of a mesh with this texture from a view."""
    _, nearest = nearest_triangle(*mesh_points(mesh, view), camera)
    hit = nearest.isfinite()
    depth = torch.where(hit, nearest, camera.far).to(lit.dtype)
    points = to_canonical(back_project(depth, camera), view[None], camera)
    # Finer texels than the picture's pixels would alias.
    texels = min(lit.shape[-1], round(mesh.camera.size * camera.focal / mesh.camera.focal))
    seen_by = mesh.camera.resized(texels)
    image = sample(shrunk(lit, texels)[None], to_grid(project(points, seen_by), seen_by), outside="border")
    # The outline lies between pixels: those on either side of it take part, with the colours next to them.
    hits = hit[:, None].to(lit.dtype)
    cover = avg_pool2d(hits, 3, 1, 1, count_include_pad=False)
    beside = avg_pool2d(hits * image, 3, 1, 1, count_include_pad=False) / cover.clamp(min=1e-6)
    return Shown(torch.where(hit[:, None], image, beside)[0], cover[0, 0])
