"""A photo explained by a model of shape: worlds that were made by one, and what comes of it."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from shapes import bumps, nets_around, two_eyes
from torch import Tensor
from torch.nn.functional import max_pool2d

from g2s_cli.estimators import morphable as morphing
from g2s_cli.estimators.base import MaskedImages, Observation
from g2s_cli.estimators.feedforward import FactorNets
from g2s_cli.estimators.morphable import (
    DECAY,
    ITERATIONS,
    Coefficients,
    Correspondences,
    correspond,
    debias,
    fit_coefficients,
    fit_morphable,
    initial_coefficients,
    neg_log_posterior,
    point_normals,
    render_fit,
    residuals,
    specular_strength,
    views_of,
)
from g2s_cli.estimators.morphable_model import (
    FINE,
    FINE_REACH,
    MorphableModel,
    nuisance,
    sharpen_template,
    smooth_modes,
)
from g2s_cli.estimators.registration import PosedTemplate, ShapeTemplate
from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.geometry.camera import Camera, unproject_points
from g2s_cli.geometry.center_crop import CenterCrop
from g2s_cli.geometry.normals import depth_to_normals
from g2s_cli.geometry.rasterizer import VIEW_FAR, render_depth
from g2s_cli.geometry.render import render_depth_with_margin
from g2s_cli.geometry.shading import diffuse_shading, lambert_shading, lit, specular_shading
from g2s_cli.geometry.warp import warp
from g2s_cli.progress import SilentProgress
from g2s_cli.segmentation.gan_features import Segmenter

CAMERA = Camera(32)
SIZE = CAMERA.size
LIGHT = torch.tensor([[0.5, 0.5, 0.5, 0.3]])
VIEW = torch.tensor([[0.05, 0.25, 0.0, 0.0, 0.0, 0.0]])


MEAN = bumps(CAMERA, 1, wide=0.7, high=0.8, far=1.03, colours=two_eyes)
ticks = torch.linspace(-1, 1, SIZE)
ROW, COLUMN = torch.meshgrid(ticks, ticks, indexing="ij")
# A brow that stands out by a scene unit in a hundred, and a face that is wider below.
BROW = 0.01 * torch.exp(-(COLUMN.square() + (ROW + 0.35).square()) / 0.05)
JAW = 0.004 * COLUMN * torch.exp(-((ROW - 0.5).square()) / 0.1)
NONE = torch.zeros(SIZE, SIZE)
MATT = torch.full((1, 1), -10.0)  # a code of gloss
FACTORS = torch.stack((torch.stack((NONE, NONE, -BROW), dim=-1), torch.stack((JAW, NONE, NONE), dim=-1)), dim=-1)


def pictured(depth: Tensor, view: Tensor, light: Tensor, specular: float = 0.0) -> tuple[MaskedImages, Tensor]:
    """The object of that canonical depth, and the depth that shows."""
    disc = (MEAN.depth < 1.025).float().unsqueeze(1)
    normal = depth_to_normals(depth, CAMERA)
    shading = lambert_shading(diffuse_shading(normal, light), light)
    texture = lit(MEAN.albedo, shading) + 2 * specular * specular_shading(normal, light, view).unsqueeze(1)
    found, _ = warp(torch.cat((texture, disc), dim=1), depth, view, CAMERA)
    mask = (found[:, 3:] > 0.9).float()
    return MaskedImages(found[:, :3] * mask, mask), render_depth(depth, view, CAMERA)


@pytest.fixture(scope="module")
def model() -> MorphableModel:
    albedo = (MEAN.albedo[0] / 2 + 0.5).log()
    lights = torch.stack((LIGHT[0], torch.full((4,), 0.1)))
    albedo_basis, variance = torch.zeros(3, SIZE, SIZE, 1), torch.full((3, SIZE, SIZE), 1e-3)
    return MorphableModel(
        torch.zeros(SIZE, SIZE, 3), FACTORS, albedo, albedo_basis, variance, lights, torch.zeros(4, 2)
    )


def seen_of(photo: MaskedImages, view: Tensor = VIEW) -> Correspondences:
    """Beside the mean object as it looks from there."""
    generate, depth = pictured(MEAN.depth, view, LIGHT)
    return correspond(photo, PosedTemplate(generate, view, depth), LIGHT, MEAN.depth[0], CAMERA)


@pytest.fixture(scope="module")
def brow() -> tuple[Correspondences, Tensor, Tensor]:
    """One whose brow stands out, the depth it shows, and its mask."""
    photo, depth = pictured(MEAN.depth - BROW, VIEW, LIGHT)
    return seen_of(photo), depth[0], photo.mask[0, 0]


def apart(one: Tensor, two: Tensor, where: Tensor) -> float:
    """Standard deviation of what is between two depths."""
    return (one - two)[where > 0].std().item()


def well_within(mask: Tensor) -> Tensor:
    """All but the two outermost pixels, where an outline that lies a little elsewhere shows what is behind."""
    return -max_pool2d(-mask[None, None], 5, 1, 2)[0, 0]


def test_what_only_shading_shows_is_found(model: MorphableModel, brow: tuple[Correspondences, Tensor, Tensor]) -> None:
    """A brow of the forehead's own colour."""
    seen, depth, mask = brow
    coeffs = fit_coefficients(model, seen, CAMERA, initial_coefficients(model, seen), 60, DECAY)
    assert coeffs.shape[0, 0].item() == pytest.approx(1, abs=0.35)
    assert abs(coeffs.shape[0, 1].item()) < 0.3
    assert coeffs.view.abs().max() < 0.5
    found = render_fit(model, seen, CAMERA, coeffs)
    assert (found.depth[0] < VIEW_FAR)[mask > 0].all()
    before, inside = render_depth(MEAN.depth, VIEW, CAMERA)[0], well_within(mask)
    assert inside.sum() > 0.5 * mask.sum()
    assert apart(found.depth[0], depth, inside) < 0.55 * apart(before, depth, inside)


