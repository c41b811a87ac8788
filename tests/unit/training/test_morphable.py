"""Learning the morphable model: factor analysis with missing values, posterior covariances, and EM rounds."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from g2s_cli.estimators import morphable as fitting
from g2s_cli.estimators.base import MaskedImages
from g2s_cli.estimators.morphable import Coefficients, Correspondences
from g2s_cli.estimators.morphable_model import read_morphable_model, smooth_modes
from g2s_cli.geometry.camera import Camera, canonical_to_view, project_points, unproject_points
from g2s_cli.progress import SilentProgress
from g2s_cli.training import morphable
from g2s_cli.training.distributed import Group
from g2s_cli.training.factor_analysis import factor_analysis
from g2s_cli.training.latent_editing import LatentEditor, ObjectSampler
from g2s_cli.training.morphable import (
    EMState,
    EMTraining,
    Observations,
    concatenate,
    covariances,
    em_round,
    random_objects,
    refit_albedo_basis,
)
from g2s_cli.training.trainer import Trainer

CAMERA = Camera(16)
SIZE = CAMERA.size
MODES = smooth_modes(CAMERA)
COUNT = MODES.shape[-1]
RELIEF = torch.full((SIZE, SIZE), 0.98)
CPU = torch.device("cpu")


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class FlatSampler(ObjectSampler):
    """Uniform images in the latents' colours."""

    def __init__(self) -> None:
        object.__setattr__(self, "gan", SimpleNamespace(generator=SimpleNamespace(layers=7)))

    def images(self, latents: Tensor) -> MaskedImages:
        image = latents[:, :3, None, None].expand(-1, -1, SIZE, SIZE)
        return MaskedImages(image, torch.ones(len(latents), 1, SIZE, SIZE))

    def latents(self, count: int, rng: torch.Generator) -> Tensor:
        return torch.randn(count, 4, generator=rng)


def test_random_objects_depend_on_the_seed_alone_and_every_other_chunk_is_turned_farther() -> None:
    """The second latent is the yaw."""
    editor = LatentEditor(torch.zeros(4), torch.eye(4), torch.eye(4), torch.ones(4), torch.ones(4))
    one, two, other = (list(random_objects(FlatSampler(), editor, seed, 260)) for seed in (1, 1, 2))
    assert [len(latents) for _, latents in one] == [50, 50, 50, 50, 50, 10]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(one, two, strict=True))
    assert not torch.equal(one[0][1], other[0][1])
    assert torch.equal(one[0][0].image[:, :, 0, 0], one[0][1][:, :3])
    yaws = [torch.cat([latents[:, 1] for _, latents in one[first::2]]) for first in (0, 1)]
    assert 0.8 < yaws[0].std() < 1.2 < yaws[1].std() < 1.8


def test_factors_are_found_though_values_are_missing() -> None:
    """Two factors of 400 maps, a third of each map hidden."""
    true = torch.randn(3, 6, 6, 2, generator=rng(1))
    amounts = torch.randn(400, 2, generator=rng(2))
    values = 0.7 + torch.einsum("chwk,nk->nchw", true, amounts) + 0.05 * torch.randn(400, 3, 6, 6, generator=rng(3))
    weights = (torch.rand(400, 6, 6, generator=rng(4)) > 0.33).float()
    weights[:, 0, :3] = 0
    weights[7, 0, 1], weights[7:9, 0, 2] = 0.3, 1
    hidden = torch.where(weights.unsqueeze(1) > 0, values, 9.0)
    mean, basis, variance = factor_analysis(hidden, weights, 2, rng())
    often = weights.sum(dim=0) > 100
    assert (mean - 0.7)[:, often].abs().mean() < 0.15
    one, two = (torch.linalg.qr(some[:, often].flatten(0, 1))[0] for some in (true, basis))
    assert torch.linalg.svdvals(one.T @ two).min() > 0.99  # the same plane
    assert 0.0025 < variance[:, often].mean() < 0.004  # 0.05²
    for column, least in enumerate((100, 8, 1.5)):  # known never, 0.3 times, twice
        assert (variance[:, 0, column] > least * variance[:, often].mean()).all()


def correspondences(pixels: Tensor, weights: Tensor) -> Correspondences:
    """Plain grey images of a plane seen from the front, with the pixels of its points."""
    count = len(pixels)
    views, lights = torch.zeros(count, 6), torch.tensor([[0.6, 0.4, 0.0, 0.0]]).expand(count, -1)
    grey = torch.full((count, 3, SIZE, SIZE), math.log(math.exp(-0.7) + fitting.LIFT))
    return Correspondences(grey, RELIEF, views, lights, pixels, weights)


def initial(observations: Observations) -> EMState:
    """Nothing is known but that the plane is as grey as the images."""
    blank, lights = torch.zeros(3, SIZE, SIZE), torch.tensor([[0.6, 0.4, 0.0, 0.0], [0.1, 0.1, 0.1, 0.1]])
    none = Coefficients(*(torch.zeros(0, size) for size in (COUNT, 6, 4, 3, 1, 1)))
    shape = torch.zeros(COUNT), torch.zeros(SIZE, SIZE, 3), torch.eye(COUNT)
    state = EMState(*shape, blank - 0.7, blank[..., None], blank + 1.0, lights, none)
    return replace(state, coeffs=observations.initial(state.model(MODES)))


