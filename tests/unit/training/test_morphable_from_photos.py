"""Learning the morphable model from photos: detail by shading under many lights, and de-biasing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from g2s_cli.estimators import morphable as fitting
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
from g2s_cli.training import morphable, morphable_from_photos
from g2s_cli.training.morphable import EMState, Observations
from g2s_cli.training.morphable_from_photos import (
    ROUNDS,
    Round,
    mean_detail,
    nuisance_regression,
    photo_round,
    remove_bias,
)

CAMERA = Camera(32)
SIZE = CAMERA.size
RELIEF = torch.full((SIZE, SIZE), 0.98)
COUNT = 60
MODES = smooth_modes(CAMERA)
OWN = smooth_modes(CAMERA, FINE_REACH).shape[-1]


def ridge_under_lights() -> tuple[EMState, Observations, torch.Tensor]:
    """A grey plane with a ridge down its middle, which the model lacks, under sixty lights; and the ridge's depth."""
    rng = torch.Generator().manual_seed(0)
    ticks = torch.linspace(-1, 1, SIZE)
    row, column = torch.meshgrid(ticks, ticks, indexing="ij")
    ridge = torch.zeros(SIZE, SIZE, 3)
    ridge[..., 2] = -0.004 * torch.exp(-(column.square() / 0.02 + row.square() / 0.3))
    slants = 0.6 * torch.randn(COUNT, 2, generator=rng)
    lights = torch.cat((torch.tensor([[0.4, 0.6]]).expand(COUNT, -1), slants), dim=1)
    plane = unproject_points(RELIEF[None], CAMERA)
    shading = log_shading(point_normals(plane + ridge).expand(COUNT, -1, -1, -1), lights)
    log_image = ((shading - 0.7).exp() + LIFT).log().expand(-1, 3, -1, -1)
    views = torch.zeros(COUNT, 6)
    pixels = project_points(canonical_to_view(plane.expand(COUNT, -1, -1, -1), views, CAMERA), CAMERA)
    part = Correspondences(log_image, RELIEF, views, lights, pixels, torch.ones(COUNT, SIZE, SIZE))
    blank, count = torch.zeros(3, SIZE, SIZE), MODES.shape[-1]
    state = EMState(
        mean=torch.zeros(count),
        detail=torch.zeros(SIZE, SIZE, 3),
        shape_basis=torch.eye(count),
        albedo=blank - 0.7,
        albedo_basis=blank[..., None],
        variance=blank + 1e-3,
        lights=torch.stack((lights.mean(dim=0), torch.ones(4))),
        bias=torch.zeros(4, count + OWN),
        coeffs=Coefficients(*(torch.zeros(0, size) for size in (count, 6, 4, 3, 1, 1))),
    )
    coeffs = initial_coefficients(state.model(MODES), part)
    return replace(state, coeffs=coeffs), Observations([part], MODES, CAMERA), ridge[..., 2]


@pytest.mark.parametrize("points", [True, False])
def test_a_ridge_is_found_by_its_shading_where_photos_have_weight(points: bool) -> None:
    state, observations, ridge = ridge_under_lights()
    matte = replace(state.coeffs, specular=torch.full((COUNT, 1), -10.0))
    part = observations.parts[0]
    observations = replace(observations, parts=[replace(part, weights=part.weights * points)])
    fine = smooth_modes(CAMERA, 4 / 64, 0.02)
    detail = mean_detail(replace(state, coeffs=matte), fine, observations, torch.Generator().manual_seed(1))
    if not points:
        assert detail.abs().max() < 1e-6
        return
    slopes = [(depth[:, 1:] - depth[:, :-1])[6:-6, 4:-4].flatten() for depth in (detail[..., 2], ridge)]
    assert torch.corrcoef(torch.stack(slopes))[0, 1] > 0.85
    assert 0.5 < (slopes[0] @ slopes[1] / slopes[1].square().sum()).item() < 1.5
    hflip = detail.flip(1) * detail.new_tensor((-1, 1, 1))
    torch.testing.assert_close(hflip, detail, atol=1e-6, rtol=0)  # symmetric, whatever the lights


