"""New lights of one object: how strong they are."""

from __future__ import annotations

import math

import pytest
import torch

from g2s_cli.geometry.factors import Factors
from g2s_cli.geometry.shading import diffuse_shading, position_from_light


def lit(ambient: float, strength: float) -> Factors:
    return Factors(torch.ones(8, 8), torch.zeros(3, 8, 8), torch.zeros(6), torch.tensor([ambient, strength, 0.4, -0.2]))


def stops(factors: Factors, turn_deg: float) -> list[float]:
    """Brightness of a cheek turned to the photo's left, in stops, as the light moves from far left to far right."""
    turn = math.radians(turn_deg)
    normal = torch.tensor([math.sin(turn), 0.0, math.cos(turn)]).view(1, 1, 1, 3)  # inner normals point inwards
    shades = []
    for x in (-1.2, -0.8, -0.4, 0.0, 0.4, 0.8, 1.2):
        light = factors.relight(x, 0.0).light
        shades.append((light[0] + light[1] * diffuse_shading(normal, light[None])).item())
    return [math.log2(shade) for shade in shades]


@pytest.mark.parametrize("turn_deg", [40, 50, 60])
@pytest.mark.parametrize("strengths", [(0.9, 0.1), (0.3, 1.0)])
def test_the_default_change_of_a_cheek_does_not_depend_on_the_photos_light(
    strengths: tuple[float, float], turn_deg: float
) -> None:
    levels = stops(lit(*strengths), turn_deg)
    assert 0.7 < levels[0] - levels[-1] < 1.5
    assert levels[0] - levels[-1] == pytest.approx(
        stops(lit(0.5, 0.5), turn_deg)[0] - stops(lit(0.5, 0.5), turn_deg)[-1], abs=1e-5
    )
    if turn_deg >= 50:
        assert levels == sorted(levels, reverse=True)


def test_a_light_at_its_own_position_stays_and_explicit_strengths_are_taken() -> None:
    factors = lit(0.8, 0.3)
    x, y = position_from_light(factors.light, factors.view)
    torch.testing.assert_close(factors.relight(x, y).light, factors.light)
    torch.testing.assert_close(factors.relight(-1.0, 0.0).light[:2], torch.tensor([0.407, 0.693]))
    torch.testing.assert_close(factors.relight(x, y, strength=0.1, ambient=0.2).light[:2], torch.tensor([0.2, 0.1]))
    assert factors.is_lit_from(x + 0.1, y, within=0.2)
    assert not factors.is_lit_from(x + 0.1, y)
