"""Synthetic pairs: rendering and decomposing are each other's inverse, and recombination keeps the prior."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from g2s_cli.estimators.morphable import Coefficients, Correspondences
from g2s_cli.estimators.morphable_model import MorphableModel
from g2s_cli.estimators.registration import log_brightness
from g2s_cli.geometry.camera import Camera
from g2s_cli.training.synthetic import FittedObjects, Pairs, decompose, recombine, render_pairs

CAMERA = Camera(32)
SIZE = CAMERA.size
ticks = torch.linspace(-1, 1, SIZE)
ROW, COLUMN = torch.meshgrid(ticks, ticks, indexing="ij")
RELIEF = 1 - 0.04 * (1 - COLUMN.square() - ROW.square()).clamp(min=0)
DISC = (COLUMN.square() + ROW.square() < 0.5).float()
NOSE = 0.01 * torch.exp(-(COLUMN.square() + ROW.square()) / 0.05)
LEFT_DARK = torch.where(COLUMN < 0, -1.2, -0.6).expand(3, -1, -1)


def model() -> MorphableModel:
    """A round object whose one coefficient is the length of its nose, in standard deviations."""
    shape_basis = torch.zeros(SIZE, SIZE, 3, 1)
    shape_basis[..., 2, 0] = -NOSE
    blank = torch.zeros(3, SIZE, SIZE)
    lights = torch.tensor([[0.4, 0.6, 0, 0], [0.1, 0.1, 0.3, 0.3]])
    still = torch.zeros(SIZE, SIZE, 3)
    return MorphableModel(still, shape_basis, blank - 0.7, blank[..., None], blank + 1e-3, lights)


def objects(count: int = 3) -> FittedObjects:
    """Grey objects with noses of several lengths, from several views."""
    views, lights = torch.zeros(count, 6), torch.tensor([[0.4, 0.5, 0.0, 0.0]]).repeat(count, 1)
    views[:, 1], lights[:, 2] = torch.linspace(-0.3, 0.3, count), torch.linspace(0.4, -0.4, count)
    shape = torch.linspace(-1, 1, count)[:, None]
    grey = torch.full((count, 3, SIZE, SIZE), -0.7)
    return FittedObjects(shape, grey, DISC.expand(count, -1, -1), views, lights, torch.full((count,), 1e-6))


def fit_of(some: FittedObjects, result: Pairs) -> tuple[Correspondences, Coefficients]:
    """Correspondences and coefficients of rendered objects."""
    count = len(some.shape)
    matt = torch.full((count, 1), -10.0)
    coeffs = Coefficients(
        some.shape, torch.zeros(count, 6), some.lights, torch.zeros(count, 3), torch.zeros(count, 1), matt
    )
    log_image, pixels = log_brightness(result.image), torch.zeros(count, SIZE, SIZE, 2)
    return Correspondences(log_image, RELIEF, some.views, some.lights, pixels, pixels[..., 0]), coeffs


def test_a_rendered_pair_has_the_objects_depth_brightness_and_mask() -> None:
    one = objects(1)
    one = replace(one, views=torch.zeros(1, 6), lights=torch.tensor([[0.4, 0.5, 0.0, 0.0]]))
    result = render_pairs(model(), RELIEF, one, CAMERA)
    inside = (COLUMN.square() + ROW.square() < 0.35)[None]
    expected = RELIEF - one.shape[0, 0] * NOSE
    torch.testing.assert_close(result.depth[inside], expected[None][inside], atol=3e-4, rtol=0)
    middle = (result.image[0, :, SIZE // 2, SIZE // 2] + 1) / 2  # faces the light
    torch.testing.assert_close(middle, torch.full((3,), 0.9 * math.exp(-0.7)), atol=0.01, rtol=0)
    assert (result.mask[0, 0] - DISC).abs().sum() < 8
    assert (result.image * (1 - result.mask)).abs().max() == 0
    assert (result.depth[result.mask[:, 0] > 0] < 1.19).all()


def test_a_longer_nose_is_nearer_and_changes_the_shading() -> None:
    both = replace(objects(2), shape=torch.tensor([[2.0], [-2.0]]), views=torch.zeros(2, 6))
    result = render_pairs(model(), RELIEF, replace(both, lights=both.lights[:1].expand(2, -1)), CAMERA)
    assert result.depth[0, 16, 16] < result.depth[1, 16, 16] - 0.03
    assert (result.image[0] - result.image[1]).abs().max() > 0.1


def test_decomposing_a_rendered_image_gives_its_factors_back() -> None:
    three = replace(objects(), albedo=torch.full((3, 3, SIZE, SIZE), -0.4))
    result = render_pairs(model(), RELIEF, three, CAMERA)
    part, coeffs = fit_of(three, result)
    factors = decompose(model(), part, coeffs, result.mask, CAMERA)
    inside = (COLUMN.square() + ROW.square() < 0.3).expand(3, 3, -1, -1)
    assert (factors.albedo - three.albedo)[inside].abs().mean() < 0.02
    assert torch.equal(factors.shape, three.shape)
    torch.testing.assert_close(factors.views, three.views)
    mask, disc = factors.masks > 0.5, DISC > 0.5
    iou = (mask & disc).sum((1, 2)) / (mask | disc).sum((1, 2))
    assert iou.min() > 0.9
    again = render_pairs(model(), RELIEF, factors, CAMERA)
    both = (again.mask * result.mask).expand(-1, 3, -1, -1) > 0
    assert (again.image - result.image)[both].abs().mean() < 0.03


def test_hidden_albedo_is_filled_by_symmetry() -> None:
    """Of an object turned by 40° one half is partly hidden, and has the other half's albedo there."""
    one = replace(objects(1), albedo=LEFT_DARK[None], views=torch.tensor([[0, 0.7, 0, 0, 0, 0]]).float())
    result = render_pairs(model(), RELIEF, one, CAMERA)
    part, coeffs = fit_of(one, result)
    narrow = result.mask * (COLUMN > -0.25)  # the left part is masked out
    row = decompose(model(), part, coeffs, narrow, CAMERA).albedo[0, 0, SIZE // 2]
    assert row[5] == pytest.approx(row[SIZE - 6].item(), abs=0.05)


def test_recombination_keeps_the_coefficients_distribution_and_takes_view_and_light_of_one_photo() -> None:
    rng = torch.Generator().manual_seed(0)
    count = 400
    many = objects(count)
    number = torch.arange(float(count))
    maps = {
        "albedo": number.view(-1, 1, 1, 1).expand(-1, 3, 2, 2),
        "masks": number.view(-1, 1, 1).expand(-1, 2, 2),
    }
    many = replace(many, shape=torch.randn(count, 1, generator=rng), specular=number, **maps)
    mixed = recombine(many, 2000, torch.Generator().manual_seed(1))
    assert mixed.shape.std() == pytest.approx(many.shape.std().item(), rel=0.06)
    one, albedo, view = mixed.masks[:, 0, 0].long(), mixed.albedo[:, 0, 0, 0].long(), mixed.specular.long()
    assert 0.55 < (one == albedo).float().mean() < 0.68
    assert (one == view).float().mean() < 0.02
    torch.testing.assert_close(mixed.views, many.views[view])
    torch.testing.assert_close(mixed.lights, many.lights[view])
    unmixed = (mixed.shape - many.shape[one]).abs()[:, 0] < 1e-6
    assert 0.25 < unmixed.float().mean() < 0.36
    again = recombine(many, 2000, torch.Generator().manual_seed(1))
    assert torch.equal(mixed.shape, again.shape)


def test_concatenated_objects_are_picked_by_index() -> None:
    both = FittedObjects.concatenate([objects(2), objects(3)])
    torch.testing.assert_close(both.pick(torch.tensor([2, 4])).views, objects(3).views[[0, 2]])


def test_depth_edges_of_the_mean_shape_are_sharpened() -> None:
    """A ramp below the middle, as from chin to neck, becomes steeper in depth."""
    size = 64
    camera, rows = Camera(size), torch.arange(64.0)[:, None].expand(64, 64)
    ramp = 0.95 + 0.05 * torch.sigmoid((rows - 47.5) / 0.8)
    blank, still = torch.zeros(3, size, size), torch.zeros(size, size, 3)
    flat = MorphableModel(still, still[..., None], blank, blank[..., None], blank + 1, torch.zeros(2, 4))
    one = FittedObjects(torch.zeros(1, 1), blank[None] - 1, torch.ones(1, size, size), torch.zeros(1, 6),
                 torch.tensor([[0.5, 0.0, 0.0, 0.0]]), torch.zeros(1))  # fmt: skip
    result: Pairs = render_pairs(flat, ramp, one, camera)
    column = result.depth[0, 20:, 32]
    assert column.diff().max() > 1.15 * ramp[:, 32].diff().max()
    torch.testing.assert_close(column[:20], ramp[20:40, 32], atol=1e-4, rtol=0)