def test_debiased_rounds_learn_from_other_coefficients_and_the_last_round_measures_the_bias(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fitting, "UPDATES", 2)
    monkeypatch.setattr(morphable, "ITERATIONS", 2)
    monkeypatch.setattr(morphable_from_photos, "ROUNDS", [Round(bias=True), Round(debiased=True), Round()])
    start, observations, _ = ridge_under_lights()
    debiased, _ = photo_round(start, observations, 1, 0)
    plain, _ = photo_round(start, observations, 2, 0)
    assert debiased.bias.abs().max() == 0
    assert not torch.allclose(debiased.coeffs.shape, plain.coeffs.shape, atol=1e-3)
    expected, _ = remove_bias(start.model(MODES), plain.coeffs, observations)
    torch.testing.assert_close(debiased.coeffs.shape, expected.shape)
    assert not torch.equal(debiased.albedo, plain.albedo)
    measured, share = photo_round(debiased, observations, 0, 0)
    assert 0 < share < 1
    count = MODES.shape[-1]
    assert measured.bias.shape == (4, count + OWN)
    assert measured.bias[:, count:].abs().max() > 0  # of the fine modes, too
    assert ROUNDS[-1] == Round(bias=True)
    read = read_morphable_model(measured.tensors, CAMERA, torch.device("cpu"))
    torch.testing.assert_close(read.bias, measured.bias, atol=1e-3, rtol=1e-3)


def observations_of(views: torch.Tensor, lights: torch.Tensor, split: int) -> Observations:
    """Correspondences of so many images of one pixel."""
    count = len(views)
    grey, pixels, weights = torch.zeros(count, 3, 1, 1), torch.zeros(count, 1, 1, 2), torch.ones(count, 1, 1)
    columns = zip(*(each.split(split) for each in (grey, views, lights, pixels, weights)), strict=True)
    return Observations([Correspondences(one, torch.ones(1, 1), *rest) for one, *rest in columns], MODES, CAMERA)


def test_a_planted_bias_is_found_and_removed_and_identity_stays() -> None:
    rng = torch.Generator().manual_seed(2)
    count = 2000
    views = 0.3 * torch.randn(count, 6, generator=rng)
    lights = torch.cat((torch.full((count, 2), 0.5), 0.3 * torch.randn(count, 2, generator=rng)), dim=1)
    planted = torch.tensor([[0.5], [3.0], [0.0], [2.0]])
    own, deviations = 0.3 * torch.randn(count, 1, generator=rng), torch.randn(count, 6, generator=rng)
    fitted_views = views + deviations * torch.tensor(fitting.VIEW_DEVIATIONS)
    covariates = nuisance(fitted_views, lights)
    coeffs = Coefficients(
        own + covariates @ planted, deviations, lights, *(torch.zeros(count, size) for size in (3, 1, 1))
    )
    observations = observations_of(views, lights.flip(0), 1200)  # the fitted views and lights count
    bias = nuisance_regression(coeffs, observations)
    torch.testing.assert_close(bias, planted, atol=0.25, rtol=0)
    blank, still = torch.zeros(3, 1, 1), torch.zeros(1, 1, 3)
    model = MorphableModel(
        still, still[..., None], blank, blank[..., None], blank, torch.zeros(2, 4), torch.zeros(4, 1)
    )
    debiased, same = remove_bias(model, coeffs, observations)
    assert torch.equal(same, bias)
    before, after = (
        torch.corrcoef(torch.cat((covariates[:, 1:], each.shape), dim=1).T)[:3, 3:].abs().max()
        for each in (coeffs, debiased)
    )
    assert after < 0.1
    assert before > 0.3
    assert torch.corrcoef(torch.stack((debiased.shape[:, 0], own[:, 0])))[0, 1] > 0.98
    assert debiased.shape.mean(dim=0).abs().max() < 1e-4


def test_the_regression_of_few_photos_is_shrunk() -> None:
    """A hundred photos count as much as the ridge: half of the slope is left."""
    views = torch.zeros(100, 6)
    views[:, 1] = torch.linspace(-0.5, 0.5, 100)
    lights = torch.tensor([[0.5, 0.5, 0.0, 0.0]]).expand(100, -1)
    yaw_squared = nuisance(views, lights)[:, 1:2]
    at_camera = lights.clone()
    at_camera[:, 2] = -views[:, 1].tan()  # so that yaw² is the only covariate that varies
    zeros = (torch.zeros(100, size) for size in (3, 1, 1))
    coeffs = Coefficients(3 * yaw_squared, torch.zeros(100, 6), at_camera, *zeros)
    bias = nuisance_regression(coeffs, observations_of(views, lights, 100))
    assert bias[1].item() == pytest.approx(1.5, rel=0.02)
