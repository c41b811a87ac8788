"""The rounded back of a surface, behind what one view shows of it.

Seen from that view the back has the surface's own outline. It falls back from the outline's depth like an inflated
body, at most by a height; below, where a photo cuts a bust off, the body goes on.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor
from torch.nn.functional import max_pool2d

from g2s_cli.geometry.camera import project_points, view_to_canonical
from g2s_cli.geometry.rasterizer import rasterize
from g2s_cli.geometry.resample import inpaint
from g2s_cli.geometry.warp import grid_sample, normalize_pixels
from g2s_cli.mesh.extend import inflate
from g2s_cli.mesh.extract import FLIP, Back, Mesh, boundary_edges, face_edges, transform_mesh

RESOLUTION = 160  # pixels a side, of the outline that is inflated
EDGE_PX = 4.0  # height of the outline's own roughness
CUT = 0.08  # of the image's side above an outline's lowest point, where it is a cut rather than an outline
MIN_THICKNESS = 0.002  # scene units between front and back
BACK_TEXELS, RIM_TEXELS = 128, 3  # of the texture of a back, a side; and of the rim that its colours are from
CUT_PX = 2  # from the outline's continuation, within which front and back are apart


def back_surface(mesh: Mesh) -> tuple[Float[ndarray, "n 3"], Int[ndarray, "m 3"]]:
    """Vertices and triangles of the back alone."""
    used, faces = np.unique(mesh.closed.faces[len(mesh.faces) :], return_inverse=True)
    return mesh.closed.vertices[used], faces.reshape(-1, 3)


def close_round(mesh: Mesh) -> Mesh:
    """The mesh with its back: its own vertices and triangles first. It is watertight; a mesh without a back stays."""
    if mesh.back is None:
        return mesh
    count = len(mesh.vertices)
    edges, outer = face_edges(mesh.faces), boundary_edges(mesh.faces)
    edges, chords = edges[outer], edges[~outer]
    behind, at_rim = _push_back(mesh, mesh.back, np.unique(edges))
    at_rim[chords[at_rim[chords].all(axis=1)]] = False  # front and back would share the edge across the surface, too
    vertex = np.where(at_rim, np.arange(count), np.arange(count) + count)
    a, b = edges.T
    walls = np.concatenate((np.stack((b, a, vertex[a]), axis=1), np.stack((b, vertex[a], vertex[b]), axis=1)))
    walls = walls[(walls != np.roll(walls, 1, axis=1)).all(axis=1)]
    position = np.concatenate((np.arange(count), count + np.cumsum(~at_rim) - 1))
    faces = position[np.concatenate((vertex[mesh.faces[:, ::-1]], walls))]
    return replace(
        mesh,
        vertices=np.concatenate((mesh.vertices, behind[~at_rim])),
        faces=np.concatenate((mesh.faces, faces)),
        back=None,
    )


def rim_texels(mesh: Mesh) -> Float[Tensor, "r r"]:
    """1 at the texels next to the mesh's outline, from inside."""
    _, z_buffer = rasterize(*transform_mesh(mesh, torch.zeros(6)), mesh.camera.resize(BACK_TEXELS))
    inside = z_buffer.isfinite().float()
    inner = -max_pool2d(-inside, 3, 1, 1)
    return (inner + max_pool2d(-inner, 2 * RIM_TEXELS + 1, 1, RIM_TEXELS))[0]


def _push_back(
    mesh: Mesh, back: Back, boundary: Int[ndarray, " r"]
) -> tuple[Float[ndarray, "n 3"], Bool[ndarray, " n"]]:
    """Each vertex moved to the back along the view's ray, and which of them front and back share."""
    camera = mesh.camera.resize(RESOLUTION)
    points, faces = transform_mesh(mesh, back.view)
    pixels, depth, rim = project_points(points, camera), points[0, :, 2].float(), torch.from_numpy(boundary)
    _, z_buffer = rasterize(points, faces, camera)
    inside = z_buffer[0].isfinite()
    domain = _continue_below(inside)
    height = inflate(domain, torch.ones_like(depth[:1]).expand(domain.shape), EDGE_PX)
    limit = back.height * camera.focal
    height = limit * (height / limit).tanh() / camera.focal

    column, row = pixels[0, rim].round().long().clamp(0, camera.size - 1).T
    sums = torch.zeros(2, camera.size, camera.size).index_put_(
        (torch.arange(2)[:, None], row, column), torch.stack((depth[rim], torch.ones(len(rim)))), accumulate=True
    )
    rim_depth = inpaint(sums[:1] / sums[1:].clamp(min=1), sums[1].clamp(max=1))[0]
    cut = max_pool2d((domain & ~inside).float()[None], 2 * CUT_PX + 1, 1, CUT_PX)[0]

    maps, grid = torch.stack((rim_depth + height, cut))[None], normalize_pixels(pixels[None].float(), camera)
    behind, near_cut = grid_sample(maps, grid, padding_mode="border")[0, :, 0]
    moved = points * (torch.maximum(behind, depth + MIN_THICKNESS) / depth)[None, :, None]
    canonical = view_to_canonical(moved[None], back.view[None].cpu().double(), mesh.camera)[0, 0].numpy()
    at_rim = np.zeros(len(depth), dtype=bool)
    at_rim[boundary] = (near_cut[rim] == 0).numpy()
    return (canonical - (0.0, 0.0, mesh.camera.pivot)) * FLIP, at_rim


def _continue_below(inside: Bool[Tensor, "h h"]) -> Bool[Tensor, "h h"]:
    """An outline that goes on below where it is cut off."""
    rows = torch.arange(len(inside))[:, None]
    lowest = torch.where(inside, rows, -1).amax(dim=0)
    return inside | ((lowest > lowest.max() - CUT * len(inside)) & (rows > lowest))
