"""The albedo that reconstructs the photo with depth, view and light held fixed: its pixels without their shading."""

from __future__ import annotations

from dataclasses import replace

from g2s_cli.estimators.base import Observation
from g2s_cli.geometry.camera import Camera, canonical_to_view, rotation_matrix, unproject_points
from g2s_cli.geometry.factors import Factors
from g2s_cli.geometry.normals import depth_to_normals
from g2s_cli.geometry.render import render_depth_with_margin
from g2s_cli.geometry.resample import inpaint
from g2s_cli.geometry.shading import MIN_SHADING, diffuse_shading, lambert_shading, remove_shading
from g2s_cli.geometry.warp import grid_sample, points_to_grid

# The photo's weight rises from 0 at the first cosine between surface and ray to 1 at the second.
MIN_COSINE, FULL_COSINE = 0.1, 0.3
TOLERANCE = 0.03  # distance behind the nearest surface up to which a point is visible, scene units


def solve_albedo(factors: Factors, observation: Observation, camera: Camera) -> Factors:
    """The factors with the photo's albedo where it shows the object.

    Step 1 of the paper (3.1) fits A to the same end; with the other factors fixed the answer is in closed form
    (docs/experiments/albedo.md).

    Args:
        factors: with A's albedo, which stays where the photo does not show the object, in the tint of what it shows.
    """
    depth, view, light = factors.depth[None], factors.view[None], factors.light[None]
    points = canonical_to_view(unproject_points(depth, camera), view, camera)
    grid, normal = points_to_grid(points, camera), depth_to_normals(depth, camera)
    colours = grid_sample(observation.image[None], grid, padding_mode="border", mode="bicubic")[0].clamp(-1, 1)
    shading = lambert_shading(diffuse_shading(normal, light), light)[0]
    albedo = remove_shading(colours, shading.clamp(min=MIN_SHADING))

    outward = normal @ rotation_matrix(view)[0].T
    cosine = (outward * points).sum(dim=-1) / (points.norm(dim=-1) * outward.norm(dim=-1)).clamp(min=1e-6)
    frontal = ((cosine - MIN_COSINE) / (FULL_COSINE - MIN_COSINE)).clamp(0, 1)
    nearest = grid_sample(render_depth_with_margin(depth, view, camera)[None], grid, padding_mode="border")[0]
    inside = grid_sample(observation.mask[None, None], grid)[0]
    weight = inside * frontal * (points[..., 2] <= nearest + TOLERANCE)
    return replace(factors, albedo=factors.albedo + inpaint(albedo - factors.albedo, weight[0]))
