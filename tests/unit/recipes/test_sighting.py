"""S learns from fantasies: what it is taught, how it is judged, and that a kill costs nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from g2s_cli.errors import G2SError
from g2s_cli.estimators.depth_net import DepthNet
from g2s_cli.estimators.morphable_model import MorphableModel
from g2s_cli.geometry.camera import Camera
from g2s_cli.geometry.rasterizer import VIEW_FAR
from g2s_cli.progress import SilentProgress
from g2s_cli.weights.tensors import load_tensors, submodule_state, write_weights
from recipes.synface import sighting
from recipes.synface.fantasies import Fantasies, People
from recipes.synface.sighting import Pupil, lessons, misjudging, taken_otherwise, teach

CAMERA = Camera(16)
SIZE = CAMERA.size
ticks = torch.linspace(-1, 1, SIZE)
ROW, COLUMN = torch.meshgrid(ticks, ticks, indexing="ij")
RELIEF = 1 - 0.04 * (1 - COLUMN.square() - ROW.square()).clamp(min=0)
CPU = torch.device("cpu")


class Killed(Exception):
    pass


class Killer(SilentProgress):
    """A watch that ends the process, so to speak, at an update."""

    def __init__(self, at: int) -> None:
        self.at = at

    def advance(self, done: int, loss: float) -> None:  # noqa: ARG002
        if done == self.at:
            raise Killed


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sighting, "WIDTH", 8)
    monkeypatch.setattr(sighting, "THOUGHT", 8)
    monkeypatch.setattr(sighting, "BATCH", 4)
    monkeypatch.setattr(sighting, "AT_ONCE", 4)


def model() -> MorphableModel:
    """A round thing that is deeper or flatter."""
    shape_basis = torch.zeros(SIZE, SIZE, 3, 1)
    shape_basis[..., 2, 0] = 0.3 * (RELIEF - 1)
    blank, still = torch.zeros(3, SIZE, SIZE), torch.zeros(SIZE, SIZE, 3)
    return MorphableModel(still, shape_basis, blank, blank[..., None], blank + 1, torch.zeros(2, 4), torch.zeros(4, 1))


def people(count: int = 12) -> People:
    rng = torch.Generator().manual_seed(0)
    disc = (COLUMN.square() + ROW.square() < 0.6).float()
    grey = torch.full((count, 3, SIZE, SIZE), -0.7)
    lights = torch.cat((torch.full((count, 2), 0.5), 0.3 * torch.randn(count, 2, generator=rng)), dim=1)
    views = 0.1 * torch.randn(count, 6, generator=rng)
    shape = torch.randn(count, 1, generator=rng)
    return People(shape, grey, disc.expand(count, -1, -1), views, lights, torch.full((count,), 0.05))


class Says(nn.Module):
    """A network that says what it is told to say."""

    def __init__(self, said: Tensor) -> None:
        super().__init__()
        self.said = said

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002
        return self.said


def a_lesson(count: int = 4) -> Fantasies:
    return next(lessons(model(), RELIEF, people(), CAMERA, 0, 0, count))


def test_the_truth_up_to_its_mean_is_faultless_and_outside_the_mask_nothing_counts() -> None:
    lesson = a_lesson()
    truth = lesson.depth - 1
    assert misjudging(Says(truth + 0.01), lesson).item() == pytest.approx(0, abs=1e-5)
    beside = truth + 0.3 * (1 - lesson.mask[:, 0])
    assert misjudging(Says(beside), lesson).item() == pytest.approx(0, abs=1e-5)
    tilted, rough = truth + 0.002 * COLUMN, truth + 0.002 * (-1) ** torch.arange(SIZE)
    wrong = [misjudging(Says(said), lesson).item() for said in (tilted, rough)]
    assert 0.01 < wrong[0] < wrong[1] / 3  # slopes are what normals are made of


def test_gradient_of_the_loss() -> None:
    lesson = a_lesson()
    double = Fantasies(*(getattr(lesson, name).double() for name in ("image", "mask", "depth")))
    rng = torch.Generator().manual_seed(3)
    said = (0.01 * torch.randn(4, SIZE, SIZE, dtype=torch.float64, generator=rng)).requires_grad_()
    assert torch.autograd.gradcheck(lambda one: misjudging(Says(one), double), said, eps=1e-7, atol=1e-4)


def test_pictures_taken_otherwise_show_the_same_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its brightness is its depth, before and after."""
    for name in ("BRIGHTER", "COLOURED", "NOISE", "SIZE"):
        monkeypatch.setattr(sighting, name, 0.0)
    deep = (0.02 * (COLUMN + 0.5 * ROW)).expand(64, -1, -1)
    whole = torch.ones(64, 1, SIZE, SIZE)
    lesson = Fantasies((deep * 20).unsqueeze(1).expand(-1, 3, -1, -1), whole, 1 + deep)
    found = taken_otherwise(lesson, torch.Generator().manual_seed(0))
    inner = found.mask[:, 0] * (torch.nn.functional.avg_pool2d(found.mask, 3, 1, 1)[:, 0] > 0.99) > 0
    torch.testing.assert_close((found.image[:, 0] / 20)[inner], (found.depth - 1)[inner], atol=1e-4, rtol=0)
    assert set(found.mask.unique().tolist()) <= {0.0, 1.0}
    assert (found.image * (1 - found.mask)).abs().max() == 0
    still = [torch.allclose(one, deep[0] + 1, atol=1e-4) for one in found.depth]
    over = [torch.allclose(one, deep[0].flip(1) + 1, atol=1e-4) for one in found.depth]
    assert 5 < sum(still) < 25
    assert 5 < sum(over) < 25
    torch.testing.assert_close(taken_otherwise(lesson, torch.Generator().manual_seed(0)).image, found.image)


