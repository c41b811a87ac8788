"""Places on the face: distances and polygons by hand, and that the markings are where they are called."""

from __future__ import annotations

import numpy as np

from recipes.synface.face_model import FaceModel
from recipes.synface.markings import LANDMARKS, LIPS, distance_to_line, inside


def test_distance_to_a_line_with_a_corner() -> None:
    line = np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 3.0]])
    points = np.array([[2.0, 1.0], [-3.0, 4.0], [6.0, 1.0], [4.0, 5.0], [1.0, 0.0]])
    np.testing.assert_allclose(distance_to_line(points, line), [1, 5, 2, 2, 0], atol=1e-9)


def test_inside_a_polygon_with_a_dent() -> None:
    arrow = np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 4.0], [2.0, 1.0], [0.0, 4.0]])
    points = np.array([[1.0, 1.0], [2.0, 0.5], [2.0, 3.0], [-1.0, 0.5], [5.0, 0.5], [0.2, 3.0]])
    np.testing.assert_array_equal(inside(points, arrow), [True, True, False, False, False, True])


def test_markings_are_where_they_are_called(model: FaceModel) -> None:
    marks, landmarks = model.markings, np.array(LANDMARKS)
    assert (marks.lips[landmarks[LIPS]] == 1).all()
    assert marks.brow_distance[landmarks[17:27]].max() < 1e-6
    assert (marks.eye_rims[landmarks[36:48]] > 0.99).all()
    assert marks.nose_tip[landmarks[33]] == 1
    chin, brow = landmarks[8], landmarks[19]
    assert marks.beard[chin] > 0.9
    assert marks.beard[brow] < 0.1
    assert marks.lips[[chin, brow]].max() < 1e-6
    assert not (marks.scalp & marks.face).any()
    left, right = model.vertices[marks.ears, 0] > 6, model.vertices[marks.ears, 0] < -6  # cm
    assert left.any()
    assert right.any()
    assert (left | right).all()
