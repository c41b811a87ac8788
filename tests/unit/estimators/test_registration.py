"""Registration with the template: known flows, features, and the template in a photo's view, light and colours."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from shapes import bumps, nets_around
from torch import Tensor

from g2s_cli.estimators import registration
from g2s_cli.estimators.base import MaskedImages
from g2s_cli.estimators.feedforward import FactorNets
from g2s_cli.estimators.registration import (
    ShapeTemplate,
    features,
    optical_flow,
    pose_template,
    render_template,
    residual,
)
from g2s_cli.geometry.camera import Camera
from g2s_cli.geometry.render import render_depth_with_margin
from g2s_cli.geometry.warp import grid_sample, identity_grid, warp
from g2s_cli.segmentation.gan_features import Segmenter

CAMERA = Camera(32)
SIZE, LAYERS = CAMERA.size, 7


def grid() -> Tensor:
    return identity_grid(SIZE, torch.device("cpu"))


def masked(maps: Tensor) -> MaskedImages:
    """Images and their binary masks from maps of 4 channels."""
    return MaskedImages(maps[:, :3], (maps[:, 3:] > 0.5).float()).masked


@pytest.fixture
def discs() -> MaskedImages:
    """Two discs with a smooth texture."""
    x, y = grid().unbind(-1)
    texture = torch.stack(((9 * x + 2 * y).sin(), (8 * y).cos(), (7 * x - 6 * y).sin()), dim=1) * 0.6
    disc = ((x / 0.8) ** 2 + (y / 0.9) ** 2 < 1).float().unsqueeze(1)
    return MaskedImages((texture * disc).repeat(2, 1, 1, 1), disc.repeat(2, 1, 1, 1))


def test_optical_flow_recovers_a_known_flow(discs: MaskedImages) -> None:
    x, y = grid().unbind(-1)
    bend = torch.stack((0.06 * (2 * y).cos(), 0.08 * (2.2 * x).sin()), dim=-1)
    true = grid() + torch.cat((bend, -0.7 * bend))
    moved = masked(grid_sample(torch.cat((discs.image, discs.mask), dim=1), true))
    flow = optical_flow(moved, discs)

    def error_px(flow: Tensor) -> Tensor:
        return ((flow - true).norm(dim=-1) * (SIZE - 1) / 2)[moved.mask[:, 0] > 0].mean()

    assert error_px(grid()) > 0.8
    assert error_px(flow) < 0.25
    assert not flow.requires_grad


def test_light_hardly_changes_features(discs: MaskedImages) -> None:
    """Twice the light, and light from one side."""
    x = grid()[..., 0].unsqueeze(1)
    light = (discs.image / 2 + registration.BRIGHTEN) * torch.where(discs.mask > 0, 0.7 + 0.2 * x, 1.0)
    other = MaskedImages((2 * light - 2 * registration.BRIGHTEN) * discs.mask, discs.mask)
    one, two = features(discs), features(other)
    assert (discs.image - other.image).abs().mean() > 0.1
    assert (one - two).abs().mean() < 0.15 * one.abs().mean()


def test_the_residual_of_a_pixel_spreads_to_its_surroundings(discs: MaskedImages) -> None:
    identity, holed = grid().expand(2, -1, -1, -1), discs.mask.clone()
    assert residual(discs, discs, identity).abs().max() < 1e-5
    holed[:, :, 16, 16] = 0.0
    error = residual(discs, MaskedImages(discs.image, holed), identity)
    assert (error[:, 14:19, 14:19] > 0.01).all()
    error[:, 5:28, 5:28] = 0  # within windows of 15 px and then of 5
    assert error.max() < 1e-5


@pytest.fixture
def nets() -> FactorNets:
    return nets_around(bumps(CAMERA, 1, wide=0.6, high=0.7, far=1.03, colours=lambda x, y: (x, y, x)), CAMERA)


@pytest.fixture
def template() -> ShapeTemplate:
    """Its directions change the first four numbers of latents of six."""
    return ShapeTemplate(
        torch.full((SIZE, SIZE), 0.98), torch.full((6,), 0.1), torch.eye(4, 6), Segmenter(torch.eye(2), 0)
    )


class FlatGan:
    """A GAN of flat images, coloured by the first layer's latent; records the latents."""

    def __init__(self) -> None:
        self.latents: list[Tensor] = []

    def __call__(self, latents: Tensor) -> MaskedImages:
        self.latents.append(latents)
        mask = torch.zeros(len(latents), 1, SIZE, SIZE)
        mask[..., 4:28, 6:26] = 1
        return MaskedImages(latents[:, 0, :3, None, None].tanh() * 0.5 * mask, mask)


