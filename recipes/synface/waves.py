"""Smooth noise: the sum of a few cosine waves of random direction, length and phase."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32


@dataclass(frozen=True)
class Waves:
    """Wave vectors (radians a unit of length) and phases (radians)."""

    vectors: Float[np.ndarray, "n d"]
    phases: Float[np.ndarray, " n"]

    def at(self, points: Float32[np.ndarray, "p d"]) -> Float32[np.ndarray, " p"]:
        """The noise at points: zero on average, about 1/√n large."""
        turns = self.vectors.astype(np.float32) @ points.T
        turns += self.phases.astype(np.float32)[:, None]
        return np.cos(turns, out=turns).sum(0) * self._scale

    def on_grid(self, x: Float[np.ndarray, " w"], y: Float[np.ndarray, " h"]) -> Float32[np.ndarray, "h w"]:
        """The noise at every (x, y): cos(a + b) = cos a cos b - sin a sin b makes it one product of matrices."""
        across = np.outer(x, self.vectors[:, 0])
        down = np.outer(y, self.vectors[:, 1]) + self.phases
        left, right = np.hstack([np.cos(down), -np.sin(down)]), np.hstack([np.cos(across), np.sin(across)])
        return left.astype(np.float32) @ right.astype(np.float32).T * self._scale

    @property
    def _scale(self) -> np.float32:
        return np.float32(math.sqrt(2) / 1.4 / len(self.phases))


def draw_waves(rng: np.random.Generator, count: int, dimensions: int, frequency: float) -> Waves:
    """Waves of about `frequency` radians a unit of length."""
    return Waves(rng.normal(size=(count, dimensions)) * frequency, rng.uniform(0, 6.28, count))