def test_a_depth_beside_nothing_is_its_own() -> None:
    """Turned, enlarged and moved, a disc in the air is as far away to its rim as in its middle."""
    disc = (COLUMN.square() + ROW.square() < 0.5).float().expand(64, -1, -1)
    depth = torch.where(disc > 0, 0.96, VIEW_FAR)
    lesson = Fantasies(torch.zeros(64, 3, SIZE, SIZE), disc.unsqueeze(1), depth)
    found = taken_otherwise(lesson, torch.Generator().manual_seed(0))
    there = found.depth < VIEW_FAR
    size = ((found.depth - 1) / -0.04)[there]
    assert 0.8 < size.min() <= size.max() < 1.25
    assert ((found.mask[:, 0] > 0) & ~there).sum() == 0
    assert (found.depth[~there] == VIEW_FAR).all()
    alike = [one[here].std() < 1e-6 for one, here in zip(found.depth, there, strict=True)]
    assert all(alike)


def test_what_is_larger_is_deeper_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TURN", "SHIFT", "BRIGHTER", "COLOURED", "NOISE"):
        monkeypatch.setattr(sighting, name, 0.0)
    monkeypatch.setattr(sighting, "SIZE", 0.3)
    slope = (0.02 * COLUMN).expand(32, -1, -1)
    lesson = Fantasies(torch.ones(32, 3, SIZE, SIZE), torch.ones(32, 1, SIZE, SIZE), 1 + slope)
    found = taken_otherwise(lesson, torch.Generator().manual_seed(0))
    middle = found.depth[:, 8, 6:10].diff().abs()
    torch.testing.assert_close(middle, slope[:, 8, 6:10].diff().abs(), atol=2e-5, rtol=0)  # slopes stay as they are


def test_lessons_are_the_same_whoever_begins_where() -> None:
    given = (model(), RELIEF, people(), CAMERA, 0)
    whole, rest = list(lessons(*given, 0, 10)), list(lessons(*given, 6, 10))
    assert (len(whole), len(rest)) == (10, 4)
    assert all(torch.equal(one.image, other.image) for one, other in zip(whole[6:], rest, strict=True))
    assert not torch.equal(whole[0].image, whole[4].image)
    assert not torch.equal(whole[0].image, next(lessons(*given[:-1], 1, 0, 1)).image)


def test_s_learns_depth_and_a_kill_costs_nothing(tmp_path: Path) -> None:
    given = (model(), RELIEF, people(), CAMERA, 0)
    first = Pupil.new(SIZE, CPU, 0)
    teach(first, *given, tmp_path / "whole.pt", SilentProgress(), updates=60)
    assert first.done == 60
    fresh, unseen = Pupil.new(SIZE, CPU, 0), list(lessons(*given[:-1], 7, 0, 4))
    before, after = (sum(misjudging(one.net, lesson).item() for lesson in unseen) for one in (fresh, first))
    assert after < 0.6 * before

    killed = Pupil.new(SIZE, CPU, 0)
    with pytest.raises(Killed):
        teach(killed, *given, tmp_path / "cut.pt", Killer(35), updates=60, save_every=0.0)
    again = Pupil.initial_coefficients(tmp_path / "cut.pt", SIZE, CPU, 5)
    assert again.done == 34
    teach(again, *given, tmp_path / "cut.pt", SilentProgress(), updates=60)
    for name, tensor in first.net.state_dict().items():
        torch.testing.assert_close(again.net.state_dict()[name], tensor, atol=1e-6, rtol=1e-5)
    (tmp_path / "cut.pt").write_bytes(b"cut")
    with pytest.raises(G2SError, match=r"cut\.pt is damaged"):
        Pupil.initial_coefficients(tmp_path / "cut.pt", SIZE, CPU, 0)
    assert not list(lessons(*given[:-1], 0, 61, 61))


def test_a_loss_that_is_no_number_ends_it(tmp_path: Path) -> None:
    pupil = Pupil.new(SIZE, CPU, 0)
    pupil.net.said.bias.data.fill_(torch.nan)
    with pytest.raises(G2SError, match="not finite at update 1 of S"):
        teach(pupil, model(), RELIEF, people(), CAMERA, 0, tmp_path / "nan.pt", SilentProgress(), updates=3)


def test_it_is_kept_in_bytes_and_is_the_same_network(tmp_path: Path) -> None:
    pupil, lesson = Pupil.new(SIZE, CPU, 0), a_lesson()
    write_weights(pupil.tensors, tmp_path / "s.safetensors")
    read = DepthNet.from_state(submodule_state(load_tensors(tmp_path / "s.safetensors"), "netS"))
    with torch.no_grad():
        own, other = (net(lesson.image, lesson.mask) for net in (pupil.net, read))
    assert (own - other).abs().max() < 0.06 * own.std()
