"""Photos taken apart and put together otherwise: what they show is what they are said to show."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from g2s_cli.estimators.morphable import Coefficients, Correspondences
from g2s_cli.estimators.morphable_model import MorphableModel
from g2s_cli.estimators.registration import log_brightness
from g2s_cli.geometry.camera import Camera
from recipes.synface.fantasies import Fantasies, People, mixed, put_together, taken_apart, together

CAMERA = Camera(32)
SIZE = CAMERA.size
ticks = torch.linspace(-1, 1, SIZE)
ROW, COLUMN = torch.meshgrid(ticks, ticks, indexing="ij")
RELIEF = 1 - 0.04 * (1 - COLUMN.square() - ROW.square()).clamp(min=0)
DISC = (COLUMN.square() + ROW.square() < 0.5).float()
NOSE = 0.01 * torch.exp(-(COLUMN.square() + ROW.square()) / 0.05)
LEFT_DARK = torch.where(COLUMN < 0, -1.2, -0.6).expand(3, -1, -1)


def model() -> MorphableModel:
    """A round thing whose nose may be longer; one code is one standard deviation of that."""
    shape_basis = torch.zeros(SIZE, SIZE, 3, 1)
    shape_basis[..., 2, 0] = -NOSE
    blank = torch.zeros(3, SIZE, SIZE)
    lights = torch.tensor([[0.4, 0.6, 0, 0], [0.1, 0.1, 0.3, 0.3]])
    still = torch.zeros(SIZE, SIZE, 3)
    return MorphableModel(still, shape_basis, blank - 0.7, blank[..., None], blank + 1e-3, lights, torch.zeros(4, 1))


def people(count: int = 3) -> People:
    """Noses of several lengths, grey skin, seen from several sides."""
    views, lights = torch.zeros(count, 6), torch.tensor([[0.4, 0.5, 0.0, 0.0]]).repeat(count, 1)
    views[:, 1], lights[:, 2] = torch.linspace(-0.3, 0.3, count), torch.linspace(0.4, -0.4, count)
    shape = torch.linspace(-1, 1, count)[:, None]
    grey = torch.full((count, 3, SIZE, SIZE), -0.7)
    return People(shape, grey, DISC.expand(count, -1, -1), views, lights, torch.full((count,), 1e-6))


def explained(some: People, result: Fantasies) -> tuple[Correspondences, Coefficients]:
    """Pictures, and the codes they were made with."""
    count = len(some.shape)
    matt = torch.full((count, 1), -10.0)
    coeffs = Coefficients(
        some.shape, torch.zeros(count, 6), some.lights, torch.zeros(count, 3), torch.zeros(count, 1), matt
    )
    nowhere = torch.zeros(count, SIZE, SIZE, 2)
    return Correspondences(
        log_brightness(result.image), RELIEF, some.views, some.lights, nowhere, nowhere[..., 0]
    ), coeffs


def test_what_is_put_together_shows_its_depth_its_light_and_its_outline() -> None:
    one = people(1)
    one = replace(one, views=torch.zeros(1, 6), lights=torch.tensor([[0.4, 0.5, 0.0, 0.0]]))
    result = put_together(model(), RELIEF, one, CAMERA)
    inside = (COLUMN.square() + ROW.square() < 0.35)[None]
    expected = RELIEF - one.shape[0, 0] * NOSE
    torch.testing.assert_close(result.depth[inside], expected[None][inside], atol=3e-4, rtol=0)
    middle = (result.image[0, :, SIZE // 2, SIZE // 2] + 1) / 2  # faces the light
    torch.testing.assert_close(middle, torch.full((3,), 0.9 * math.exp(-0.7)), atol=0.01, rtol=0)
    assert (result.mask[0, 0] - DISC).abs().sum() < 8
    assert (result.image * (1 - result.mask)).abs().max() == 0
    assert (result.depth[result.mask[:, 0] > 0] < 1.19).all()


def test_a_longer_nose_is_nearer_and_throws_its_shading() -> None:
    both = replace(people(2), shape=torch.tensor([[2.0], [-2.0]]), views=torch.zeros(2, 6))
    result = put_together(model(), RELIEF, replace(both, lights=both.lights[:1].expand(2, -1)), CAMERA)
    assert result.depth[0, 16, 16] < result.depth[1, 16, 16] - 0.03
    assert (result.image[0] - result.image[1]).abs().max() > 0.1


def test_taken_apart_it_is_what_it_was_put_together_of() -> None:
    """Where the picture shows it; of what it does not, the other half's; its colour is all of its reflectance's."""
    three = replace(people(), reflectance=torch.full((3, 3, SIZE, SIZE), -0.4))
    result = put_together(model(), RELIEF, three, CAMERA)
    seen, coeffs = explained(three, result)
    found = taken_apart(model(), seen, coeffs, result.mask, CAMERA)
    inside = (COLUMN.square() + ROW.square() < 0.3).expand(3, 3, -1, -1)
    apart = (found.reflectance - three.reflectance)[inside].abs()
    assert apart.mean() < 0.02
    assert torch.equal(found.shape, three.shape)
    torch.testing.assert_close(found.views, three.views)
    iou = ((found.masks > 0.5) & (DISC > 0.5)).sum((1, 2)) / ((found.masks > 0.5) | (DISC > 0.5)).sum((1, 2))
    assert iou.min() > 0.9
    again = put_together(model(), RELIEF, found, CAMERA)
    both = (again.mask * result.mask).expand(-1, 3, -1, -1) > 0
    assert (again.image - result.image)[both].abs().mean() < 0.03


def test_what_one_half_hides_the_other_one_shows() -> None:
    """Of a head turned by 40° the far half's colour is not seen everywhere; both are of one colour then."""
    one = replace(people(1), reflectance=LEFT_DARK[None], views=torch.tensor([[0, 0.7, 0, 0, 0, 0]]).float())
    result = put_together(model(), RELIEF, one, CAMERA)
    seen, coeffs = explained(one, result)
    narrow = result.mask * (COLUMN > -0.25)  # which lacks what is beyond
    found = taken_apart(model(), seen, coeffs, narrow, CAMERA)
    row = found.reflectance[0, 0, SIZE // 2]
    assert row[5] == pytest.approx(row[SIZE - 6].item(), abs=0.05)


def test_people_are_mixed_with_their_codes_as_likely_as_before() -> None:
    rng = torch.Generator().manual_seed(0)
    count = 400
    many = people(count)
    number = torch.arange(float(count))
    maps = {
        "reflectance": number.view(-1, 1, 1, 1).expand(-1, 3, 2, 2),
        "masks": number.view(-1, 1, 1).expand(-1, 2, 2),
    }
    many = replace(many, shape=torch.randn(count, 1, generator=rng), specular=number, **maps)
    found = mixed(many, 2000, torch.Generator().manual_seed(1))
    assert found.shape.std() == pytest.approx(many.shape.std().item(), rel=0.06)
    who, albedo, seen = found.masks[:, 0, 0].long(), found.reflectance[:, 0, 0, 0].long(), found.specular.long()
    assert 0.55 < (who == albedo).float().mean() < 0.68
    assert (who == seen).float().mean() < 0.02
    torch.testing.assert_close(found.views, many.views[seen])
    torch.testing.assert_close(found.lights, many.lights[seen])
    own = (found.shape - many.shape[who]).abs()[:, 0] < 1e-6
    assert 0.25 < own.float().mean() < 0.36
    again = mixed(many, 2000, torch.Generator().manual_seed(1))
    assert torch.equal(found.shape, again.shape)


def test_people_in_a_row_are_picked_by_their_place() -> None:
    both = together([people(2), people(3)])
    torch.testing.assert_close(both.pick(torch.tensor([2, 4])).views, people(3).views[[0, 2]])


def test_a_chin_ends_in_a_step() -> None:
    """The mean's ramp from chin to neck is drawn as a step, in depth; colours stay with their points."""
    size = 64
    camera, rows = Camera(size), torch.arange(64.0)[:, None].expand(64, 64)
    ramp = 0.95 + 0.05 * torch.sigmoid((rows - 47.5) / 0.8)
    blank, still = torch.zeros(3, size, size), torch.zeros(size, size, 3)
    flat = MorphableModel(
        still, still[..., None], blank, blank[..., None], blank + 1, torch.zeros(2, 4), torch.zeros(4, 1)
    )
    one = People(torch.zeros(1, 1), blank[None] - 1, torch.ones(1, size, size), torch.zeros(1, 6),
                 torch.tensor([[0.5, 0.0, 0.0, 0.0]]), torch.zeros(1))  # fmt: skip
    result: Fantasies = put_together(flat, ramp, one, camera)
    column = result.depth[0, 20:, 32]
    assert column.diff().max() > 1.15 * ramp[:, 32].diff().max()
    torch.testing.assert_close(column[:20], ramp[20:40, 32], atol=1e-4, rtol=0)
