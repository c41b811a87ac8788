"""How faces differ from the mean one: factors of incomplete maps, what codes may be wrong by, and rounds of both."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from g2s_cli.errors import G2SError
from g2s_cli.estimators import morphable as morphing
from g2s_cli.estimators.morphable import Coefficients, Correspondences, initial_coefficients
from g2s_cli.estimators.morphable_model import FINE_REACH, read_morphable_model, smooth_modes
from g2s_cli.geometry.camera import Camera, canonical_to_view, project_points, unproject_points
from recipes.synface import shapes
from recipes.synface.shapes import Learnt, covariances, factored, joined, looks_of, one_round, parted, read, write

CAMERA = Camera(16)
SIZE = CAMERA.size
MODES = smooth_modes(CAMERA)
COUNT = MODES.shape[-1]
RELIEF = torch.full((SIZE, SIZE), 0.98)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_factors_are_found_though_parts_are_missing() -> None:
    """Two factors of 400 maps, a third of each map hidden."""
    true = torch.randn(3, 6, 6, 2, generator=rng(1))
    amounts = torch.randn(400, 2, generator=rng(2))
    values = 0.7 + torch.einsum("chwk,nk->nchw", true, amounts) + 0.05 * torch.randn(400, 3, 6, 6, generator=rng(3))
    weights = (torch.rand(400, 6, 6, generator=rng(4)) > 0.33).float()
    weights[:, 0, :3] = 0
    weights[7, 0, 1], weights[7:9, 0, 2] = 0.3, 1
    hidden = torch.where(weights.unsqueeze(1) > 0, values, 9.0)
    mean, shape_basis, variance = factored(hidden, weights, 2, rng())
    somewhere = weights.sum(dim=0) > 100
    assert (mean - 0.7)[:, somewhere].abs().mean() < 0.15
    one, two = (torch.linalg.qr(some[:, somewhere].flatten(0, 1))[0] for some in (true, shape_basis))
    assert torch.linalg.svdvals(one.T @ two).min() > 0.99  # the same plane
    often = weights.sum(dim=0) > 100
    assert 0.0025 < variance[:, often].mean() < 0.004  # 0.05²
    for place, least in enumerate((100, 8, 1.5)):  # never, 0.3 times, twice
        assert (variance[:, 0, place] > least * variance[:, often].mean()).all()


def seen_with(found: Tensor, weights: Tensor) -> Correspondences:
    """Plain grey pictures of a plane seen from the front, of which a flow says where its points are."""
    count = len(found)
    views, lights = torch.zeros(count, 6), torch.tensor([[0.6, 0.4, 0.0, 0.0]]).expand(count, -1)
    grey = torch.full((count, 3, SIZE, SIZE), math.log(math.exp(-0.7) + morphing.LIFT))
    return Correspondences(grey, RELIEF, views, lights, found, weights)


def learnt_from(parts: list[Correspondences]) -> Learnt:
    """Nothing known but that the plane is as grey as the pictures."""
    blank, lights = torch.zeros(3, SIZE, SIZE), torch.tensor([[0.6, 0.4, 0.0, 0.0], [0.1, 0.1, 0.1, 0.1]])
    none = Coefficients(*(torch.zeros(0, size) for size in (COUNT, 6, 4, 3, 1, 1)))
    still = torch.zeros(SIZE, SIZE, 3)
    bias = torch.zeros(4, COUNT + smooth_modes(CAMERA, FINE_REACH).shape[-1])
    maps = blank - 0.7, blank[..., None], blank + 1.0
    start = Learnt(0, torch.zeros(COUNT), still, torch.eye(COUNT), *maps, lights, bias, none)
    return replace(start, coeffs=joined([initial_coefficients(start.model(MODES), part) for part in parts]))


@pytest.fixture
def flows() -> list[Correspondences]:
    """Sixty faces that are wider or narrower than the mean one, and wider in the mean; nothing else differs."""
    wider = 0.5 + torch.randn(60, 1, generator=rng(5))
    mode = next(k for k in range(COUNT) if MODES[:, :, 0, k].abs().max() > 0)
    still = unproject_points(RELIEF[None], CAMERA)
    points = still + torch.einsum("hwi,n->nhwi", MODES[..., mode], 2 * wider[:, 0])
    views = torch.zeros(60, 6)
    found = project_points(canonical_to_view(points, views, CAMERA), CAMERA)
    return [seen_with(some, torch.ones(len(some), SIZE, SIZE)) for some in found.split(40)]


def test_codes_are_as_uncertain_as_the_pictures_leave_them(flows: list[Correspondences]) -> None:
    start = learnt_from(flows)
    some = replace(flows[1], weights=16 * flows[1].weights)  # so much more than it usually counts
    model, coeffs = start.model(MODES), parted(start.coeffs, flows)[1]
    blind = replace(some, weights=torch.zeros_like(some.weights))
    torch.testing.assert_close(covariances(model, blind, CAMERA, coeffs), torch.eye(COUNT).expand(20, -1, -1))
    told = covariances(model, some, CAMERA, coeffs).diagonal(dim1=1, dim2=2)
    assert (told <= 1 + 1e-4).all()
    assert told.min() < 0.3  # a flow tells where things lie ...
    assert told.max() > 0.9  # ... and little of how deep a plane is


def test_a_pictures_colour_is_no_news(flows: list[Correspondences]) -> None:
    some, left = flows[1], torch.randn(20, 3, SIZE, SIZE, generator=rng(6))
    tinted = left + torch.tensor([0.3, -0.1, 0.2])[:, None, None]
    free = shapes._freed_of_colour(left, some)
    torch.testing.assert_close(shapes._freed_of_colour(tinted, some), free)
    assert free.mean(dim=(2, 3)).abs().max() < 1e-6


def test_looks_are_what_codes_leave_of_photos() -> None:
    """A blemish of the plane's middle, in each picture so strong; whatever looks were known before."""
    still = unproject_points(RELIEF[None], CAMERA).expand(60, -1, -1, -1)
    plain = seen_with(
        project_points(canonical_to_view(still, torch.zeros(60, 6), CAMERA), CAMERA), torch.ones(60, SIZE, SIZE)
    )
    blemish = torch.zeros(3, SIZE, SIZE)
    blemish[0, 6:10, 6:10] = 0.3
    strong = torch.randn(60, 1, 1, 1, generator=rng(7))
    seen = replace(plain, log_brightness=plain.log_brightness + strong * blemish)
    start = learnt_from([seen])
    matt = replace(start.coeffs, specular=torch.full((60, 1), -10.0), albedo=torch.ones(60, 1))
    albedo, albedo_basis, variance = looks_of(
        replace(start, coeffs=matt, albedo_basis=torch.rand(3, SIZE, SIZE, 1)), [seen], MODES, CAMERA, 1, rng()
    )
    found = albedo_basis[..., 0] * torch.sign(albedo_basis[0, 8, 8, 0])
    assert torch.corrcoef(torch.stack((found.flatten(), blemish.flatten())))[0, 1] > 0.97
    assert 0.05 < found[0, 7:9, 7:9].mean() < 0.4  # 0.3, of which little pictures give away a part
    assert (albedo[1:] + 0.7).abs().max() < 0.05
    assert variance.mean() < 2e-3


