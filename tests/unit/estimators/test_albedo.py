"""The albedo in closed form: a rendered object's own albedo, where its photo shows it."""

from __future__ import annotations

from dataclasses import replace

import torch
from shapes import bumps, two_eyes

from g2s_cli.estimators.albedo import solve_albedo
from g2s_cli.estimators.base import Observation
from g2s_cli.geometry.camera import Camera
from g2s_cli.geometry.center_crop import CenterCrop
from g2s_cli.geometry.factors import Factors
from g2s_cli.geometry.metrics import psnr
from g2s_cli.geometry.render import render

CAMERA = Camera(64)


def turned_object() -> Factors:
    """An object at a yaw of 20°, lit from the side."""
    one = bumps(CAMERA, 1, wide=0.7, high=0.8, far=1.05, colours=two_eyes)
    view = torch.tensor([0.0, 0.35, 0.0, 0.0, 0.0, 0.0])
    return Factors(one.depth[0], one.albedo[0], view, torch.tensor([0.4, 0.5, 0.6, 0.2]))


def test_a_renderings_albedo_is_found_again() -> None:
    truth = turned_object()
    shown = render(truth, CAMERA)
    observation = Observation(shown.image, shown.valid.float(), torch.zeros(8), CenterCrop(1.0, 64))
    grey = replace(truth, albedo=torch.zeros(3, 64, 64))
    solved = solve_albedo(grey, observation, CAMERA)
    again = render(solved, CAMERA)
    assert psnr(again.image * shown.valid, shown.image * shown.valid) > 35
    middle = (..., slice(20, 44), slice(20, 44))
    assert (solved.albedo - truth.albedo)[middle].abs().mean() < 0.02
    for name in ("depth", "view", "light"):
        assert torch.equal(getattr(solved, name), getattr(truth, name))


def test_what_the_photo_does_not_show_takes_its_tint() -> None:
    """Half of the object is masked: there the networks' albedo stays, but for a smooth change of colour."""
    truth = turned_object()
    shown = render(truth, CAMERA)
    mask = shown.valid.float()
    mask[:, 32:] = 0
    observation = Observation(shown.image * mask, mask, torch.zeros(8), CenterCrop(1.0, 64))
    stripes = torch.zeros(3, 64, 64)
    stripes[..., ::2, :] = 0.2
    solved = solve_albedo(replace(truth, albedo=stripes), observation, CAMERA).albedo
    hidden = (slice(None), slice(20, 44), slice(50, 60))
    rows = solved[hidden].mean(dim=(0, 2))
    assert torch.allclose(rows[::2] - rows[1::2], torch.full((12,), 0.2), atol=0.05)
    assert (solved[hidden] - stripes[hidden]).mean() > 0.05  # the object is lighter than 0.1


def test_without_a_visible_pixel_the_albedo_stays() -> None:
    truth = turned_object()
    nothing = torch.zeros(64, 64)
    observation = Observation(nothing.expand(3, -1, -1), nothing, torch.zeros(8), CenterCrop(1.0, 64))
    assert torch.equal(solve_albedo(truth, observation, CAMERA).albedo, truth.albedo)
