"""Where a square crop lies in a photo: a similarity, kept as what people can read off a picture.

Points of a photo are (column, row) with pixel centres at whole numbers. Points of a crop are shares of its sides, so
that they hold at every size: (0, 0) is its upper left corner, (1, 1) its lower right one, and pixel (i, j) of n has
its centre at ((i + 0.5) / n, (j + 0.5) / n).
"""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

# How far a head may be turned, and how finely that is tried: half a step moves a crop by a fifth of a percent.
MAX_YAW_DEG, YAW_STEP_DEG = 60.0, 0.5

Points = Float[np.ndarray, "k 2"]


@dataclass(frozen=True)
class Placement:
    """A square of a photo.

    x, y: its centre, in pixels of the photo. side: the length of its sides, in pixels. turn_rad: how far it is turned,
    clockwise as the photo is seen: what stands upright in the crop leans that far to the right in the photo.
    """

    x: float
    y: float
    side: float
    turn_rad: float = 0.0

    @classmethod
    def from_box(cls, left: float | int, top: float | int, side: float | int) -> Placement:
        """An upright square by its upper left corner, counted as image libraries count edges: 0 is the photo's own."""
        middle = side / 2 - 0.5
        return cls(left + middle, top + middle, float(side))

    @classmethod
    def fit(cls, shares: Points, points: Points) -> Placement:
        """The square in which `shares` lie nearest to `points` of the photo, in least squares (Umeyama, 1991).

        In the plane, and without reflection, a similarity is one complex factor and one complex shift, and the best
        factor is an ordinary regression.
        """
        template, found = (
            np.ascontiguousarray(p, dtype=np.float64).view(np.complex128)[:, 0] for p in (shares, points)
        )
        spread = template - template.mean()
        factor = np.vdot(spread, found) / np.vdot(spread, spread)
        centre = found.mean() + factor * (0.5 + 0.5j - template.mean())
        return cls(centre.real.item(), centre.imag.item(), abs(factor).item(), np.angle(factor).item())

    @property
    def _factor(self) -> complex:
        return self.side * complex(math.cos(self.turn_rad), math.sin(self.turn_rad))

    def to_photo(self, shares: Float[np.ndarray, "*k 2"]) -> Float[np.ndarray, "*k 2"]:
        """Points of the crop as points of the photo."""
        across, down = shares[..., 0] - 0.5, shares[..., 1] - 0.5
        moved = self._factor * (across + 1j * down)
        return np.stack((self.x + moved.real, self.y + moved.imag), axis=-1)

    def to_crop(self, points: Float[np.ndarray, "*k 2"]) -> Float[np.ndarray, "*k 2"]:
        """Points of the photo as points of the crop."""
        moved = ((points[..., 0] - self.x) + 1j * (points[..., 1] - self.y)) / self._factor
        return np.stack((moved.real + 0.5, moved.imag + 0.5), axis=-1)

    def direction_to_photo(self, x: float, y: float) -> tuple[float, float]:
        """A direction of the crop as the photo shows it; x to the right and y up, in both."""
        turned = complex(x, y) * cmath.rect(1, -self.turn_rad)
        return turned.real, turned.imag

    def direction_to_crop(self, x: float, y: float) -> tuple[float, float]:
        """A direction of the photo as the crop shows it; x to the right and y up, in both."""
        turned = complex(x, y) * cmath.rect(1, self.turn_rad)
        return turned.real, turned.imag

    def matrix(self, size: int) -> Float[np.ndarray, "2 3"]:
        """The affine map from pixels of the crop at `size` pixels a side to pixels of the photo."""
        origin, right, below = self.to_photo(np.array(((0.5, 0.5), (1.5, 0.5), (0.5, 1.5))) / size)
        return np.stack((right - origin, below - origin, origin), axis=1)

    def subsquare(self, start: float, length: float) -> Placement:
        """The square inside this one that begins `start` from its left and top and is `length` long, both in shares."""
        x, y = self.to_photo(np.array((start + length / 2,) * 2))
        return Placement(x.item(), y.item(), self.side * length, self.turn_rad)

    def scale(self, factor: float) -> Placement:
        """The same square in the photo enlarged by a factor. Its corner, not the first pixel's centre, stays put."""
        x, y = ((at + 0.5) * factor - 0.5 for at in (self.x, self.y))
        return Placement(x, y, self.side * factor, self.turn_rad)


@dataclass(frozen=True)
class FaceTemplate:
    """Where a category's crops have the five points of a face: eyes, tip of the nose, corners of the mouth.

    points: (x, y) each, in shares of the crop, left ones (as seen) first; (x, y, z) where the crop follows a point
    inside the head rather than the face, with z in the same unit, away from the camera, from the plane of the crop's
    centre. Then the head may be turned: a turned face does not lie in the middle of its crop.
    """

    points: tuple[tuple[float, ...], ...]

    def align(self, found: Float[np.ndarray, "5 2"]) -> Placement:
        """The square in which the points that were found in a photo lie as the template has them."""
        template = np.array(self.points)
        if template.shape[1] == 2:
            return Placement.fit(template, found)
        return Placement.fit(self._as_turned(template - (0.5, 0.5, 0), found), found)

    def _as_turned(self, solid: Float[np.ndarray, "5 3"], found: Float[np.ndarray, "5 2"]) -> Float[np.ndarray, "5 2"]:
        """The template of a head that is turned sideways as far as fits best; seen from afar, so without perspective.

        Not up or down: what a smile does to five points is what looking down does (docs/decisions/0009-alignment.md).
        """
        yaw = np.radians(np.arange(-MAX_YAW_DEG, MAX_YAW_DEG + YAW_STEP_DEG, YAW_STEP_DEG))[:, None]
        x, y, z = solid.T
        turned = x * np.cos(yaw) + z * np.sin(yaw) + 1j * y  # R_y, as in scene.camera
        spread = turned - turned.mean(axis=1, keepdims=True)
        wanted = (found - found.mean(axis=0)) @ (1, 1j)
        # How much of the found points' spread a similarity explains.
        explained = abs(spread.conj() @ wanted) ** 2 / (abs(spread) ** 2).sum(axis=1)
        best = turned[explained.argmax()]
        return np.stack((best.real, best.imag), axis=-1) + 0.5