def random_latents() -> Tensor:
    return torch.randn(3, 6, generator=torch.Generator().manual_seed(3))


def test_the_rendered_template_has_its_own_shape_latent_and_the_objects_colours(
    nets: FactorNets, template: ShapeTemplate
) -> None:
    gan, latents = FlatGan(), random_latents()
    objects = FlatGan()(latents[:, None])
    render_template(objects, latents, template, nets, LAYERS, gan)
    assert len(gan.latents) == registration.ROUNDS + 1
    assert torch.equal(gan.latents[0][:, 0], template.latent.expand(3, -1))
    for rendered in gan.latents:
        assert rendered.shape == (3, LAYERS, 6)
        assert torch.equal(rendered[:, 3:], latents[:, None].expand(-1, 4, -1))
        assert torch.equal(rendered[:, 0], rendered[:, 2])
        assert torch.equal(rendered[:, 0, 4:], template.latent[4:].expand(3, -1))  # beyond the directions


def test_the_rendered_template_gets_the_objects_light_and_a_share_of_its_view(
    nets: FactorNets, template: ShapeTemplate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """V and L take the colours of images for their outputs."""

    def colours(_: FactorNets, image: Tensor) -> Tensor:
        inside = (image[:, :, 16, 16] * 2).atanh()
        return torch.cat((inside[:, :2], inside[:, :2], inside[:, :2]), dim=1)

    monkeypatch.setattr(FactorNets, "view_of", colours)
    monkeypatch.setattr(FactorNets, "light_of", lambda self, image: colours(self, image)[:, :4])
    latents, gan = 0.3 * random_latents(), FlatGan()
    objects = gan(latents[:, None])
    target = colours(nets, objects.image)
    before = (colours(nets, gan(template.latent.expand(3, LAYERS, -1)).image) - target).abs().max()
    rendered = render_template(objects, latents, template, nets, LAYERS, gan)
    assert (colours(nets, rendered.image) - target).abs().max() < 0.02 * before
    half = render_template(objects, latents, template, nets, LAYERS, gan, view_share=0.5)
    assert (colours(nets, half.image)[:, :2] - 0.5 * target[:, :2]).abs().max() < 0.02 * before


def test_pose_template_corrects_the_view_that_v_underestimates(
    nets: FactorNets, template: ShapeTemplate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """V gives nine tenths of all rotations."""

    def texture(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return 0.6 * (9 * x).sin(), 0.6 * (8 * y).cos(), 0.5 * x

    hill = bumps(CAMERA, 1, wide=0.6, high=0.7, far=1.03, colours=texture)
    disc = (hill.depth < 1.025).float().unsqueeze(1)
    true = torch.tensor([[0.1, 0.4, 0.0, 0.0, 0.0, 0.0]])

    def seen_from(view: Tensor) -> MaskedImages:
        return masked(warp(torch.cat((hill.albedo * disc, disc), dim=1), hill.depth, view, CAMERA)[0])

    photo, rendered = seen_from(true), seen_from(0.5 * true)
    others: list[Tensor] = []

    def view_of(_: FactorNets, image: Tensor) -> Tensor:
        if image is rendered.image:
            return 0.5 * true
        if image is photo.image:
            return 0.9 * true
        others.append(image)
        return 0.9 * 0.9 * true  # of the template, rendered from 0.9 * true

    monkeypatch.setattr(FactorNets, "view_of", view_of)
    posed = pose_template(rendered, photo, replace(template, depth=hill.depth[0]), nets)
    assert len(others) == 1
    torch.testing.assert_close(posed.depth, render_depth_with_margin(hill.depth, 0.99 * true, CAMERA))
    torch.testing.assert_close(posed.views, 0.99 * true)
    both = (posed.images.mask * photo.mask)[0, 0] > 0
    assert both.sum() > 0.9 * photo.mask.sum()
    error = (posed.images.image - photo.image)[0, :, both].abs().mean()
    assert error < 0.3 * (rendered.image - photo.image)[0, :, both].abs().mean()
