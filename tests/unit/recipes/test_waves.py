"""Smooth noise: what the waves come to, at points and on a grid."""

from __future__ import annotations

import math

import numpy as np

from recipes.synface.waves import Waves, draw_waves


def test_one_wave() -> None:
    wave = Waves(np.array([[2.0, 0.0]]), np.array([0.5]))
    points = np.array([[0, 0], [1, 9], [math.pi, 3]], np.float32)
    expected = math.sqrt(2) / 1.4 * np.cos([0.5, 2.5, 0.5])
    np.testing.assert_allclose(wave.at(points), expected, atol=1e-6)


def test_a_grid_has_the_noise_of_its_points() -> None:
    waves = draw_waves(np.random.default_rng(1), 5, 2, 8.0)
    x, y = np.linspace(0, 1, 7), np.linspace(0, 2, 4)
    points = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2).astype(np.float32)
    np.testing.assert_allclose(waves.on_grid(x, y).ravel(), waves.at(points), atol=1e-5)


def test_noise_is_about_zero_and_about_as_large_as_said() -> None:
    waves = draw_waves(np.random.default_rng(2), 8, 2, 10.0)
    noise = waves.at(np.random.default_rng(3).uniform(0, 9, (4000, 2)).astype(np.float32))
    assert abs(noise.mean()) < 0.03
    assert 0.8 < noise.std() * math.sqrt(8) * 1.4 < 1.2
