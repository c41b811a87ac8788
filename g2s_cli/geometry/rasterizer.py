"""A z-buffer in plain PyTorch: the nearest surface at every pixel centre, differentiable, batched, on CPU and GPU.

PyTorch3D's takes its place where the environment variable G2S_RASTERIZER says so, which worker processes inherit.

Each triangle is tested only at the pixel centres inside its bounding box. A grid triangle is about a pixel large, so
the work grows with the pixels, not with faces x pixels: a ragged list of (triangle, pixel) candidates, one
scatter-minimum, two gathers.
"""

from __future__ import annotations

import os
from typing import get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from g2s_cli.errors import UsageError
from g2s_cli.geometry import RASTERIZER_VARIABLE, Rasterizer, pytorch3d
from g2s_cli.geometry.camera import Camera, canonical_to_view, project_points, unproject_points

# Depths of a view are clamped to this range (the authors' clamp); the far end is where there is no surface.
VIEW_NEAR, VIEW_FAR = 0.8, 1.2

# Triangles seen at less than this cosine pass no gradient: d depth / d vertex grows as its inverse square.
GRAZING = 0.05


def has_surface(depth: Float[Tensor, "*b h w"]) -> Bool[Tensor, "*b h w"]:
    """Where a depth that was rendered in a view is a surface's."""
    return depth < VIEW_FAR


def grid_faces(height: int, width: int, device: torch.device) -> Int[Tensor, "t 3"]:
    """Vertex indices of the two triangles of every grid cell, split from its top right to its bottom left corner."""
    index = torch.arange(height * width, device=device).view(height, width)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    upper, lower = torch.stack((a, b, c), dim=-1), torch.stack((b, d, c), dim=-1)
    return torch.cat((upper.reshape(-1, 3), lower.reshape(-1, 3)))


@torch.no_grad()
def rasterize(
    vertices: Float[Tensor, "b n 3"], faces: Int[Tensor, "t 3"], camera: Camera
) -> tuple[Int[Tensor, "b h w"], Float[Tensor, "b h w"]]:
    """Find the nearest triangle of each mesh at each pixel centre.

    Args:
        vertices: in the camera's frame, all with z > 0.
        faces: shared by the batch; both sides are visible.

    Returns:
        The index of the triangle (of equally near ones the last), -1 where there is none, and its depth in scene units
        (perspective-correct), +inf where there is none.

    Raises:
        UsageError: G2S_RASTERIZER names none, or one that is not installed.
    """
    return {"torch": _rasterize, "pytorch3d": pytorch3d.rasterize}[_chosen()](vertices, faces, camera)


def _chosen() -> str:
    """The name of the rasterizer. Raises UsageError."""
    name = os.environ.get(RASTERIZER_VARIABLE, "torch")
    if name not in get_args(Rasterizer):
        names = " or ".join(get_args(Rasterizer))
        raise UsageError(f"There is no rasterizer {name!r} ({RASTERIZER_VARIABLE}).", f"Use {names}.")
    return name


def _rasterize(
    vertices: Float[Tensor, "b n 3"], faces: Int[Tensor, "t 3"], camera: Camera
) -> tuple[Int[Tensor, "b h w"], Float[Tensor, "b h w"]]:
    batch, size = len(vertices), camera.size
    # How far outside a triangle a pixel centre still counts: closes the cracks that rounding leaves between triangles.
    # In pixels and in barycentric units alike.
    slack = 64 * torch.finfo(vertices.dtype).eps
    corners = vertices[:, faces].reshape(-1, 3, 3)
    pixels = project_points(corners, camera)
    first = (pixels.amin(dim=1) - slack).ceil().clamp(min=0).long()
    last = (pixels.amax(dim=1) + slack).floor().clamp(max=size - 1).long()
    extent = (last - first + 1).clamp(min=0)
    counts = extent.prod(dim=1)

    # One row a (triangle, pixel centre in its bounding box); `step` counts the pixels inside the box.
    owner = torch.repeat_interleave(counts)
    step = torch.arange(len(owner), device=vertices.device) - (counts.cumsum(0) - counts)[owner]
    columns = extent[owner, 0]
    x = first[owner, 0] + step % columns
    y = first[owner, 1] + torch.div(step, columns, rounding_mode="floor")

    (ax, ay), (bx, by), (cx, cy) = (pixels[:, k].unbind(1) for k in range(3))
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    inverse = torch.where(area == 0, torch.zeros_like(area), 1 / area)
    # Barycentric weights and 1/z are affine over the image: value = at_a + slope_x (x - ax) + slope_y (y - ay).
    wb_x, wb_y = (cy - ay) * inverse, (ax - cx) * inverse
    wc_x, wc_y = (ay - by) * inverse, (bx - ax) * inverse
    za, zb, zc = (1 / corners[:, :, 2]).unbind(1)
    plane = torch.stack((ax, ay, wb_x, wb_y, wc_x, wc_y, za, zb - za, zc - za), dim=1)[owner]
    px, py, wb_x, wb_y, wc_x, wc_y, za, zb, zc = plane.unbind(1)
    dx, dy = x.to(px.dtype) - px, y.to(py.dtype) - py
    weight_b, weight_c = wb_x * dx + wb_y * dy, wc_x * dx + wc_y * dy
    inside = ((weight_b >= -slack) & (weight_c >= -slack) & (weight_b + weight_c <= 1 + slack)) & (area != 0)[owner]

    owner, x, y = owner[inside], x[inside], y[inside]
    depth = 1 / (za + weight_b * zb + weight_c * zc)[inside]
    mesh = torch.div(owner, len(faces), rounding_mode="floor")
    slot = (mesh * size + y) * size + x
    z_buffer = depth.new_full((batch * size * size,), torch.inf).scatter_reduce_(0, slot, depth, "amin")
    wins = depth == z_buffer[slot]
    # Of equally near triangles the last wins, so that the result does not depend on the number of threads.
    face = torch.full_like(z_buffer, -1, dtype=torch.long)
    face.scatter_reduce_(0, slot[wins], (owner - mesh * len(faces))[wins], "amax")
    return face.view(batch, size, size), z_buffer.view(batch, size, size)


