"""Whether the values of a category are of the types and in the ranges that runs can use."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from g2s_cli.config import Category
from g2s_cli.geometry.rasterizer import VIEW_FAR, VIEW_NEAR

MAX_COUNT = 10**9  # iterations, samples, pixels a side
MIN_PX, MAX_PX = 4, 4096  # of images and depth, powers of two
MAX_FOV_DEG = 120.0
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
    yield f"fov_deg is not between 0 and {MAX_FOV_DEG:g}", 0 < category.fov_deg <= MAX_FOV_DEG
    yield "ellipsoid.radius is not between 0 and 1", 0 < shape.radius <= 1
    yield "ellipsoid.shrink_sides is not between 0 and 0.5", 0 <= shape.shrink_sides < 0.5  # noqa: PLR2004
    lengths = (shape.raise_top, shape.extend_bottom, shape.shift, shape.bulge)
    yield "a length of the ellipsoid is out of range", max(map(abs, lengths)) <= MAX_PLACE
    if category.view_mean is not None:
        rows = [len(row) for row in category.view_covariance or ()]
        yield "views.mean and views.covariance are not of 6 numbers", [len(category.view_mean), *rows] == [6] * 7
        yield "views.mean turns too far", max(map(abs, category.view_mean)) <= MAX_VIEW
        covariance = np.array(category.view_covariance)
        yield "views.covariance is no covariance", bool(
            np.abs(covariance).max() <= MAX_VIEW and np.linalg.eigvalsh(covariance).min() >= MIN_EIGENVALUE
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


def _pretraining(category: Category) -> list[tuple[str, Any]]:
    return [("pretrain", category.pretraining.preset)] if category.pretraining else []


def _is_size(pixels: int) -> bool:
    return MIN_PX <= pixels <= MAX_PX and math.log2(pixels).is_integer()


def check_type(value: Any, kind: Any, name: str) -> None:
    """Raise TypeError, with its name, unless a value is of an annotated type, with all that is in it.

    Integers are counts, and floats are finite.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        if value is None and NoneType in inner:
            return
        [kind] = [one for one in inner if one is not NoneType]
        return check_type(value, kind, name)
    if origin is Literal:
        fits = any(value is one or value == one for one in inner)
    elif origin is tuple:
        fits = isinstance(value, tuple) and (inner[1:] == (...,) or len(value) == len(inner))
        for index, one in enumerate(value if fits else ()):
            check_type(one, inner[0 if inner[1:] == (...,) else index], f"{name}[{index}]")
    elif origin is dict:
        fits = isinstance(value, dict)
        for key, one in value.items() if fits else ():
            check_type(one, inner[1], f"{name}.{key}".lstrip("."))
    elif is_dataclass(kind):
        fits, hints = isinstance(value, kind), get_type_hints(kind)
        for one in fields(kind) if fits else ():
            check_type(getattr(value, one.name), hints[one.name], f"{name}.{one.name}".lstrip("."))
    elif kind is int:
        fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT
    elif kind is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    else:
        fits = isinstance(value, kind)
    if not fits:
        wanted = "number" if kind is float else "count" if kind is int else getattr(kind, "__name__", str(kind))
        text = repr(value)
        raise TypeError(f"{name} is {text if len(text) <= 60 else text[:60] + '...'}, no {wanted}")  # noqa: PLR2004