def test_a_highlight_is_no_shape(model: MorphableModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean object's own shape, oiled: taken for matt, its brow would come out."""
    head_on = torch.tensor([[0.5, 0.5, 0.0, -0.4]])
    photo, _ = pictured(MEAN.depth, VIEW, head_on, specular=0.15)
    seen = replace(seen_of(photo), lights=head_on)
    held = replace(model, lights=torch.stack((head_on[0], torch.full((4,), 0.01))))
    coeffs = fit_coefficients(held, seen, CAMERA, initial_coefficients(held, seen), 60, DECAY)
    assert specular_strength(coeffs).item() == pytest.approx(0.15, abs=0.06)
    assert render_fit(held, seen, CAMERA, coeffs).specular.item() == specular_strength(coeffs).item()
    monkeypatch.setattr(morphing, "USUAL_GLOSS", 1e-6)
    matt = fit_coefficients(held, seen, CAMERA, initial_coefficients(held, seen), 60, DECAY)
    assert abs(coeffs.shape[0, 0].item()) < 0.3 * matt.shape[0, 0].item()


def test_what_one_object_alone_has_is_found(
    model: MorphableModel, brow: tuple[Correspondences, Tensor, Tensor]
) -> None:
    """A brow that no learnt factor has, by moves that are as likely one as another."""
    seen, depth, mask = brow
    moves = FINE * smooth_modes(CAMERA, FINE_REACH)
    own = replace(model, shape_basis=moves, bias=torch.zeros(4, moves.shape[-1]))
    coeffs = fit_coefficients(own, seen, CAMERA, initial_coefficients(own, seen), ITERATIONS, DECAY)
    found, inside = render_fit(own, seen, CAMERA, coeffs).depth[0], well_within(mask)
    before = render_depth(MEAN.depth, VIEW, CAMERA)[0]
    assert apart(found, depth, inside) < 0.6 * apart(before, depth, inside)
    assert coeffs.shape.square().mean() < 1  # no less likely than objects are


def test_what_lies_elsewhere_is_found(model: MorphableModel) -> None:
    """A face that is wider below: what it shows, the mean one shows elsewhere."""
    canonical = unproject_points(MEAN.depth, CAMERA) + FACTORS[None, ..., 1]
    seen = seen_of(pictured(MEAN.depth, VIEW, LIGHT)[0])
    pushed = replace(initial_coefficients(model, seen), shape=torch.tensor([[0.0, 1.0]]))
    left, pixels = residuals(model, seen, CAMERA, pushed)
    assert left.shape == (1, 3, SIZE, SIZE)
    torch.testing.assert_close(morphing.deform(model, seen, CAMERA, pushed), canonical)
    there = replace(seen, found=pixels, weights=50 * seen.weights)  # one flow alone counts for little
    with_flow = fit_coefficients(
        replace(model, variance=torch.full_like(model.variance, 1e3)),
        there,
        CAMERA,
        initial_coefficients(model, seen),
        60,
        DECAY,
    )
    assert with_flow.shape[0, 1].item() == pytest.approx(1, abs=0.3)


def test_nothing_is_left_of_what_the_model_made(
    model: MorphableModel, brow: tuple[Correspondences, Tensor, Tensor]
) -> None:
    seen, _, _ = brow
    true = replace(initial_coefficients(model, seen), shape=torch.tensor([[1.0, 0.0]]), specular=MATT)
    left, _ = residuals(model, seen, CAMERA, true)
    wrong, _ = residuals(model, seen, CAMERA, replace(initial_coefficients(model, seen), specular=MATT))
    forehead = (seen.weights * (BROW > 0.002)).unsqueeze(1)
    assert (left.square() * forehead).sum() < 0.3 * (wrong.square() * forehead).sum()


def test_nothing_is_left_of_a_dark_object_either(model: MorphableModel) -> None:
    """A fifth as bright: its shading is as deep as any, though its pictures' logarithms, which are lifted, are not."""
    photo, _ = pictured(MEAN.depth, VIEW, LIGHT)
    dark = replace(photo, image=(0.2 * (photo.image + 1) - 1) * photo.mask)
    bright, dim = seen_of(photo), replace(seen_of(photo), log_brightness=seen_of(dark).log_brightness)
    coeffs = replace(initial_coefficients(model, dim), specular=MATT)
    left, _ = residuals(model, dim, CAMERA, replace(coeffs, colour=torch.full((1, 3), 0.2).log()))
    usual, _ = residuals(model, bright, CAMERA, coeffs)
    inside = bright.weights.unsqueeze(1) > 0
    assert (left - usual)[inside.expand_as(left)].abs().median() < 0.005


def test_view_and_light_alone_are_taken_from_what_codes_say(
    model: MorphableModel, brow: tuple[Correspondences, Tensor, Tensor]
) -> None:
    """A picture's own, as its codes have them; nothing but the codes of shape changes."""
    seen, _, _ = brow
    coeffs = replace(initial_coefficients(model, seen), shape=torch.tensor([[1.0, -1.0]]), view=torch.full((1, 6), 0.2))
    biased = replace(model, bias=torch.tensor([[0.3, 0.0], [2.0, 0.0], [0.0, 4.0], [0.0, 0.0]]))
    free = debias(biased, seen, coeffs)
    told = nuisance(views_of(seen, coeffs), coeffs.light)[0]
    torch.testing.assert_close(free.shape, torch.stack((0.7 - 2 * told[1], -1 - 4 * told[2]))[None])
    for name in ("view", "light", "colour", "albedo", "specular"):
        assert torch.equal(getattr(free, name), getattr(coeffs, name))
    assert torch.equal(debias(model, seen, coeffs).shape, coeffs.shape)


@pytest.fixture
def nets() -> FactorNets:
    return nets_around(MEAN, CAMERA)


def test_a_second_opinion_is_without_bias(
    model: MorphableModel,
    brow: tuple[Correspondences, Tensor, Tensor],
    nets: FactorNets,
    generator: Generator,
    segmenter: Segmenter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a model that makes a brow of every picture, a brow less."""
    monkeypatch.setattr(morphing, "UPDATES", 20)
    monkeypatch.setattr(morphing, "beside_mean", lambda *_: brow[0])  # however the GAN shows the mean object
    observation = Observation(
        torch.zeros(3, SIZE, SIZE), torch.ones(SIZE, SIZE), torch.zeros(512), CenterCrop(1.0, SIZE)
    )
    mean = ShapeTemplate(MEAN.depth[0], observation.latent, torch.zeros(4, 512), segmenter)

    def said(bias: float) -> Tensor:
        biased = replace(model, bias=torch.tensor([[bias, 0.0], *[[0.0, 0.0]] * 3]))
        return fit_morphable(nets, generator, observation, mean, biased, SilentProgress(), masked=True).depth[0]

    plain, less = said(0.0), said(1.0)
    change = torch.where((plain < VIEW_FAR) & (less < VIEW_FAR), less - plain, 0.0)
    assert change.max().item() == pytest.approx(BROW.max().item(), abs=0.002)
    assert change[20:].abs().max() < 1e-3


def test_the_mean_objects_own_picture_is_explained_by_the_mean(model: MorphableModel) -> None:
    photo, depth = pictured(MEAN.depth, VIEW, LIGHT)
    seen = seen_of(photo)
    coeffs = fit_coefficients(model, seen, CAMERA, initial_coefficients(model, seen), 30, DECAY)
    assert coeffs.shape.abs().max() < 0.2
    found = render_fit(model, seen, CAMERA, coeffs)
    assert apart(found.depth[0], depth[0], well_within(photo.mask[0, 0])) < 0.002
    hidden = seen.weights[0] * (MEAN.depth[0] > 1.029)  # the plane behind is no part of the mask
    assert hidden.sum() == 0


def test_depth_is_what_the_moved_points_show(model: MorphableModel) -> None:
    """The model's own object, as if a relief of it had been looked at, and beyond the canonical frame, too."""
    seen = seen_of(pictured(MEAN.depth, VIEW, LIGHT)[0])
    still = render_fit(model, seen, CAMERA, initial_coefficients(model, seen))
    torch.testing.assert_close(still.depth, render_depth_with_margin(MEAN.depth, seen.views, CAMERA))
    coeffs = replace(initial_coefficients(model, seen), shape=torch.tensor([[1.0, 0.0]]), view=0.3 * torch.ones(1, 6))
    moved = render_fit(model, seen, CAMERA, coeffs)
    deeper = render_depth_with_margin(
        MEAN.depth - BROW, views_of(seen, coeffs), CAMERA
    )  # along rays, which hardly matters
    torch.testing.assert_close(moved.depth, deeper, atol=5e-4, rtol=0)
    turned = seen.views + 0.3 * seen.views.new_tensor(morphing.VIEW_DEVIATIONS)
    torch.testing.assert_close(views_of(seen, coeffs), turned)


def test_what_is_moved_before_something_hides_it(model: MorphableModel) -> None:
    """A step to the side: points that slide behind others are not in the picture, those they uncover are near."""
    slide = torch.zeros(SIZE, SIZE, 3)
    slide[:, :16, 0] = 0.012  # two pixels to the right
    slide[:, :16, 2] = 0.02  # and away
    seen = seen_of(pictured(MEAN.depth, torch.zeros(1, 6), LIGHT)[0], torch.zeros(1, 6))
    still, coeffs = seen.relief.clone(), initial_coefficients(model, seen)
    flat = replace(seen, relief=torch.full_like(still, 0.98), views=torch.zeros(1, 6))
    generate = render_fit(replace(model, mean=slide), flat, CAMERA, coeffs).depth[0, 8]
    torch.testing.assert_close(generate[16:30], torch.full((14,), 0.98))
    torch.testing.assert_close(generate[6:14], torch.full((8,), 1.0))


def test_pictures_are_explained_each_by_itself(
    model: MorphableModel, brow: tuple[Correspondences, Tensor, Tensor]
) -> None:
    one, other = brow[0], seen_of(pictured(MEAN.depth, VIEW, LIGHT)[0])
    pair = {
        field.name: one.relief
        if field.name == "relief"
        else torch.cat([getattr(some, field.name) for some in (one, other)])
        for field in fields(Correspondences)
    }
    both = Correspondences(**pair)
    together = fit_coefficients(model, both, CAMERA, initial_coefficients(model, both), 5, DECAY)
    alone = fit_coefficients(model, other, CAMERA, initial_coefficients(model, other), 5, DECAY)
    torch.testing.assert_close(together.shape[1:], alone.shape, atol=1e-4, rtol=0)


def test_how_unlikely_codes_are_has_the_right_gradient(
    model: MorphableModel, brow: tuple[Correspondences, Tensor, Tensor]
) -> None:
    double = MorphableModel(*(value.double() for value in vars(model).values()))
    seen = Correspondences(**{name: value.double() for name, value in vars(brow[0]).items()})
    coeffs = [
        torch.randn(1, size, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
        for size in (2, 6, 3, 1, 1)
    ]
    coeffs.insert(2, LIGHT.double() + 0.01)

    def cost(*coeffs: Tensor) -> Tensor:
        return neg_log_posterior(double, seen, CAMERA, Coefficients(*coeffs)).sum()

    begin = [(0.1 * code if index != 2 else code).requires_grad_() for index, code in enumerate(coeffs)]
    assert torch.autograd.gradcheck(cost, begin, eps=1e-7, atol=1e-3, rtol=1e-3)


def test_normals_of_points_on_a_grid_are_those_of_the_depth() -> None:
    found = point_normals(unproject_points(MEAN.depth, CAMERA))
    torch.testing.assert_close(found[:, 1:-1, 1:-1], depth_to_normals(MEAN.depth, CAMERA)[:, 1:-1, 1:-1])
    assert torch.equal(found[:, 0], found[:, 1])


def test_a_ramp_of_the_mean_object_is_read_as_a_step() -> None:
    """Of the relief and what the model adds to it together; the moves to the side, and the model above, stay."""
    camera, rows = Camera(64), torch.arange(64.0)[:, None].expand(64, 64)
    relief = 0.95 + 0.025 * torch.sigmoid((rows - 47.5) / 0.7)
    half = torch.zeros(64, 64, 3)
    half[..., 0], half[..., 2] = 0.003, 0.025 * torch.sigmoid((rows - 47.5) / 0.7)
    blank = torch.zeros(3, 64, 64)
    model = MorphableModel(
        half, half[..., None], blank, blank[..., None], blank + 1, torch.zeros(2, 4), torch.zeros(4, 1)
    )
    found = sharpen_template(model, relief, camera, 0.5)
    before, after = ((relief + some.mean[..., 2])[:, 32] for some in (model, found))
    assert after.diff().max() > 1.15 * before.diff().max()
    assert torch.equal(found.mean[..., :2], model.mean[..., :2])
    torch.testing.assert_close(found.mean[:40], model.mean[:40])
    assert torch.equal(sharpen_template(model, relief, camera, 1.0).mean, model.mean)
    assert found.shape_basis is model.shape_basis