def interpolate(
    pixels: Float[Tensor, "p 2"], corners: Float[Tensor, "*b p 3 3"], values: Float[Tensor, "*b p 3 c"], camera: Camera
) -> Float[Tensor, "*b p c"]:
    """Perspective-correct interpolation of the values at the corners of the triangle that each pixel shows.

    Args:
        pixels: coordinates (i, j).
        corners: of the triangles, in the camera's frame.
        values: at the corners.
    """
    a, b, c = project_points(corners, camera).unbind(dim=-2)
    weight_b, weight_c, area = _cross(pixels - a, c - a), _cross(b - a, pixels - a), _cross(b - a, c - a)
    weights = torch.stack((area - weight_b - weight_c, weight_b, weight_c), dim=-1) / corners[..., 2]
    weights = weights / weights.sum(dim=-1, keepdim=True)
    return (weights.unsqueeze(-1) * values).sum(dim=-2)


def _cross(a: Float[Tensor, "*b 2"], b: Float[Tensor, "*b 2"]) -> Float[Tensor, "*b"]:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def render_depth(
    depth: Float[Tensor, "b h w"], view: Float[Tensor, "b 6"], camera: Camera, margin: int = 0
) -> Float[Tensor, "b h w"]:
    """Render the depth of a canonical depth map in a view: `render_grid_depth` of its transformed points.

    margin: pixels by which the surface continues beyond the canonical frame, at the depth of its border. An object that
    the frame cuts off (a neck, hair) then does not end there when it turns.
    """
    grid = pad(depth.unsqueeze(1), (margin,) * 4, mode="replicate")[:, 0] if margin else depth
    return render_grid_depth(canonical_to_view(unproject_points(grid, camera, margin), view, camera), camera)


def render_grid_depth(points: Float[Tensor, "b v u 3"], camera: Camera) -> Float[Tensor, "b h w"]:
    """Render the depth of the surface through a grid of points.

    Differentiable: which triangle a pixel shows is constant, its depth is that of the pixel's ray on the triangle's
    plane, z = n·a / n·ray.

    Returns:
        Depth clamped to [0.8, 1.2] scene units, exactly 1.2 where there is no surface.
    """
    batch, size = len(points), camera.size
    faces = grid_faces(points.shape[1], points.shape[2], points.device)
    vertices = points.flatten(1, 2)
    face, _ = rasterize(vertices, faces, camera)
    hit = face >= 0
    index = faces[face.clamp(min=0)].view(batch, -1)
    corners = vertices.gather(1, index.unsqueeze(-1).expand(-1, -1, 3)).view(batch, size, size, 3, 3)
    a, b, c = corners.unbind(dim=-2)
    normal = torch.linalg.cross(b - a, c - a)
    facing = (normal * camera.rays(points)).sum(-1)
    grazing = facing.abs() < GRAZING * normal.norm(dim=-1).detach()
    surface = (normal * a).sum(-1) / torch.where(hit, facing, torch.ones_like(facing))
    surface = torch.where(grazing, surface.detach(), surface)
    return torch.where(hit, surface, torch.full_like(surface, VIEW_FAR)).clamp(VIEW_NEAR, VIEW_FAR)
