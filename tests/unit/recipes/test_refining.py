"""The model of shape learnt on from photos: bends that only many lights show."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from g2s_cli.estimators import morphable as morphing
from g2s_cli.estimators.morphable import (
    LIFT,
    Coefficients,
    Correspondences,
    initial_coefficients,
    log_shading,
    point_normals,
)
from g2s_cli.estimators.morphable_model import FINE_REACH, MorphableModel, nuisance, read_morphable_model, smooth_modes
from g2s_cli.geometry.camera import Camera, canonical_to_view, project_points, unproject_points
from recipes.synface import shapes
from recipes.synface.refining import ROUNDS, Round, bent, bias_of, freed, one_round
from recipes.synface.shapes import Learnt

CAMERA = Camera(32)
SIZE = CAMERA.size
RELIEF = torch.full((SIZE, SIZE), 0.98)
COUNT = 60


def pictures() -> tuple[MorphableModel, list[Correspondences], list[Coefficients], torch.Tensor]:
    """A grey plane with a ridge down its middle, which the model does not have, under sixty lights; and the ridge."""
    rng = torch.Generator().manual_seed(0)
    ticks = torch.linspace(-1, 1, SIZE)
    row, column = torch.meshgrid(ticks, ticks, indexing="ij")
    ridge = torch.zeros(SIZE, SIZE, 3)
    ridge[..., 2] = -0.004 * torch.exp(-(column.square() / 0.02 + row.square() / 0.3))
    slants = 0.6 * torch.randn(COUNT, 2, generator=rng)
    lights = torch.cat((torch.tensor([[0.4, 0.6]]).expand(COUNT, -1), slants), dim=1)
    still = unproject_points(RELIEF[None], CAMERA)
    shading = log_shading(point_normals(still + ridge).expand(COUNT, -1, -1, -1), lights)
    logs = ((shading - 0.7).exp() + LIFT).log().expand(-1, 3, -1, -1)
    views = torch.zeros(COUNT, 6)
    found = project_points(canonical_to_view(still.expand(COUNT, -1, -1, -1), views, CAMERA), CAMERA)
    seen = Correspondences(logs, RELIEF, views, lights, found, torch.ones(COUNT, SIZE, SIZE))
    blank = torch.zeros(3, SIZE, SIZE)
    model = MorphableModel(
        torch.zeros(SIZE, SIZE, 3),
        torch.zeros(SIZE, SIZE, 3, 1),
        blank - 0.7,
        blank[..., None],
        blank + 1e-3,
        torch.stack((lights.mean(dim=0), torch.ones(4))),
        torch.zeros(4, 1),
    )
    coeffs = replace(initial_coefficients(model, seen), specular=torch.full((COUNT, 1), -10.0))
    return model, [seen], [coeffs], ridge[..., 2]


def test_a_ridge_of_the_planes_own_colour_is_found_by_its_shading() -> None:
    model, parts, coeffs, ridge = pictures()
    fine = smooth_modes(CAMERA, 4 / 64, 0.02)
    bend = bent(model, fine, parts, coeffs, CAMERA, torch.Generator().manual_seed(1))
    across = [some[:, 1:] - some[:, :-1] for some in (bend[..., 2], ridge)]
    inner = [some[6:-6, 4:-4].flatten() for some in across]
    assert torch.corrcoef(torch.stack(inner))[0, 1] > 0.85
    assert 0.5 < (inner[0] @ inner[1] / inner[1].square().sum()).item() < 1.5
    hflip = bend.flip(1) * bend.new_tensor((-1, 1, 1))
    torch.testing.assert_close(hflip, bend, atol=1e-6, rtol=0)  # alike in both halves, whatever the lights


def test_photos_without_weight_bend_nothing() -> None:
    model, [seen], coeffs, _ = pictures()
    blind = replace(seen, weights=torch.zeros_like(seen.weights))
    fine = smooth_modes(CAMERA, 4 / 64, 0.02)
    bend = bent(model, fine, [blind], coeffs, CAMERA, torch.Generator().manual_seed(1))
    assert bend.abs().max() < 1e-6


def test_the_rounds_end_with_the_bias_of_the_model_as_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes of a face's own moves among them; a round whose codes are freed of it leaves none in them."""
    monkeypatch.setattr(morphing, "UPDATES", 2)
    monkeypatch.setattr(shapes, "UPDATES", 2)
    model, parts, _, _ = pictures()
    modes = smooth_modes(CAMERA)
    count = modes.shape[-1]
    own = smooth_modes(CAMERA, FINE_REACH).shape[-1]
    maps = model.mean, torch.eye(count), model.albedo, model.albedo_basis, model.variance, model.lights
    coeffs = initial_coefficients(replace(model, shape_basis=modes, bias=torch.zeros(4, count)), parts[0])
    start = Learnt(1, torch.zeros(count), *maps, torch.zeros(4, count + own), coeffs)
    learnt, _ = one_round(start, Round(freed=True), parts, modes, CAMERA, 0)
    assert learnt.bias.abs().max() == 0
    plain, _ = one_round(start, Round(), parts, modes, CAMERA, 0)
    assert not torch.allclose(learnt.coeffs.shape, plain.coeffs.shape, atol=1e-3)
    free, _ = freed(start.model(modes), plain.coeffs, parts)
    torch.testing.assert_close(learnt.coeffs.shape, free.shape)
    assert not torch.equal(learnt.albedo, plain.albedo)  # which is learnt from them
    learnt, share = one_round(learnt, Round(bias=True), parts, modes, CAMERA, 0)
    assert learnt.done == 3
    assert 0 < share < 1
    assert learnt.bias.shape == (4, count + own)
    assert learnt.bias[:, count:].abs().max() > 0
    assert ROUNDS[-1] == Round(bias=True)
    read = read_morphable_model(learnt.tensors, CAMERA, torch.device("cpu"))
    torch.testing.assert_close(read.bias, learnt.bias, atol=1e-3, rtol=1e-3)


