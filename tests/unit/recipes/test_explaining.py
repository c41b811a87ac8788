"""What networks are trained on: how badly factors explain faces, and lessons that show what they say."""

from __future__ import annotations

import pytest
import torch
from shapes import bumps

from g2s_cli.estimators.base import MaskedImages
from g2s_cli.estimators.factor_codes import light_from_code, view_from_code
from g2s_cli.estimators.feedforward import Canonical, render_batch
from g2s_cli.geometry.camera import Camera
from g2s_cli.weights.categories import load_category
from recipes.synface.explaining import explanation, lesson

CAMERA = Camera(32)


@pytest.fixture
def canonical() -> Canonical:
    """A bump with a coloured ramp, twice."""
    return bumps(CAMERA, 2, wide=0.8, high=0.9, far=1.02, colours=lambda x, y: (0.6 * x, -0.5 * y, 0.3 * (6 * x).sin()))


def test_the_truth_explains_a_picture_and_nothing_near_it_does_so_well(canonical: Canonical) -> None:
    view = torch.tensor([[0.1, 0.3, 0, 0, 0, 0], [0, -0.2, 0.1, 0.01, 0, 0]])
    light = torch.tensor([[0.4, 0.5, 0.3, -0.2], [0.5, 0.3, 0, 0.4]])
    seen = render_batch(canonical, view, light, CAMERA)
    faces = MaskedImages(seen.image, seen.valid.float().unsqueeze(1))

    def loss(view: torch.Tensor, light: torch.Tensor) -> dict[str, float]:
        return {name: term.item() for name, term in explanation(canonical, view, light, faces, CAMERA, 0.5).items()}

    truth = loss(view, light)
    assert truth["smoothness"] > 0
    assert all(truth[name] == 0 for name in ("pixels", "slopes", "coarse"))
    for other in (loss(view + 0.05, light), loss(view, light + 0.1)):
        assert all(other[name] > 1e-3 for name in ("pixels", "slopes", "coarse"))


def test_a_lesson_shows_the_object_as_it_says(canonical: Canonical) -> None:
    lights = load_category("synface").lights
    frontal = torch.zeros(2, 6)
    mask = (canonical.depth < 1.0).float().unsqueeze(1)
    asked = lesson(canonical, frontal, mask, CAMERA, lights, torch.Generator().manual_seed(1))
    again = render_batch(canonical, view_from_code(asked.view), light_from_code(asked.light), CAMERA).image.clamp(-1, 1)
    generate = (asked.image != 0).any(dim=1, keepdim=True)
    assert 0.1 < generate.float().mean() < 0.9
    torch.testing.assert_close(asked.image, again * generate)
    assert (asked.view[0] - asked.view[1]).abs().max() > 0.05
    assert asked.light[:, 2].abs().max() <= lights.x[1]