@pytest.fixture
def observations() -> Observations:
    """Sixty objects that are wider or narrower than the template, and wider in the mean; nothing else differs."""
    wider = 0.5 + torch.randn(60, 1, generator=rng(5))
    mode = next(k for k in range(COUNT) if MODES[:, :, 0, k].abs().max() > 0)
    points = unproject_points(RELIEF[None], CAMERA) + torch.einsum("hwi,n->nhwi", MODES[..., mode], 2 * wider[:, 0])
    pixels = project_points(canonical_to_view(points, torch.zeros(60, 6), CAMERA), CAMERA)
    parts = [correspondences(some, torch.ones(len(some), SIZE, SIZE)) for some in pixels.split(40)]
    return Observations(parts, MODES, CAMERA)


def test_covariances_are_the_priors_without_data_and_smaller_with(observations: Observations) -> None:
    part = observations.parts[1]
    state = initial(observations)
    model, coeffs = state.model(MODES), list(observations.pairs(state.coeffs))[1][1]
    unseen = replace(part, weights=torch.zeros_like(part.weights))
    torch.testing.assert_close(covariances(model, unseen, CAMERA, coeffs), torch.eye(COUNT).expand(20, -1, -1))
    certain = replace(part, weights=16 * part.weights)
    variances = covariances(model, certain, CAMERA, coeffs).diagonal(dim1=1, dim2=2)
    assert (variances <= 1 + 1e-4).all()
    assert variances.min() < 0.3  # of positions, which the flow shows
    assert variances.max() > 0.9  # of a plane's depth, which it hardly shows


def test_residuals_do_not_depend_on_an_images_colour_balance(observations: Observations) -> None:
    part, residual = observations.parts[1], torch.randn(20, 3, SIZE, SIZE, generator=rng(6))
    tinted = residual + torch.tensor([0.3, -0.1, 0.2])[:, None, None]
    free = morphable._without_colour_offset(residual, part)
    torch.testing.assert_close(morphable._without_colour_offset(tinted, part), free)
    assert free.mean(dim=(2, 3)).abs().max() < 1e-6


def test_the_albedo_basis_is_refitted_to_the_images() -> None:
    """A spot in the plane's middle, of another strength in each image; the basis before is irrelevant."""
    points = unproject_points(RELIEF[None], CAMERA).expand(60, -1, -1, -1)
    pixels = project_points(canonical_to_view(points, torch.zeros(60, 6), CAMERA), CAMERA)
    part = correspondences(pixels, torch.ones(60, SIZE, SIZE))
    spot = torch.zeros(3, SIZE, SIZE)
    spot[0, 6:10, 6:10] = 0.3
    part = replace(part, log_image=part.log_image + torch.randn(60, 1, 1, 1, generator=rng(7)) * spot)
    observations = Observations([part], MODES, CAMERA)
    state = initial(observations)
    coeffs = replace(state.coeffs, specular=torch.full((60, 1), -10.0), albedo=torch.ones(60, 1))
    state = replace(state, coeffs=coeffs, albedo_basis=torch.rand(3, SIZE, SIZE, 1))
    albedo, albedo_basis, variance = refit_albedo_basis(state, observations, 1, rng())
    factor = albedo_basis[..., 0] * torch.sign(albedo_basis[0, 8, 8, 0])
    assert torch.corrcoef(torch.stack((factor.flatten(), spot.flatten())))[0, 1] > 0.97
    assert 0.05 < factor[0, 7:9, 7:9].mean() < 0.4  # of 0.3; free colour balance takes some
    assert (albedo[1:] + 0.7).abs().max() < 0.05
    assert variance.mean() < 2e-3


@pytest.mark.slow
def test_rounds_find_the_mean_and_the_variation_of_shape(
    observations: Observations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "ITERATIONS", 100)
    state = initial(observations)
    for number in range(3):
        state, residual = em_round(state, observations, number)
        assert residual >= 0
    mode = int(state.shape_basis[:6].square().sum(dim=1).argmax())
    assert MODES[:, :, 0, mode].abs().max() > 0  # sideways
    assert 1 < state.shape_basis[mode].norm().item() < 3  # 2 is true
    assert 0.3 < state.mean[mode].item() < 2.2  # 1 is true
    assert state.coeffs.shape.shape == (60, COUNT)
    assert state.coeffs.shape.mean(dim=0).abs().max() < 1e-4


def test_rounds_are_resumed_from_their_checkpoint_and_the_model_is_read(
    observations: Observations, tmp_path: Path
) -> None:
    def run(training: EMTraining, rounds: int) -> EMState:
        trainer = Trainer({"model": training}, tmp_path / "model.pt", Group(), SilentProgress())
        return training.run(trainer, rounds, lambda: observations, initial, lambda state, _, number: (
            replace(state, mean=state.mean + number + 1), 0.0))  # fmt: skip

    first = run(EMTraining(CPU), 2)
    last = run(EMTraining(CPU), 3)
    assert first.mean.unique().tolist() == [3]
    assert last.mean.unique().tolist() == [6]
    assert torch.equal(run(EMTraining(CPU), 3).coeffs.light, last.coeffs.light)
    model = read_morphable_model(last.tensors, CAMERA, CPU)
    torch.testing.assert_close(model.shape_basis[..., :COUNT], last.model(MODES).shape_basis)
    restored = EMState.from_tensors(last.tensors, CAMERA, CPU)
    torch.testing.assert_close(restored.model(MODES).mean, last.model(MODES).mean)
    assert len(restored.coeffs.shape) == 0
    assert torch.equal(concatenate([last.coeffs, last.coeffs]).light[60:], last.coeffs.light)
