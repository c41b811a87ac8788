"""Where a square crop lies in a photo: a similarity transform.

Photo points are (column, row) with pixel centres at integers. Crop points are normalised to the crop's sides, so that
they hold at every size: (0, 0) is the upper left corner, (1, 1) the lower right one, and pixel (i, j) of n has its
centre at ((i + 0.5) / n, (j + 0.5) / n).
"""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

# Range and step of the yaw search of `FaceTemplate.align`; half a step moves a crop by 0.2 %.
MAX_YAW_DEG, YAW_STEP_DEG = 60.0, 0.5

Points = Float[np.ndarray, "k 2"]


@dataclass(frozen=True)
class Placement:
    """A square of a photo. turn_rad: what is upright in the crop leans to the right in the photo."""

    x: float  # column of the centre, photo pixels
    y: float  # row of the centre
    side: float  # photo pixels
    turn_rad: float = 0.0  # clockwise

    @classmethod
    def from_box(cls, left: float | int, top: float | int, side: float | int) -> Placement:
        """An upright square by its upper left corner, as image libraries count: 0 is the photo's edge."""
        middle = side / 2 - 0.5
        return cls(left + middle, top + middle, float(side))

    @classmethod
    def fit(cls, crop_points: Points, photo_points: Points) -> Placement:
        """The least-squares similarity from crop points to photo points (Umeyama 1991).

        A similarity of the plane without reflection is z -> factor z + shift in complex numbers, so this is an ordinary
        regression.
        """
        source, target = (
            np.ascontiguousarray(points, dtype=np.float64).view(np.complex128)[:, 0]
            for points in (crop_points, photo_points)
        )
        spread = source - source.mean()
        factor = np.vdot(spread, target) / np.vdot(spread, spread)
        centre = target.mean() + factor * (0.5 + 0.5j - source.mean())
        return cls(centre.real.item(), centre.imag.item(), abs(factor).item(), np.angle(factor).item())

    @property
    def _factor(self) -> complex:
        return self.side * complex(math.cos(self.turn_rad), math.sin(self.turn_rad))

    def to_photo(self, crop_points: Float[np.ndarray, "*k 2"]) -> Float[np.ndarray, "*k 2"]:
        """Crop points to photo points."""
        across, down = crop_points[..., 0] - 0.5, crop_points[..., 1] - 0.5
        moved = self._factor * (across + 1j * down)
        return np.stack((self.x + moved.real, self.y + moved.imag), axis=-1)

    def to_crop(self, photo_points: Float[np.ndarray, "*k 2"]) -> Float[np.ndarray, "*k 2"]:
        """Photo points to crop points."""
        moved = ((photo_points[..., 0] - self.x) + 1j * (photo_points[..., 1] - self.y)) / self._factor
        return np.stack((moved.real + 0.5, moved.imag + 0.5), axis=-1)

    def direction_to_photo(self, x: float, y: float) -> tuple[float, float]:
        """A direction in the crop as one in the photo; x right and y up in both."""
        rotated = complex(x, y) * cmath.rect(1, -self.turn_rad)
        return rotated.real, rotated.imag

    def direction_to_crop(self, x: float, y: float) -> tuple[float, float]:
        """The inverse of `direction_to_photo`."""
        rotated = complex(x, y) * cmath.rect(1, self.turn_rad)
        return rotated.real, rotated.imag

    def matrix(self, size: int) -> Float[np.ndarray, "2 3"]:
        """The affine matrix from pixels of the crop, `size` a side, to pixels of the photo."""
        origin, right, below = self.to_photo(np.array(((0.5, 0.5), (1.5, 0.5), (0.5, 1.5))) / size)
        return np.stack((right - origin, below - origin, origin), axis=1)

    def subsquare(self, start: float, length: float) -> Placement:
        """The square inside this one at `start` from its left and its top, both normalised to the side."""
        x, y = self.to_photo(np.array((start + length / 2,) * 2))
        return Placement(x.item(), y.item(), self.side * length, self.turn_rad)

    def scale(self, factor: float) -> Placement:
        """The same square in the photo enlarged by a factor about its corner (not its first pixel's centre)."""
        x, y = ((centre + 0.5) * factor - 0.5 for centre in (self.x, self.y))
        return Placement(x, y, self.side * factor, self.turn_rad)


@dataclass(frozen=True)
class FaceTemplate:
    """Where a category's crops have the five points of a face: eyes, tip of the nose, corners of the mouth.

    points: crop points (x, y), the left one of a pair first (as seen). Or (x, y, z) where the crop follows a point
    inside the head, with z in the same unit, away from the camera, from the plane of the crop's centre: then a turned
    face need not lie in the middle of its crop.
    """

    points: tuple[tuple[float, ...], ...]

    def align(self, landmarks: Float[np.ndarray, "5 2"]) -> Placement:
        """The square in which the landmarks of a photo fit the template best."""
        template, _ = self._fit_yaw(landmarks)
        return Placement.fit(template, landmarks)

    def yaw_deg(self, landmarks: Float[np.ndarray, "5 2"]) -> float:
        """The yaw that fits the landmarks of a photo best; 0 for a template without depth.

        On photos of people it is too small beyond 30 degrees: near profiles give 35 to 43.
        """
        return self._fit_yaw(landmarks)[1]

    def _fit_yaw(self, landmarks: Float[np.ndarray, "5 2"]) -> tuple[Points, float]:
        """The template at the yaw that fits the landmarks best, without perspective, and that yaw in degrees.

        Pitch is not fitted: on five points, a smile looks like a downward pitch (docs/decisions/0009-alignment.md).
        """
        template = np.array(self.points)
        if template.shape[1] == 2:
            return template, 0.0
        yaw_deg = np.arange(-MAX_YAW_DEG, MAX_YAW_DEG + YAW_STEP_DEG, YAW_STEP_DEG)
        yaw = np.radians(yaw_deg)[:, None]
        x, y, z = (template - (0.5, 0.5, 0)).T
        candidates = x * np.cos(yaw) + z * np.sin(yaw) + 1j * y  # R_y as in `geometry.camera`
        spread = candidates - candidates.mean(axis=1, keepdims=True)
        target = (landmarks - landmarks.mean(axis=0)) @ (1, 1j)
        # The share of the landmarks' variance that a similarity explains, up to a factor.
        explained = abs(spread.conj() @ target) ** 2 / (abs(spread) ** 2).sum(axis=1)
        best = explained.argmax()
        turned = candidates[best]
        return np.stack((turned.real, turned.imag), axis=-1) + 0.5, yaw_deg[best].item()
