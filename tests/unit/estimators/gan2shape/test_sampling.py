"""The moments and ranges of random views and lights."""

from __future__ import annotations

import math

import torch

from g2s_cli.config import LightRanges
from g2s_cli.estimators.gan2shape.sampling import ViewPrior, draw_lights

CPU = torch.device("cpu")
MANY = 20_000
MEAN = torch.tensor([-0.1, 0.05, 0.0, 0.02, 0.01, 0.0])
ROOT = torch.tensor(
    [
        [0.10, 0, 0, 0, 0, 0],
        [-0.02, 0.25, 0, 0, 0, 0],
        [0, 0.01, 0.02, 0, 0, 0],
        [0, -0.06, 0, 0.04, 0, 0],
        [0.03, 0, 0, 0, 0.02, 0],
        [0, 0, 0, 0, 0, 0],
    ]
)
VIEWS = ViewPrior(MEAN, ROOT @ ROOT.T, yaw_stretch=1.5)
LIGHTS = LightRanges(x=(-0.9, 0.9), y=(-0.3, 0.8), diffuse=(-0.1, 0.7), alpha=-0.4)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_views_have_the_moments_of_their_prior() -> None:
    scale = torch.tensor([math.pi / 3] * 3 + [0.1] * 2)
    code = VIEWS.draw(MANY, seeded(0), CPU)[:, :5] / scale
    code[:, 1] /= 1.5
    torch.testing.assert_close(code.mean(0), MEAN[:5], rtol=0, atol=0.01)
    torch.testing.assert_close(code.T.cov(), (ROOT @ ROOT.T)[:5, :5], rtol=0, atol=2e-3)


def test_nothing_is_shifted_along_the_line_of_sight() -> None:
    assert not VIEWS.draw(10, seeded(0), CPU)[:, 5].any()


def test_lights_fill_their_ranges() -> None:
    own = torch.tensor([0.4, 0.3, 0.8, -0.8])
    ambient, diffuse, x, y = draw_lights(LIGHTS, own, MANY, seeded(0)).T
    for drawn, (low, high) in ((x, (-0.9, 0.9)), (y, (-0.3, 0.8)), (diffuse - 0.3, (-0.1, 0.7))):
        assert low - 1e-6 <= drawn.min() < low + 0.01
        assert high - 0.01 < drawn.max() <= high + 1e-6
        assert abs(drawn.mean() - (low + high) / 2) < 0.02
    torch.testing.assert_close(ambient - 0.4, -0.4 * (diffuse - 0.3))
    assert abs(torch.corrcoef(torch.stack((x, y)))[0, 1]) < 0.03


def test_the_same_seed_draws_the_same() -> None:
    own = torch.tensor([0.4, 0.3, 0, 0])
    for draw in (lambda rng: VIEWS.draw(3, rng, CPU), lambda rng: draw_lights(LIGHTS, own, 3, rng)):
        assert torch.equal(draw(seeded(1)), draw(seeded(1)))
        assert not torch.equal(draw(seeded(1)), draw(seeded(2)))
        rng = seeded(1)
        assert not torch.equal(draw(rng), draw(rng))
