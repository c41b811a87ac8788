"""The z-buffer against geometry worked out by hand."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest

from g2s_cli.errors import UsageError
from recipes.synface.raster import NO_FACE, interpolate_attributes, rasterize, vertex_normals

SIZE = 16


def seen(points: list[list[float]], triangles: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    return rasterize(np.array(points, np.float32), np.array(triangles, np.int32), SIZE)


def test_a_triangle_covers_the_pixels_whose_centres_it_holds() -> None:
    depth, shown = seen([[1.5, 1.5, 2], [12.5, 1.5, 2], [1.5, 12.5, 2]], [[0, 1, 2]])
    y, x = np.mgrid[:SIZE, :SIZE]
    held = (x > 1.5) & (y > 1.5) & (x + y <= 14)
    np.testing.assert_array_equal(shown == 0, held)
    np.testing.assert_allclose(depth[held], 2, rtol=1e-6)
    assert (depth[~held] == np.inf).all()
    assert (shown[~held] == NO_FACE).all()


def test_both_sides_are_seen() -> None:
    corners = [[1.5, 1.5, 2], [12.5, 1.5, 2], [1.5, 12.5, 2]]
    np.testing.assert_array_equal(seen(corners, [[0, 1, 2]])[1], seen(corners, [[0, 2, 1]])[1])


@pytest.mark.parametrize("nearer_first", [True, False])
def test_the_nearer_of_two_is_seen(nearer_first: bool) -> None:
    square = [[0, 0], [20, 0], [0, 20]]
    order = [[3, 4, 5], [0, 1, 2]] if nearer_first else [[0, 1, 2], [3, 4, 5]]
    far, near = [[*corner, 3.0] for corner in square], [[x / 2, y / 2, 1.0] for x, y in square]
    depth, shown = seen(far + near, order)
    y, x = np.mgrid[:SIZE, :SIZE]
    inner = x + y <= 10
    np.testing.assert_array_equal(shown == (0 if nearer_first else 1), inner)
    np.testing.assert_allclose(depth[inner], 1, rtol=1e-6)
    np.testing.assert_allclose(depth[~inner & (x + y <= 20)], 3, rtol=1e-6)


def test_two_that_cross_share_the_picture_where_their_depths_meet() -> None:
    # 1/z is linear over the picture: it rises with x on one and falls on the other, and they meet in its middle.
    rising, falling = [1 / 1, 1 / 2], [1 / 2, 1 / 1]
    points = [[x, y, 1 / ends[x > 0]] for ends in (rising, falling) for x in (-0.5, 15.5) for y in (-40, 60)]
    _, shown = seen(points, [[0, 1, 2], [1, 3, 2], [4, 5, 6], [5, 7, 6]])
    assert (shown[:, :8] <= 1).all()
    assert (shown[:, 8:] >= 2).all()


def test_no_pixel_falls_between_two_triangles() -> None:
    _, shown = seen([[2, 2, 1], [13, 2, 1], [13, 13, 1], [2, 13, 1]], [[0, 1, 2], [0, 2, 3]])
    assert (shown != NO_FACE).sum() == 12 * 12  # edges and diagonal go through centres of pixels


def test_what_is_outside_or_has_no_area_is_not_seen() -> None:
    outside = [[-9, -9, 1], [-2, -9, 1], [-9, -2, 1], [30, 30, 1], [40, 30, 1], [30, 40, 1]]
    line = [[2, 2, 1], [5, 5, 1], [9, 9, 1]]
    _, shown = seen(outside + line, [[0, 1, 2], [3, 4, 5], [6, 7, 8]])
    assert (shown == NO_FACE).all()


def test_depth_and_values_are_those_of_the_plane_that_a_ray_meets() -> None:
    centre, focal = (SIZE - 1) / 2, 20.0
    corners = np.array([[-1.0, -0.8, 1.5], [1.4, -0.9, 4.0], [-0.2, 1.6, 2.5]])
    points = np.stack([corners[:, 0] / corners[:, 2], corners[:, 1] / corners[:, 2]], 1) * focal + centre
    points = np.column_stack([points, corners[:, 2]]).astype(np.float32)
    triangles = np.array([[0, 1, 2]], np.int32)
    depth, shown = rasterize(points, triangles, SIZE)
    found = interpolate_attributes(points, triangles, shown, corners.astype(np.float32))

    y, x = np.nonzero(shown == 0)
    rays = np.stack([(x - centre) / focal, (y - centre) / focal, np.ones(len(x))])
    normal = np.cross(corners[1] - corners[0], corners[2] - corners[0])
    hits = rays * (normal @ corners[0] / (normal @ rays))
    assert len(x) > 40
    np.testing.assert_allclose(depth[shown == 0], hits[2], rtol=1e-5)
    np.testing.assert_allclose(found, hits, atol=2e-5)


def test_normals_are_means_weighed_by_area() -> None:
    # Vertex 0 is shared by a triangle that faces z and one, twice as large, that faces x; vertex 5 by none.
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 2, 0], [0, 0, 1], [7, 7, 7]], np.float32)
    found = vertex_normals(vertices, np.array([[0, 1, 2], [0, 3, 4]], np.int32))
    expected = [np.array([2, 0, 1]) / 5**0.5, [0, 0, 1], [0, 0, 1], [1, 0, 0], [1, 0, 0], [0, 0, 0]]
    np.testing.assert_allclose(found, np.array(expected), atol=1e-6)


def test_without_numba_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "recipes.synface.raster")
    with pytest.raises(UsageError, match=r"needs numba\. Install it: pip install -e '\.\[recipe\]'"):
        importlib.import_module("recipes.synface.raster")
