"""The fit of the morphable model to photos that are rendered from one."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from shapes import bumps, nets_around, two_eyes
from torch import Tensor
from torch.nn.functional import max_pool2d

from g2s_cli.estimators import morphable
from g2s_cli.estimators.base import MaskedImages, Observation
from g2s_cli.estimators.morphable import (
    DECAY,
    ITERATIONS,
    Coefficients,
    Correspondences,
    MorphableEstimator,
    correspond,
    deform,
    fit_coefficients,
    initial_coefficients,
    neg_log_posterior,
    point_normals,
    render_fit,
    residuals,
    specular_strength,
    views_of,
)
from g2s_cli.estimators.morphable_model import FINE, FINE_REACH, MorphableModel, smooth_modes
from g2s_cli.estimators.registration import PosedTemplate, ShapeTemplate
from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.geometry.camera import Camera, unproject_points
from g2s_cli.geometry.center_crop import CenterCrop
from g2s_cli.geometry.normals import depth_to_normals
from g2s_cli.geometry.rasterizer import VIEW_FAR, render_depth
from g2s_cli.geometry.render import render_depth_with_margin
from g2s_cli.geometry.shading import apply_shading, diffuse_shading, lambert_shading, specular_shading
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
# A brow that stands out by 0.01 scene units, and a face that is wider below.
BROW = 0.01 * torch.exp(-(COLUMN.square() + (ROW + 0.35).square()) / 0.05)
JAW = 0.004 * COLUMN * torch.exp(-((ROW - 0.5).square()) / 0.1)
NONE = torch.zeros(SIZE, SIZE)
MATT = torch.full((1, 1), -10.0)  # a specular coefficient
SHAPE_BASIS = torch.stack((torch.stack((NONE, NONE, -BROW), dim=-1), torch.stack((JAW, NONE, NONE), dim=-1)), dim=-1)


def photo_of(depth: Tensor, view: Tensor, light: Tensor, specular: float = 0.0) -> tuple[MaskedImages, Tensor]:
    """A rendering of a canonical depth, and its depth in that view."""
    disc = (MEAN.depth < 1.025).float().unsqueeze(1)
    normal = depth_to_normals(depth, CAMERA)
    shading = lambert_shading(diffuse_shading(normal, light), light)
    texture = apply_shading(MEAN.albedo, shading) + 2 * specular * specular_shading(normal, light, view).unsqueeze(1)
    warped, _ = warp(torch.cat((texture, disc), dim=1), depth, view, CAMERA)
    mask = (warped[:, 3:] > 0.9).float()
    return MaskedImages(warped[:, :3] * mask, mask), render_depth(depth, view, CAMERA)


@pytest.fixture(scope="module")
def model() -> MorphableModel:
    albedo = (MEAN.albedo[0] / 2 + 0.5).log()
    lights = torch.stack((LIGHT[0], torch.full((4,), 0.1)))
    albedo_basis, variance = torch.zeros(3, SIZE, SIZE, 1), torch.full((3, SIZE, SIZE), 1e-3)
    return MorphableModel(torch.zeros(SIZE, SIZE, 3), SHAPE_BASIS, albedo, albedo_basis, variance, lights)


def correspondences(photo: MaskedImages, view: Tensor = VIEW) -> Correspondences:
    """Of a photo and the template in its view."""
    rendered, depth = photo_of(MEAN.depth, view, LIGHT)
    return correspond(photo, PosedTemplate(rendered, view, depth), LIGHT, MEAN.depth[0], CAMERA)


def fit(model: MorphableModel, points: Correspondences, iterations: int = 60) -> Coefficients:
    return fit_coefficients(model, points, CAMERA, initial_coefficients(model, points), iterations, DECAY)


@pytest.fixture(scope="module")
def brow() -> tuple[Correspondences, Tensor, Tensor]:
    """A photo of a face whose brow stands out, its depth and its mask."""
    photo, depth = photo_of(MEAN.depth - BROW, VIEW, LIGHT)
    return correspondences(photo), depth[0], photo.mask[0, 0]


def depth_error(one: Tensor, two: Tensor, where: Tensor) -> float:
    """Standard deviation of the difference of two depths."""
    return (one - two)[where > 0].std().item()


def eroded(mask: Tensor) -> Tensor:
    """A mask without its two outermost pixels, where a shifted outline shows the background."""
    return -max_pool2d(-mask[None, None], 5, 1, 2)[0, 0]


Brow = tuple[Correspondences, Tensor, Tensor]


def test_shape_that_only_shading_shows_is_recovered(model: MorphableModel, brow: Brow) -> None:
    """A brow of the forehead's own colour."""
    points, depth, mask = brow
    coeffs = fit(model, points)
    assert coeffs.shape[0, 0].item() == pytest.approx(1, abs=0.35)
    assert abs(coeffs.shape[0, 1].item()) < 0.3
    assert coeffs.view.abs().max() < 0.5
    fitted = render_fit(model, points, CAMERA, coeffs)[0]
    assert (fitted < VIEW_FAR)[mask > 0].all()
    before, inside = render_depth(MEAN.depth, VIEW, CAMERA)[0], eroded(mask)
    assert inside.sum() > 0.5 * mask.sum()
    assert depth_error(fitted, depth, inside) < 0.55 * depth_error(before, depth, inside)


