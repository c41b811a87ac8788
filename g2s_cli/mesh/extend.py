"""The relief of a photo's tight crop, continued over the whole object in a wider frame of the photo.

Networks know the tight crop alone. Beyond it the object's outline says how far depth falls back: the relief is that of
an inflated outline, plus the difference to the crop's depth at and near the crop (docs/decisions/0029-whole-head.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d, pad

from g2s_cli.geometry.camera import Camera, rotation_matrix, unproject_points, view_to_canonical
from g2s_cli.geometry.factors import Factors
from g2s_cli.geometry.rasterizer import grid_faces, rasterize
from g2s_cli.geometry.render import mask_to_canonical, mask_to_view, render
from g2s_cli.geometry.resample import inpaint, window_mean

SMOOTHING_ROUNDS = 2
SWEEPS = 40  # of over-relaxation a level of the Poisson equation
# Tuned on shared/scan with true depth in the crop. Lengths are shares of the crop's side.
EDGE = 1 / 16  # height of the outline's own roughness
THICKNESS = (0.8, 1.2)  # least and largest ratio of the relief to the inflated outline
BODY_START, BODY_END = 0.75, 1.1  # rows of the crop between which a head becomes a body
BODY_SOURCE, BODY_OFFSET = 0.1, 0.25  # of a body: its source for `inflate`, and how far behind the head, in its height
CORRELATION, NOISE = 1 / 8, 0.1  # of the difference between crop and inflated outline; length, share of the variance
MAX_KNOTS = 400  # at which that difference is sampled
BORDER = 1 / 32  # width of the border columns of the networks' depth, which are far behind
RIM = 3 / 64  # width of the blend between the crop's depth and the rest
CREASE = 1 / 24  # radius of the mean that rounds creases outside the crop (docs/experiments/whole-head.md)
MAX_SLOPE_DEG = 70.0  # of the relief as the canonical camera sees it


@dataclass(frozen=True)
class Wide:
    """A wider frame of a photo around its tight crop.

    camera: of the wide frame, with the pixels of the tight crop's. domain: the object in it; beyond the photo's edges
    it goes on.
    """

    camera: Camera
    domain: Bool[Tensor, "h h"]


def extend_factors(
    factors: Factors, mask: Float[Tensor, "s s"], camera: Camera, wide: Wide
) -> tuple[Factors, Float[Tensor, "h h"]]:
    """Continue the factors of a tight crop over the object in a wide frame.

    Args:
        mask: the object in the tight crop, as the factors were fitted to it.
        camera: of the tight crop.

    Returns:
        Factors of the wide camera, whose canonical depth is that of `factors` where those show the object, and its
        support: 1 where the photo shows the canonical surface, else 0.
    """
    margin = (wide.camera.size - camera.size) // 2
    border, crop = (margin,) * 4, slice(margin, margin + camera.size)
    rendering = render(factors, camera)
    columns = (torch.arange(camera.size) + 0.5) / camera.size
    inner = ((columns - 0.5).abs() < 0.5 - BORDER).expand_as(mask).to(mask)
    fitted = rendering.valid & (mask >= 0.5) & (mask_to_view(inner, factors, camera) >= 0.5)
    fitted = -max_pool2d(-fitted.float()[None], 3, 1, 1)[0] >= 0.5
    known = pad(fitted, border) & wide.domain
    view_depth = extend_depth(pad(rendering.depth, border), known, wide.domain, crop, wide.camera)
    view_depth = limit_view_slope(view_depth, known, factors, wide.camera)
    view_depth = smooth_beyond(view_depth, known, wide.domain, camera.size)
    depth, seen = view_depth_to_canonical(view_depth, wide.domain, factors, wide.camera)
    tight = pad(factors.depth[None], border, mode="replicate")[0]
    known = _feather(pad(inner * mask_to_canonical(fitted.float(), factors, camera), border), camera.size)
    depth = torch.lerp(inpaint(depth[None], seen.float())[0], tight, known)
    albedo = inpaint(pad(factors.albedo, border), known)
    return Factors(depth, albedo, factors.view, factors.light), max_pool2d(seen.float()[None], 3, 1, 1)[0]


def extend_depth(
    depth: Float[Tensor, "h h"], known: Bool[Tensor, "h h"], domain: Bool[Tensor, "h h"], crop: slice, camera: Camera
) -> Float[Tensor, "h h"]:
    """Continue a depth map of the photo's view over an object's outline.

    Args:
        depth: scene units, used where `known`.
        domain: the object; at the photo's edges it goes on.
        crop: rows and columns of the tight crop.
        camera: of the depth map.

    Returns:
        The depth map itself inside `known`, blended over a rim; outside the domain, a plane far behind.
    """
    side = crop.stop - crop.start
    below = ((torch.arange(camera.size) - crop.start) / side - BODY_START) / (BODY_END - BODY_START)
    body = below.clamp(0, 1)[:, None].expand(camera.size, camera.size)
    height = inflate(domain, 1 - (1 - BODY_SOURCE) * body, EDGE * side) / camera.focal
    height = height - BODY_OFFSET * height[known].max() * body
    scale = (height[known] - height[known].mean()) @ depth[known] / height[known].var(correction=0) / -known.sum()
    scale = scale.clamp(*THICKNESS)
    prior = (depth[known] + scale * height[known]).mean() - scale * height
    extended = prior + _interpolate_smoothly(depth - prior, known, CORRELATION * side)
    return torch.lerp(extended, torch.where(known, depth, extended), _feather(known.float(), side))


def limit_view_slope(
    depth: Float[Tensor, "h h"], known: Bool[Tensor, "h h"], factors: Factors, camera: Camera
) -> Float[Tensor, "h h"]:
    """Bring a depth map of the photo's view nearer, outside `known`, until the canonical camera sees all of it.

    What the canonical camera does not see could have no texture of its own.
    """
    toward = rotation_matrix(factors.view[None])[0, :, 2]
    for axis in (0, 1):
        turn = math.atan2(toward[1 - axis].item(), toward[2].item())
        for sign in (1, -1):
            most = math.radians(MAX_SLOPE_DEG) - sign * turn
            step = math.tan(min(most, math.radians(MAX_SLOPE_DEG))) / camera.focal
            ramp = torch.arange(camera.size).to(depth) * step
            ramp = ramp[:, None] if axis == 0 else ramp
            flipped = depth if sign > 0 else depth.flip(axis)
            limited = (flipped - ramp).cummin(dim=axis).values + ramp
            depth = torch.where(known, depth, limited if sign > 0 else limited.flip(axis))
    return depth


def smooth_beyond(
    depth: Float[Tensor, "h h"], known: Bool[Tensor, "h h"], domain: Bool[Tensor, "h h"], side: int
) -> Float[Tensor, "h h"]:
    """Round the creases of a depth map between `known` and the outline. side: of the crop in pixels."""
    radius = round(CREASE * side)
    inside = domain.float()[None]
    smooth = depth[None]
    for _ in range(2):
        smooth = window_mean(smooth * inside, radius) / window_mean(inside, radius).clamp(min=1e-6)
    share = _feather(domain.float(), side) * (1 - _feather(known.float(), side))
    return torch.lerp(depth, smooth[0], share)


def view_depth_to_canonical(
    depth: Float[Tensor, "h h"], domain: Bool[Tensor, "h h"], factors: Factors, camera: Camera
) -> tuple[Float[Tensor, "h h"], Bool[Tensor, "h h"]]:
    """The depth of the surface that the photo's view shows, as the canonical camera sees it, and where it sees it."""
    points = view_to_canonical(unproject_points(depth[None], camera), factors.view[None], camera)
    faces = grid_faces(camera.size, camera.size, depth.device)
    around = max_pool2d(domain.float()[None], 3, 1, 1)[0] > 0
    _, z_buffer = rasterize(points.flatten(1, 2), faces[around.flatten()[faces].all(dim=1)], camera)
    seen = z_buffer[0].isfinite()
    depth = torch.where(seen, z_buffer[0], 0)
    for _ in range(SMOOTHING_ROUNDS):  # the grids' own roughness
        depth = torch.where(
            seen, window_mean(depth[None], 1)[0] / window_mean(seen.float()[None], 1)[0].clamp(min=1e-6), 0
        )
    return depth, seen


