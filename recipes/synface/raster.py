"""A z-buffer: which triangle a pixel shows, how far away it is there, and what its corners' values come to.

The inner loops are compiled by numba when they are first used, and kept beside this file. They carry no shapes
for jaxtyping, which numba could not compile; the functions around them do.
"""

from __future__ import annotations

import math
from typing import no_type_check

import numpy as np
from jaxtyping import Float32, Int32

from g2s_cli.errors import UsageError

try:
    from numba import njit
except ImportError as error:
    raise UsageError("Rendering needs numba.", "Install it: pip install -e '.[recipe]'") from error

NO_FACE = -1  # the triangle of a pixel that shows none
LOOSE = {"reassoc", "contract", "arcp", "nsz"}  # rounding may differ from machine to machine; infinity stays infinity
EDGE = 1e-6  # how far outside a triangle still counts as in it, so that no pixel falls between two
THINNEST = 1e-12  # squared pixels, twice: what is seen edge-on has no pixel's centre in it, and weights without bounds


def vertex_normals(
    vertices: Float32[np.ndarray, "v 3"], triangles: Int32[np.ndarray, "t 3"]
) -> Float32[np.ndarray, "v 3"]:
    """Unit normals: the mean of a vertex's triangles' normals, weighed by area. Zero where it has no triangle."""
    return _vertex_normals(vertices, triangles)


def rasterize(
    points: Float32[np.ndarray, "v 3"], triangles: Int32[np.ndarray, "t 3"], size: int
) -> tuple[Float32[np.ndarray, "size size"], Int32[np.ndarray, "size size"]]:
    """Depth, and the number of the nearest triangle, seen at every pixel's centre.

    points: x and y in pixels, the centre of the first pixel at 0; depth z > 0 of a pinhole camera. Both sides of
    a triangle are seen. Where there is none the depth is infinite and the number `NO_FACE`.
    """
    return _rasterize(points, triangles, size)


def interpolate_attributes(
    points: Float32[np.ndarray, "v 3"],
    triangles: Int32[np.ndarray, "t 3"],
    shown: Int32[np.ndarray, "size size"],
    values: Float32[np.ndarray, "v c"],
) -> Float32[np.ndarray, "c p"]:
    """The vertices' values, perspective-correct, at the pixels that show a triangle, row by row."""
    return _interpolate_attributes(points, triangles, shown, values)


@njit(cache=True, fastmath=LOOSE)
@no_type_check
def _vertex_normals(v, f):
    sums = np.zeros_like(v)
    for i in range(f.shape[0]):
        a, b, c = f[i, 0], f[i, 1], f[i, 2]
        ux, uy, uz = v[b, 0] - v[a, 0], v[b, 1] - v[a, 1], v[b, 2] - v[a, 2]
        wx, wy, wz = v[c, 0] - v[a, 0], v[c, 1] - v[a, 1], v[c, 2] - v[a, 2]
        x, y, z = uy * wz - uz * wy, uz * wx - ux * wz, ux * wy - uy * wx
        for k in (a, b, c):
            sums[k, 0] += x
            sums[k, 1] += y
            sums[k, 2] += z
    for i in range(v.shape[0]):
        length = math.sqrt(sums[i, 0] ** 2 + sums[i, 1] ** 2 + sums[i, 2] ** 2) + 1e-9
        sums[i, 0] /= length
        sums[i, 1] /= length
        sums[i, 2] /= length
    return sums


@njit(cache=True, fastmath=LOOSE)
@no_type_check
def _rasterize(points, f, size):
    depth = np.full((size, size), np.inf, np.float32)
    shown = np.full((size, size), NO_FACE, np.int32)
    for i in range(f.shape[0]):
        a, b, c = f[i, 0], f[i, 1], f[i, 2]
        x0, x1, x2 = points[a, 0], points[b, 0], points[c, 0]
        y0, y1, y2 = points[a, 1], points[b, 1], points[c, 1]
        left, right = max(0, math.ceil(min(x0, x1, x2))), min(size - 1, math.floor(max(x0, x1, x2)))
        top, bottom = max(0, math.ceil(min(y0, y1, y2))), min(size - 1, math.floor(max(y0, y1, y2)))
        if left > right or top > bottom:
            continue
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if abs(area) < THINNEST:
            continue
        z0, z1, z2 = points[a, 2], points[b, 2], points[c, 2]
        nearest = min(z0, z1, z2) * (1 - 2 * EDGE)
        per_area = 1 / area
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                if nearest > depth[y, x]:
                    continue
                w1 = ((x - x0) * (y2 - y0) - (x2 - x0) * (y - y0)) * per_area
                w2 = ((x1 - x0) * (y - y0) - (x - x0) * (y1 - y0)) * per_area
                w0 = 1 - w1 - w2
                if w0 < -EDGE or w1 < -EDGE or w2 < -EDGE:
                    continue
                z = 1 / (w0 / z0 + w1 / z1 + w2 / z2)
                if z < depth[y, x]:
                    depth[y, x] = z
                    shown[y, x] = i
    return depth, shown


@njit(cache=True, fastmath=LOOSE)
@no_type_check
def _interpolate_attributes(points, f, shown, values):
    out = np.empty((values.shape[1], np.sum(shown != NO_FACE)), np.float32)
    p = 0
    for y in range(shown.shape[0]):
        for x in range(shown.shape[1]):
            if shown[y, x] == NO_FACE:
                continue
            i = shown[y, x]
            a, b, c = f[i, 0], f[i, 1], f[i, 2]
            x0, y0 = points[a, 0], points[a, 1]
            x1, y1 = points[b, 0], points[b, 1]
            x2, y2 = points[c, 0], points[c, 1]
            area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
            w1 = ((x - x0) * (y2 - y0) - (x2 - x0) * (y - y0)) / area
            w2 = ((x1 - x0) * (y - y0) - (x - x0) * (y1 - y0)) / area
            n0, n1, n2 = (1 - w1 - w2) / points[a, 2], w1 / points[b, 2], w2 / points[c, 2]
            z = 1 / (n0 + n1 + n2)
            for k in range(values.shape[1]):
                out[k, p] = (n0 * values[a, k] + n1 * values[b, k] + n2 * values[c, k]) * z
            p += 1
    return out
