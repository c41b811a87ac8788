"""Whether the values of a category are of the types and in the ranges that runs can use."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from g2s_cli.config import Category, Preset
from g2s_cli.geometry.camera import MAX_FOV_DEG, MIN_FOV_DEG
from g2s_cli.geometry.rasterizer import VIEW_FAR, VIEW_NEAR
from g2s_cli.value_types import check_type

MIN_PX, MAX_PX = 4, 4096  # of images and depth, powers of two
MAX_PLACE = 10.0  # of points and lengths that are normalised to the image's side
MAX_VIEW = 1.5  # of the mean view in network units: 90 degrees
MIN_EIGENVALUE = -1e-2  # of a covariance whose numbers are rounded


def check_category(category: Category) -> None:
    """Raise TypeError for a value of another type, ValueError for one out of range."""
    check_type(category, Category, "")
    for text, holds in _rules(category):
        if not holds:
            raise ValueError(text)


def _rules(category: Category) -> Iterator[tuple[str, bool]]:
    """What must hold, in an order in which a rule may rely on those before it."""
    shape, lights, points = category.ellipsoid, category.lights, category.face_template
    depths = (VIEW_NEAR, category.near, shape.near, shape.far, category.far, VIEW_FAR)
    yield (
        f"near and far do not lie between {VIEW_NEAR} and {VIEW_FAR}, the first before the second, those of the "
        "ellipsoid between them",
        list(depths) == sorted(depths) and category.near < category.far and shape.near < shape.far,
    )
    for name, size in (("image_size", category.image_size), ("working_size", category.working_size)):
        yield f"{name} is no power of two from {MIN_PX} to {MAX_PX}", _is_size(size)
    yield "crop is not between 0 and crop_of", 0 < category.frame_share <= 1
    fov = f"fov_deg is not between {MIN_FOV_DEG} and {MAX_FOV_DEG:g}"
    yield fov, MIN_FOV_DEG <= category.fov_deg <= MAX_FOV_DEG
    yield "ellipsoid.radius is not between 0 and 1", 0 < shape.radius <= 1
    yield "ellipsoid.shrink_sides is not between 0 and 0.5", 0 <= shape.shrink_sides < 0.5
    lengths = (shape.raise_top, shape.extend_bottom, shape.shift, shape.bulge)
    yield "a length of the ellipsoid is out of range", max(map(abs, lengths)) <= MAX_PLACE
    if category.view_mean is not None:
        rows = [len(row) for row in category.view_covariance or ()]
        yield "views.mean and views.covariance are not of 6 numbers", [len(category.view_mean), *rows] == [6] * 7
        yield "views.mean turns too far", max(map(abs, category.view_mean)) <= MAX_VIEW
        covariance = np.array(category.view_covariance)
        yield (
            "views.covariance is no covariance",
            bool(np.abs(covariance).max() <= MAX_VIEW and np.linalg.eigvalsh(covariance).min() >= MIN_EIGENVALUE),
        )
    yield "views.yaw_stretch is out of range", 0 < category.yaw_stretch <= MAX_PLACE
    ranges = (lights.x, lights.y, lights.diffuse, (lights.alpha, lights.alpha))
    yield (
        "the lights are no ranges, the lower end first",
        all(-MAX_PLACE <= low <= high <= MAX_PLACE for low, high in ranges),
    )
    yield "there are no presets", bool(category.presets)
    for name, preset in (*category.presets.items(), *_pretraining(category)):
        schedule = preset.schedule
        yield f"{name} has no candidates", preset.candidates > 0
        if schedule:
            yield f"{name} has an empty batch", schedule.batch > 0
            yield f"{name} has a negative rate", min(schedule.rate, schedule.decay, schedule.offset_weight) >= 0
    if points:
        spots = np.array(points.points)
        spread = np.ptp(spots[:, :2], axis=0).max()
        yield "align.points are no points of a face in the image", bool(np.abs(spots).max() <= MAX_PLACE and spread > 0)
    if category.release:
        yield "release has no parts", bool(category.release.parts)


def _pretraining(category: Category) -> list[tuple[str, Preset]]:
    return [("pretrain", category.pretraining.preset)] if category.pretraining else []


def _is_size(pixels: int) -> bool:
    return MIN_PX <= pixels <= MAX_PX and math.log2(pixels).is_integer()