def test_rounds_find_what_differs_and_by_how_much(
    flows: list[Correspondences], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(morphing, "UPDATES", 100)
    learnt = learnt_from(flows)
    for number in range(3):
        learnt, left = one_round(learnt, flows, MODES, CAMERA)
        assert learnt.done == number + 1
        assert left >= 0
    widths = learnt.shape_basis[:6].square().sum(dim=1)
    moving = int(widths.argmax())
    assert MODES[:, :, 0, moving].abs().max() > 0  # to the side
    strength = learnt.shape_basis[moving].norm().item()
    assert 1 < strength < 3  # two are true
    assert 0.3 < learnt.mean[moving].item() < 2.2  # one is true
    assert learnt.coeffs.shape.shape == (60, COUNT)
    assert learnt.coeffs.shape.mean(dim=0).abs().max() < 1e-4


def test_what_is_learnt_is_kept_and_read(flows: list[Correspondences], tmp_path: Path) -> None:
    learnt, place = learnt_from(flows), tmp_path / "shapes.pt"
    write(learnt, place)
    again = read(place, torch.device("cpu"))
    assert torch.equal(again.coeffs.light, learnt.coeffs.light)
    assert again.done == 0
    model = read_morphable_model(again.tensors, CAMERA, torch.device("cpu"))
    torch.testing.assert_close(model.shape_basis[..., :COUNT], learnt.model(MODES).shape_basis)
    assert torch.equal(joined([learnt.coeffs, learnt.coeffs]).light[60:], learnt.coeffs.light)
    place.write_bytes(place.read_bytes()[:500])
    with pytest.raises(G2SError, match="is damaged"):
        read(place, torch.device("cpu"))
