"""Lessons in shape: what reshaping does and leaves alone, whose pixels a face wears, and what an answer costs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from shapes import bumps
from torch import Tensor

from g2s_cli.estimators.base import MaskedImages
from g2s_cli.estimators.factor_codes import light_from_code, view_from_code
from g2s_cli.estimators.feedforward import Canonical, FactorNets, see
from g2s_cli.estimators.networks import CodeNet, MapNet
from g2s_cli.geometry.camera import Camera
from g2s_cli.geometry.warp import hflip
from g2s_cli.weights.categories import load_category
from recipes.synface import reshaping
from recipes.synface.explaining import photographed
from recipes.synface.reshaping import ShapeLesson, misshaping, own_pixels, reshaped, shape_lesson

CAMERA = Camera(32)
SPREADS = ("SHIFT", "SIZE", "RELIEF", "ADDED")


@pytest.fixture
def canonical() -> Canonical:
    """A bump with equal halves and coloured rows, thrice."""
    return bumps(CAMERA, 3, wide=0.6, high=0.7, far=1.03, colours=lambda x, y: (0.6 * y, -0.5 * y, 0.3 * (4 * x).cos()))


@pytest.fixture
def mask(canonical: Canonical) -> Tensor:
    return (canonical.depth < 1.03).float().unsqueeze(1)


def still(monkeypatch: pytest.MonkeyPatch, **but: float) -> None:
    """No change of any kind, but those named."""
    for name in SPREADS:
        monkeypatch.setattr(reshaping, name, but.get(name, 0.0))
    monkeypatch.setattr(reshaping, "SHARPEST", (0.0, 0.0))


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_no_change_leaves_everything_as_it_was(
    canonical: Canonical, mask: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    still(monkeypatch)
    same, same_mask = reshaped(canonical, mask, CAMERA, rng())
    # The border columns are a wall that is no part of the object; without it the mean of the relief is another.
    apart = (same.depth - canonical.depth)[:, :, 2:-2]
    assert (apart - apart.mean()).abs().max() < 1e-3
    torch.testing.assert_close(same.albedo, canonical.albedo, rtol=0, atol=1e-5)
    assert torch.equal(same_mask, mask)


def test_halves_stay_alike_and_no_two_are_changed_alike(canonical: Canonical, mask: Tensor) -> None:
    changed, changed_mask = reshaped(canonical, mask, CAMERA, rng())
    torch.testing.assert_close(changed.depth, hflip(changed.depth), rtol=0, atol=1e-5)
    torch.testing.assert_close(changed.albedo, hflip(changed.albedo), rtol=0, atol=1e-4)
    assert (changed.depth[0] - changed.depth[1]).abs().max() > 2e-3
    assert (changed.albedo[0] - changed.albedo[2]).abs().max() > 0.02
    assert not torch.equal(changed_mask[0], changed_mask[1])
    assert changed.depth.min() > CAMERA.near
    assert changed.depth.max() < CAMERA.far


def test_what_grows_is_deeper_too(canonical: Canonical, mask: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    still(monkeypatch, SIZE=0.15)
    changed, changed_mask = reshaped(canonical, mask, CAMERA, rng())
    grown = (changed_mask.sum(dim=(1, 2, 3)) / mask.sum(dim=(1, 2, 3))).sqrt()
    inner = slice(2, -2)
    deeper = [(one[:, inner].max() - one[:, inner].min()) / 0.07 for one in changed.depth]
    assert grown.max() / grown.min() > 1.1
    torch.testing.assert_close(torch.stack(deeper), grown, rtol=0.07, atol=0)


def test_sharper_is_steeper(canonical: Canonical, mask: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    steepest = []
    for amount in (-0.5, 0.0, 1.0):
        still(monkeypatch)
        monkeypatch.setattr(reshaping, "SHARPEST", (amount, amount))
        changed, _ = reshaped(canonical, mask, CAMERA, rng())
        steepest.append(changed.depth[0, :, 2:-2].diff(dim=0).abs().max().item())
    assert steepest[0] < steepest[1] < steepest[2]


def test_a_face_wears_its_own_pixels(canonical: Canonical) -> None:
    """Pictures of a known albedo, which a network that says grey knows nothing of."""
    view = torch.tensor([[0.0, 0, 0, 0, 0, 0], [0.05, 0.4, 0, 0, 0, 0], [0, -0.5, 0, 0, 0, 0]])
    light = torch.tensor([[0.4, 0.5, 0.3, -0.2]]).expand(3, -1)
    seen = see(canonical, view, light, CAMERA)
    faces = MaskedImages(seen.image, seen.valid.float().unsqueeze(1))
    grey = Canonical(canonical.depth, torch.zeros_like(canonical.albedo))
    painted = own_pixels(grey, faces, view, light, CAMERA)
    bump = (canonical.depth < 1.025).unsqueeze(1).expand(-1, 3, -1, -1)
    apart = torch.where(bump, (painted - canonical.albedo).abs(), 0.0).sum(dim=(1, 2, 3))
    guessed = torch.where(bump, canonical.albedo.abs(), 0.0).sum(dim=(1, 2, 3))
    assert (apart / guessed).max() < 0.12  # in a turned bump's far side, too, which its near side shows


def test_hidden_points_do_not_wear_what_hides_them() -> None:
    """A ridge down the middle, turned so far that it hides what is beside it: dark ridge, bright plain."""
    columns = torch.linspace(-1, 1, CAMERA.size).expand(1, CAMERA.size, -1)
    ridge = columns.abs() < 0.2
    depth = torch.where(ridge, 0.93, 1.03)
    albedo = torch.where(ridge, -0.8, 0.6).unsqueeze(1).expand(-1, 3, -1, -1)
    view, light = torch.tensor([[0.0, 0.6, 0, 0, 0, 0]]), torch.tensor([[1.0, 0.0, 0, 0]])
    seen = see(Canonical(depth, albedo), view, light, CAMERA)
    faces = MaskedImages(seen.image, seen.valid.float().unsqueeze(1))
    painted = own_pixels(Canonical(depth, albedo), faces, view, light, CAMERA)
    plain = (columns.abs() > 0.3) & (columns.abs() < 0.6)
    assert painted[0, 0][plain[0]].min() > 0.2


@pytest.fixture
def nets(canonical: Canonical) -> FactorNets:
    torch.manual_seed(0)
    depth, albedo = MapNet(32, 1, 8, bounded=False), MapNet(32, 3, 8, bounded=True)
    nothing = torch.zeros(6), torch.zeros(4)
    base = torch.atanh((canonical.depth[0] - 1) / 0.1)
    return FactorNets(depth, albedo, CodeNet(32, 6, 8), CodeNet(32, 4, 8), CAMERA, base, *nothing, symmetric=True)


def test_every_picture_of_a_face_has_its_shape(nets: FactorNets, mask: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    still(monkeypatch)
    monkeypatch.setattr(reshaping, "OWN_PIXELS", 0.0)
    one, two = torch.rand(2, 3, 32, 32, generator=rng()) * 2 - 1
    faces = MaskedImages(torch.stack((one, one.flip(-1), two, two.flip(-2))), mask[:1].expand(4, -1, -1, -1))
    asked = shape_lesson(nets, faces, 2, load_category("synface").lights, rng())
    own = nets.canonical(faces.image[::2])
    assert (own.albedo[0] - own.albedo[1]).abs().max() > 0.01
    torch.testing.assert_close(asked.canonical.albedo, own.albedo.repeat_interleave(2, dim=0), rtol=0, atol=1e-4)
    apart = (asked.canonical.depth - own.depth.repeat_interleave(2, dim=0))[:, :, 2:-2]
    assert (apart - apart.mean(dim=(1, 2), keepdim=True)).abs().max() < 2e-3


def test_a_lesson_shows_the_shape_it_says(nets: FactorNets, canonical: Canonical, mask: Tensor) -> None:
    faces = MaskedImages((canonical.albedo * mask).repeat(2, 1, 1, 1)[:4], mask.repeat(2, 1, 1, 1)[:4])
    asked = shape_lesson(nets, faces, 2, load_category("synface").lights, rng())
    again = photographed(asked.canonical, asked.mask, asked.lesson.view, asked.lesson.light, CAMERA)
    assert torch.equal(again, asked.lesson.image)
    assert 0.1 < (again != 0).any(dim=1).float().mean() < 0.9
    lit = light_from_code(asked.lesson.light)
    plain = see(asked.canonical, view_from_code(asked.lesson.view), lit, CAMERA).image.clamp(-1, 1)
    shown = (again != 0).any(dim=1, keepdim=True)
    torch.testing.assert_close(again, plain * shown)
    assert len({tuple(depth.flatten().tolist()) for depth in asked.canonical.depth}) == 4


def test_only_the_shape_costs_not_how_far_away_it_is(nets: FactorNets, canonical: Canonical, mask: Tensor) -> None:
    asked = shape_lesson(nets, MaskedImages(canonical.albedo * mask, mask), 1, load_category("synface").lights, rng())
    said = nets.depth_of(asked.lesson.image).detach()
    albedo = nets.albedo_of(asked.lesson.image).detach()

    def walled(depth: Tensor) -> Tensor:
        wall = torch.zeros(32, dtype=torch.bool)
        wall[[0, 1, -2, -1]] = True
        return torch.where(wall, said, depth)

    def cost(depth: Tensor) -> dict[str, float]:
        true = ShapeLesson(asked.lesson, Canonical(walled(depth), albedo), torch.ones_like(asked.mask))
        return {name: term.item() for name, term in misshaping(nets, true).items()}

    exact, farther = cost(said), cost(said + 0.02)
    ramp = cost(said + torch.linspace(-0.02, 0.02, 32)[:, None])
    assert exact["own albedo"] == 0
    for name in ("shape", "shape's slopes"):
        assert abs(exact[name]) < 1e-4
        assert abs(farther[name]) < 1e-3
        assert ramp[name] > 0.05
    assert exact["view"] > 0
    wrong = ShapeLesson(replace(asked.lesson, view=asked.lesson.view + 0.5), asked.canonical, asked.mask)
    assert misshaping(nets, wrong)["view"] > misshaping(nets, asked)["view"]