def test_a_highlight_is_not_taken_for_shape(model: MorphableModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A specular template: without specular strength, its brow would come out."""
    head_on = torch.tensor([[0.5, 0.5, 0.0, -0.4]])
    photo, _ = photo_of(MEAN.depth, VIEW, head_on, specular=0.15)
    points = replace(correspondences(photo), lights=head_on)
    known_light = replace(model, lights=torch.stack((head_on[0], torch.full((4,), 0.01))))
    coeffs = fit(known_light, points)
    assert specular_strength(coeffs).item() == pytest.approx(0.15, abs=0.06)
    monkeypatch.setattr(morphable, "USUAL_SPECULAR", 1e-6)
    matt = fit(known_light, points)
    assert abs(coeffs.shape[0, 0].item()) < 0.3 * matt.shape[0, 0].item()


@pytest.mark.slow
def test_smooth_modes_recover_shape_outside_the_learnt_basis(model: MorphableModel, brow: Brow) -> None:
    points, depth, mask = brow
    modes = FINE * smooth_modes(CAMERA, FINE_REACH)
    smooth = replace(model, shape_basis=modes)
    coeffs = fit(smooth, points, ITERATIONS)
    fitted, inside = render_fit(smooth, points, CAMERA, coeffs)[0], eroded(mask)
    before = render_depth(MEAN.depth, VIEW, CAMERA)[0]
    assert depth_error(fitted, depth, inside) < 0.6 * depth_error(before, depth, inside)
    assert coeffs.shape.square().mean() < 1  # the prior's variance


def test_flow_recovers_displacements_along_the_image(model: MorphableModel) -> None:
    """A face that is wider below, without any photometric term."""
    points = correspondences(photo_of(MEAN.depth, VIEW, LIGHT)[0])
    wider = replace(initial_coefficients(model, points), shape=torch.tensor([[0.0, 1.0]]))
    differences, pixels = residuals(model, points, CAMERA, wider)
    assert differences.shape == (1, 3, SIZE, SIZE)
    canonical = unproject_points(MEAN.depth, CAMERA) + SHAPE_BASIS[None, ..., 1]
    torch.testing.assert_close(deform(model, points, CAMERA, wider), canonical)
    flow = replace(points, pixels=pixels, weights=50 * points.weights)  # one flow alone counts for little
    coeffs = fit(replace(model, variance=torch.full_like(model.variance, 1e3)), flow)
    assert coeffs.shape[0, 1].item() == pytest.approx(1, abs=0.3)


def test_residuals_vanish_at_the_true_coefficients(model: MorphableModel, brow: Brow) -> None:
    points, _, _ = brow
    mean = replace(initial_coefficients(model, points), specular=MATT)
    true = replace(mean, shape=torch.tensor([[1.0, 0.0]]))
    forehead = (points.weights * (BROW > 0.002)).unsqueeze(1)
    right, wrong = (residuals(model, points, CAMERA, coeffs)[0].square() * forehead for coeffs in (true, mean))
    assert right.sum() < 0.3 * wrong.sum()


def test_residuals_do_not_depend_on_brightness(model: MorphableModel) -> None:
    """A photo a fifth as bright, though the logarithms are of lifted images."""
    photo, _ = photo_of(MEAN.depth, VIEW, LIGHT)
    dark = replace(photo, image=(0.2 * (photo.image + 1) - 1) * photo.mask)
    bright = correspondences(photo)
    dim = replace(bright, log_image=correspondences(dark).log_image)
    coeffs = replace(initial_coefficients(model, dim), specular=MATT)
    darker, _ = residuals(model, dim, CAMERA, replace(coeffs, colour=torch.full((1, 3), 0.2).log()))
    usual, _ = residuals(model, bright, CAMERA, coeffs)
    visible = bright.weights.unsqueeze(1) > 0
    assert (darker - usual)[visible.expand_as(usual)].abs().median() < 0.005


def test_the_estimate_is_the_depth_of_the_fit(
    model: MorphableModel, brow: Brow, generator: Generator, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(morphable, "find_correspondences", lambda *_: brow[0])  # however the GAN renders the template
    observation = Observation(
        torch.zeros(3, SIZE, SIZE), torch.ones(SIZE, SIZE), torch.zeros(512), CenterCrop(1.0, SIZE)
    )
    template = ShapeTemplate(MEAN.depth[0], observation.latent, torch.zeros(4, 512), segmenter)
    estimator = MorphableEstimator(model, template, nets_around(MEAN, CAMERA), generator, 20, masked=True)
    estimate = estimator.estimate(observation, SilentProgress())
    assert torch.equal(estimate.valid, (estimate.depth < VIEW_FAR).float())
    assert torch.equal(estimate.depth, render_fit(model, brow[0], CAMERA, fit(model, brow[0], 20))[0])


def test_the_fit_to_the_templates_own_image_is_the_mean(model: MorphableModel) -> None:
    photo, depth = photo_of(MEAN.depth, VIEW, LIGHT)
    points = correspondences(photo)
    coeffs = fit(model, points, 30)
    assert coeffs.shape.abs().max() < 0.2
    fitted = render_fit(model, points, CAMERA, coeffs)[0]
    assert depth_error(fitted, depth[0], eroded(photo.mask[0, 0])) < 0.002
    assert (points.weights[0] * (MEAN.depth[0] > 1.029)).sum() == 0  # the plane behind is outside the mask


def test_render_fit_agrees_with_the_depth_of_a_canonical_map(model: MorphableModel) -> None:
    points = correspondences(photo_of(MEAN.depth, VIEW, LIGHT)[0])
    initial = initial_coefficients(model, points)
    undisplaced = render_depth_with_margin(MEAN.depth, points.views, CAMERA)
    torch.testing.assert_close(render_fit(model, points, CAMERA, initial), undisplaced)
    coeffs = replace(initial, shape=torch.tensor([[1.0, 0.0]]), view=0.3 * torch.ones(1, 6))
    views = points.views + 0.3 * points.views.new_tensor(morphable.VIEW_DEVIATIONS)
    torch.testing.assert_close(views_of(points, coeffs), views)
    displaced = render_depth_with_margin(MEAN.depth - BROW, views, CAMERA)  # along rays, which hardly matters
    torch.testing.assert_close(render_fit(model, points, CAMERA, coeffs), displaced, atol=5e-4, rtol=0)


def test_displaced_points_are_occluded_by_nearer_ones(model: MorphableModel) -> None:
    slide = torch.zeros(SIZE, SIZE, 3)
    slide[:, :16, 0] = 0.012  # two pixels to the right
    slide[:, :16, 2] = 0.02  # and away
    front = torch.zeros(1, 6)
    points = correspondences(photo_of(MEAN.depth, front, LIGHT)[0], front)
    flat = replace(points, template=torch.full_like(points.template, 0.98), views=front)
    depth = render_fit(replace(model, mean=slide), flat, CAMERA, initial_coefficients(model, points))[0, 8]
    torch.testing.assert_close(depth[16:30], torch.full((14,), 0.98))
    torch.testing.assert_close(depth[6:14], torch.full((8,), 1.0))


def test_fits_do_not_depend_on_the_batch(model: MorphableModel, brow: Brow) -> None:
    one, other = brow[0], correspondences(photo_of(MEAN.depth, VIEW, LIGHT)[0])
    names = [field.name for field in fields(Correspondences) if field.name != "template"]
    both = replace(one, **{name: torch.cat((getattr(one, name), getattr(other, name))) for name in names})
    torch.testing.assert_close(fit(model, both, 5).shape[1:], fit(model, other, 5).shape, atol=1e-4, rtol=0)


def test_the_gradient_of_neg_log_posterior_is_right(model: MorphableModel, brow: Brow) -> None:
    double = MorphableModel(*(value.double() for value in vars(model).values()))
    points = Correspondences(**{name: value.double() for name, value in vars(brow[0]).items()})
    rng = torch.Generator().manual_seed(2)
    coeffs = [0.1 * torch.randn(1, size, dtype=torch.float64, generator=rng) for size in (2, 6, 3, 1, 1)]
    coeffs.insert(2, LIGHT.double() + 0.01)

    def cost(*coeffs: Tensor) -> Tensor:
        return neg_log_posterior(double, points, CAMERA, Coefficients(*coeffs)).sum()

    start = [code.requires_grad_() for code in coeffs]
    assert torch.autograd.gradcheck(cost, start, eps=1e-7, atol=1e-3, rtol=1e-3)


def test_normals_of_points_on_a_regular_grid_are_those_of_the_depth() -> None:
    normals = point_normals(unproject_points(MEAN.depth, CAMERA))
    torch.testing.assert_close(normals[:, 1:-1, 1:-1], depth_to_normals(MEAN.depth, CAMERA)[:, 1:-1, 1:-1])
    assert torch.equal(normals[:, 0], normals[:, 1])
