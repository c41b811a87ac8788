"""Learning the morphable model from photos: rounds, and detail by shading under many lights."""

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
from g2s_cli.estimators.morphable_model import smooth_modes
from g2s_cli.geometry.camera import Camera, canonical_to_view, project_points, unproject_points
from g2s_cli.training import morphable_from_photos
from g2s_cli.training.morphable import EMState, Observations
from g2s_cli.training.morphable_from_photos import Round, mean_detail, photo_round

CAMERA = Camera(32)
SIZE = CAMERA.size
RELIEF = torch.full((SIZE, SIZE), 0.98)
COUNT = 60
MODES = smooth_modes(CAMERA)


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
        coeffs=Coefficients(*(torch.zeros(0, size) for size in (count, 6, 4, 3, 1, 1))),
    )
    coeffs = initial_coefficients(state.model(MODES), part)
    return replace(state, coeffs=coeffs), Observations([part], MODES, CAMERA), ridge[..., 2]


@pytest.mark.parametrize("weighted", [True, False])
def test_a_ridge_is_found_by_its_shading_where_photos_have_weight(weighted: bool) -> None:
    state, observations, ridge = ridge_under_lights()
    matte = replace(state.coeffs, specular=torch.full((COUNT, 1), -10.0))
    part = observations.parts[0]
    observations = replace(observations, parts=[replace(part, weights=part.weights * weighted)])
    fine = smooth_modes(CAMERA, 4 / 64, 0.02)
    detail = mean_detail(replace(state, coeffs=matte), fine, observations, torch.Generator().manual_seed(1))
    if not weighted:
        assert detail.abs().max() < 1e-6
        return
    slopes = [(depth[:, 1:] - depth[:, :-1])[6:-6, 4:-4].flatten() for depth in (detail[..., 2], ridge)]
    assert torch.corrcoef(torch.stack(slopes))[0, 1] > 0.85
    assert 0.5 < (slopes[0] @ slopes[1] / slopes[1].square().sum()).item() < 1.5
    mirrored = detail.flip(1) * detail.new_tensor((-1, 1, 1))
    torch.testing.assert_close(mirrored, detail, atol=1e-6, rtol=0)  # symmetric, whatever the lights


def test_a_round_learns_what_it_states(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "ITERATIONS", 2)
    monkeypatch.setattr(morphable_from_photos, "DETAIL_UPDATES", 2)
    monkeypatch.setattr(morphable_from_photos, "ALBEDO_COMPONENTS", 3)
    rounds = [Round(), Round(reach=4 / 64), Round(shape_basis=True), Round(albedo_basis=True)]
    start, observations, _ = ridge_under_lights()
    learnt = []
    for one in rounds:
        monkeypatch.setattr(morphable_from_photos, "ROUNDS", [one])
        state, residual = photo_round(start, observations, 0, 0)
        assert residual > 0
        parts = ("detail", "shape_basis", "albedo_basis", "albedo", "variance")
        learnt.append({name for name in parts if not torch.equal(getattr(state, name), getattr(start, name))})
    always = {"albedo", "variance"}
    assert learnt == [always, always | {"detail"}, always | {"shape_basis"}, always | {"albedo_basis"}]