def _feather(mask: Float[Tensor, "h h"], side: int) -> Float[Tensor, "h h"]:
    """A mask that rises from 0 at its edge to 1 inside. side: of the crop in pixels."""
    radius = round(RIM * side)
    window = 2 * radius + 1
    return avg_pool2d(-max_pool2d(-mask[None], window, 1, radius), window, 1, radius)[0]


def _interpolate_smoothly(
    values: Float[Tensor, "h h"], known: Bool[Tensor, "h h"], length: float
) -> Float[Tensor, "h h"]:
    """Gaussian process regression with a squared exponential kernel of this length in pixels."""
    size = len(values)
    where = known.nonzero()
    knots = where[:: max(1, len(where) // MAX_KNOTS)]
    ticks = torch.arange(size).to(values)
    rows, columns = (torch.exp(-(ticks[:, None] - at).square() / (2 * length**2)) for at in knots.to(values).T)
    kernel = rows[knots[:, 0]] * columns[knots[:, 1]]
    ridge = NOISE * torch.eye(len(knots)).to(values)
    weights = torch.linalg.solve(kernel + ridge, values[knots[:, 0], knots[:, 1]])
    return (rows * weights) @ columns.T


def inflate(domain: Bool[Tensor, "h h"], source: Float[Tensor, "h h"], edge_px: float) -> Float[Tensor, "h h"]:
    """The height in pixels of a rounded body over an outline: the square root of h with -Δh = 4 source.

    h is zero at the outline; beyond the image's edge the body goes on. At a source of 1, a disc becomes half a sphere,
    whose last `edge_px` fall off less steeply: the outline's own pixels would make it a saw.
    """
    square = window_mean(_solve_poisson(domain.float(), 4 * source)[None], 1)[0].clamp(min=0)
    return (square + edge_px**2).sqrt() - edge_px


def _solve_poisson(domain: Float[Tensor, "h h"], source: Float[Tensor, "h h"]) -> Float[Tensor, "h h"]:
    """Solve -Δh = source with h = 0 outside the domain, from coarse to fine, by red-black over-relaxation."""
    size = len(domain)
    height = torch.zeros_like(source)
    if size > 8:
        half = [avg_pool2d(pad(one[None], (0, size % 2) * 2, mode="replicate"), 2)[0] for one in (domain, source)]
        coarse = _solve_poisson((half[0] >= 0.5).float(), 4 * half[1])
        height = interpolate(coarse[None, None], scale_factor=2, mode="bilinear")[0, 0, :size, :size] * domain
    odd = torch.arange(size)[:, None] + torch.arange(size) & 1
    rates = [2 / (1 + math.sin(math.pi / size)) * domain * (odd == colour) for colour in (0, 1)]
    for rate in SWEEPS * rates:
        around = pad(height[None], (1,) * 4, mode="replicate")[0]
        total = around[:-2, 1:-1] + around[2:, 1:-1] + around[1:-1, :-2] + around[1:-1, 2:]
        height = torch.lerp(height, (total + source) / 4, rate)
    return height
