"""Training D, A, V and L: their losses, the mean shape's correction, and the template."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import fake_checkpoints
import pytest
import torch
from shapes import bumps
from torch import Tensor

from g2s_cli.estimators.base import MaskedImages
from g2s_cli.estimators.factor_codes import light_from_code, raw_from_depth, view_from_code
from g2s_cli.estimators.feedforward import Canonical, render_batch
from g2s_cli.geometry.camera import Camera
from g2s_cli.geometry.warp import symmetrize
from g2s_cli.loading import Weights, load_gan, with_gan_size
from g2s_cli.machine import Machine
from g2s_cli.training.feedforward import (
    PHASES,
    SHARPENING,
    FeedForwardTraining,
    mean_template,
    new_networks,
    phases,
    sampler_of,
    unsharp_mask,
)
from g2s_cli.training.feedforward_losses import reconstruction_losses, render_labelled
from g2s_cli.training.latent_editing import LatentEditor, References
from g2s_cli.weights.categories import load_category

CAMERA = Camera(32)


@pytest.fixture
def canonical() -> Canonical:
    """A bump with a coloured ramp, twice."""
    return bumps(CAMERA, 2, wide=0.8, high=0.9, far=1.02, colours=lambda x, y: (0.6 * x, -0.5 * y, 0.3 * (6 * x).sin()))


@pytest.fixture
def training(tmp_path: Path) -> FeedForwardTraining:
    """Untrained networks on a small GAN, with a D that tells objects apart."""
    path = tmp_path / "gan.pt"
    path.write_bytes(fake_checkpoints.saved(fake_checkpoints.gan(16)))
    gan = load_gan(Weights({}, path), Machine(torch.device("cpu"), torch.float32))
    category = with_gan_size(load_category("synface"), gan.generator)
    sampler = sampler_of(gan, category)
    references = References.sample(sampler, torch.Generator().manual_seed(0), 48)
    nets = new_networks(category, references, torch.float32, seed=1)
    with torch.no_grad():
        list(nets.depth.parameters())[-1].mul_(10)
    return FeedForwardTraining(nets, sampler, references, category, seed=0)


def test_reconstruction_losses_are_zero_for_the_true_factors_only(canonical: Canonical) -> None:
    view = torch.tensor([[0.1, 0.3, 0, 0, 0, 0], [0, -0.2, 0.1, 0.01, 0, 0]])
    light = torch.tensor([[0.4, 0.5, 0.3, -0.2], [0.5, 0.3, 0, 0.4]])
    rendered = render_batch(canonical, view, light, CAMERA)
    images = MaskedImages(rendered.image, rendered.valid.float().unsqueeze(1))

    def losses(view: Tensor, light: Tensor) -> dict[str, float]:
        terms = reconstruction_losses(canonical, view, light, images, CAMERA, 0.5)
        return {name: term.item() for name, term in terms.items()}

    truth = losses(view, light)
    assert truth["smoothness"] > 0
    assert all(truth[name] == 0 for name in ("pixels", "gradients", "coarse"))
    for other in (losses(view + 0.05, light), losses(view, light + 0.1)):
        assert all(other[name] > 1e-3 for name in ("pixels", "gradients", "coarse"))


def test_labelled_renderings_show_the_object_as_labelled(canonical: Canonical) -> None:
    lights = load_category("synface").lights
    mask = (canonical.depth < 1.0).float().unsqueeze(1)
    rng = torch.Generator().manual_seed(1)
    labelled = render_labelled(canonical, torch.zeros(2, 6), mask, CAMERA, lights, rng)
    view, light = view_from_code(labelled.view), light_from_code(labelled.light)
    again = render_batch(canonical, view, light, CAMERA).image.clamp(-1, 1)
    inside = (labelled.image != 0).any(dim=1, keepdim=True)
    assert 0.1 < inside.float().mean() < 0.9
    torch.testing.assert_close(labelled.image, again * inside)
    assert (labelled.view[0] - labelled.view[1]).abs().max() > 0.05
    assert labelled.light[:, 2].abs().max() <= lights.x[1]


def test_pretrained_networks_skip_all_phases_but_the_last() -> None:
    assert phases(PHASES[-1].updates) == PHASES
    assert [phase.updates for phase in phases(600)] == [310, 260, 600]


def test_the_centered_mean_shape_gives_references_the_depth_of_the_mean_object(training: FeedForwardTraining) -> None:
    nets = training.nets
    editor = LatentEditor.of(nets, training.references)
    objects = training.sampler.objects(editor.template_latents()).image

    def mean_raw(mean_depth: Tensor, images: Tensor) -> Tensor:
        depth = replace(nets, mean_depth=symmetrize(mean_depth)).depth_of(images)
        raw = raw_from_depth(depth, nets.camera).mean(dim=0)
        return (raw - raw.mean()).detach()

    before = training.mean_depth.detach().clone()
    expected = mean_raw(before, objects)
    assert (mean_raw(before, training.references.images) - expected).abs().max() > 0.01
    training.center_mean_shape()
    actual = mean_raw(training.mean_depth.detach(), training.references.images)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-3)


def test_the_template_is_the_sharpened_mean_depth_of_the_mean_object(training: FeedForwardTraining) -> None:
    nets, sampler = training.nets, training.sampler
    editor = LatentEditor.of(nets, training.references)
    template = mean_template(nets, editor, sampler)
    assert torch.equal(template.latent, sampler.gan.generator.latent_avg)
    assert torch.equal(template.directions, editor.directions)
    with torch.no_grad():
        depth = nets.depth_of(sampler.objects(editor.template_latents()).image).mean(dim=0)
    torch.testing.assert_close(template.depth, unsharp_mask(depth))


def test_unsharp_masking_steepens_steps_and_keeps_planes() -> None:
    ramp = torch.linspace(0.9, 1.1, 32).expand(32, 32)
    torch.testing.assert_close(unsharp_mask(ramp)[4:-4, 4:-4], ramp[4:-4, 4:-4])
    step = torch.full((32, 32), 0.98)
    step[:, 16:] = 1.0
    below, above = unsharp_mask(step)[8, 15:17].tolist()
    assert above - below == pytest.approx(0.02 * (1 + SHARPENING * (1 - 1 / 3)), abs=1e-6)