def test_bias_is_what_codes_have_in_common_with_views_and_lights() -> None:
    """Planted in the codes of 2000 pictures, beside what is the objects' own, which stays."""
    rng = torch.Generator().manual_seed(2)
    model = pictures()[0]
    count = 2000
    views = 0.3 * torch.randn(count, 6, generator=rng)  # radians, as they are when heads turn freely
    lights = torch.cat((torch.full((count, 2), 0.5), 0.3 * torch.randn(count, 2, generator=rng)), dim=1)
    planted = torch.tensor([[0.5], [3.0], [0.0], [2.0]])
    own, deviations = 0.3 * torch.randn(count, 1, generator=rng), torch.randn(count, 6, generator=rng)
    seen_from = views + deviations * torch.tensor(morphing.VIEW_DEVIATIONS)  # and lit as codes have it, not as at first
    shape = own + nuisance(seen_from, lights) @ planted
    many = Coefficients(shape, deviations, lights, *(torch.zeros(count, size) for size in (3, 1, 1)))
    grey, places, weights = torch.zeros(count, 3, 1, 1), torch.zeros(count, 1, 1, 2), torch.ones(count, 1, 1)
    pieces = zip(*(some.split(1200) for some in (grey, views, lights.flip(0), places, weights)), strict=True)
    parts = [Correspondences(one, torch.ones(1, 1), *rest) for one, *rest in pieces]
    bias = bias_of(many, parts)
    torch.testing.assert_close(bias, planted, atol=0.25, rtol=0)
    free, same = freed(replace(model, bias=bias), many, parts)
    assert torch.equal(same, bias)
    told = nuisance(seen_from, lights)[:, 1:]
    before, after = (torch.corrcoef(torch.cat((told, x.shape), dim=1).T)[:3, 3:].abs().max() for x in (many, free))
    assert before > 0.3
    assert after < 0.1
    assert torch.corrcoef(torch.stack((free.shape[:, 0], own[:, 0])))[0, 1] > 0.98
    assert free.shape.mean(dim=0).abs().max() < 1e-4


def test_of_few_pictures_little_is_believed() -> None:
    """A slope of a hundred of them is half of what they say."""
    views = torch.zeros(100, 6)
    views[:, 1] = torch.linspace(-0.5, 0.5, 100)
    lights = torch.tensor([[0.5, 0.5, 0.0, 0.0]]).expand(100, -1)
    told = nuisance(views, lights)[:, 1:2]
    slanted_back = lights.clone()
    slanted_back[:, 2] = -views[:, 1].tan()  # in front of the camera: of view and light only yaw² is left
    coeffs = Coefficients(3 * told, torch.zeros(100, 6), slanted_back, *(torch.zeros(100, size) for size in (3, 1, 1)))
    part = Correspondences(
        torch.zeros(100, 3, 1, 1), torch.ones(1, 1), views, lights, torch.zeros(100, 1, 1, 2), torch.ones(100, 1, 1)
    )
    assert bias_of(coeffs, [part])[1].item() == pytest.approx(1.5, rel=0.02)
