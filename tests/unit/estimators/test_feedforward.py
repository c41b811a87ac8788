"""The networks D, A, V and L, Φ over batches, and the feed-forward estimator."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from g2s_cli.estimators.base import Observation
from g2s_cli.estimators.feedforward import (
    FactorNets,
    FeedForward,
    NetworkMeans,
    camera_of,
    fresh_nets,
    render_batch,
    trained_nets,
)
from g2s_cli.geometry.center_crop import CenterCrop
from g2s_cli.geometry.factors import Factors
from g2s_cli.geometry.rasterizer import VIEW_FAR
from g2s_cli.geometry.render import render, render_depth_with_margin
from g2s_cli.geometry.warp import hflip
from g2s_cli.progress import SilentProgress
from g2s_cli.weights.cache import models_root
from g2s_cli.weights.categories import load_category
from g2s_cli.weights.tensors import load_tensors

IMAGE = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
VIEWS = torch.tensor([[0.1, -0.2, 0.05, 0.002, 0, 0], [-0.1, 0.3, 0, 0, 0.003, 0]])
LIGHTS = torch.tensor([[0.4, 0.5, 0.3, 0.1], [0.2, 0.7, -0.5, 0.4]])


@torch.no_grad()
def test_factors_of_images_are_in_scene_units(nets: FactorNets) -> None:
    canonical = nets.canonical(IMAGE)
    assert canonical.depth.shape == (2, 16, 16)
    assert 0.9 < canonical.depth.min() < canonical.depth.max() < 1.1
    assert canonical.albedo.abs().max() <= 1
    torch.testing.assert_close(nets.view_of(IMAGE), torch.cat((
        math.pi / 3 * (nets.view(IMAGE)[:, :3] + torch.tensor([0.05, -0.1, 0])),
        0.1 * nets.view(IMAGE)[:, 3:5],
        torch.zeros(2, 1),
    ), dim=1))  # fmt: skip
    code = nets.light(IMAGE)
    torch.testing.assert_close(nets.light_of(IMAGE), torch.cat((code[:, :2] / 2 + 0.5, code[:, 2:]), dim=1))


@torch.no_grad()
def test_images_of_another_size_are_resampled_for_the_networks(nets: FactorNets) -> None:
    fine = IMAGE.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)
    finer = replace(nets, camera=nets.camera.resize(32))
    assert (finer.depth_of(fine).shape, finer.albedo_of(fine).shape) == ((2, 32, 32), (2, 3, 32, 32))
    for one in ("view_of", "light_of"):
        torch.testing.assert_close(getattr(finer, one)(fine), getattr(nets, one)(IMAGE))
    depth, expected = finer.depth_of(fine), nets.depth_of(IMAGE)
    assert (depth[..., :4] == expected[:, :1, :1]).all()  # the border columns
    reduced = avg_pool2d(finer.albedo_of(fine), 2)  # untrained, hence noise, which the spline smoothes
    assert torch.corrcoef(torch.stack((reduced.flatten(), nets.albedo_of(IMAGE).flatten())))[0, 1] > 0.95


@torch.no_grad()
def test_symmetric_networks_average_with_the_mirror_image(nets: FactorNets) -> None:
    lopsided, even = nets.canonical(IMAGE), replace(nets, symmetric=True).canonical(IMAGE)
    assert not torch.allclose(lopsided.albedo, hflip(lopsided.albedo), atol=1e-3)
    assert not torch.allclose(lopsided.depth, hflip(lopsided.depth), atol=1e-5)
    torch.testing.assert_close(even.albedo, hflip(even.albedo))
    torch.testing.assert_close(even.depth, hflip(even.depth))
    torch.testing.assert_close(even.albedo, (lopsided.albedo + hflip(lopsided.albedo)) / 2)


@torch.no_grad()
def test_bfloat16_gives_nearly_the_same_factors_in_float32(nets: FactorNets) -> None:
    rounded = nets.to(torch.device("cpu"), torch.bfloat16)
    for low, full in (
        (rounded.depth_of(IMAGE), nets.depth_of(IMAGE)),
        (rounded.view_of(IMAGE), nets.view_of(IMAGE)),
        (rounded.light_of(IMAGE), nets.light_of(IMAGE)),
    ):
        assert low.dtype == torch.float32
        torch.testing.assert_close(low, full, rtol=0, atol=0.01)


def test_parameters_are_those_of_the_named_networks(nets: FactorNets) -> None:
    assert list(nets.parameters("view")) == list(nets.view.parameters())
    both = list(nets.parameters("depth", "light"))
    assert both == [*nets.depth.parameters(), *nets.light.parameters()]


@torch.no_grad()
def test_render_batch_agrees_with_render(nets: FactorNets) -> None:
    canonical = nets.canonical(IMAGE[:1])
    rendered = render_batch(canonical, VIEWS, LIGHTS, nets.camera)
    for image, valid, view, light in zip(rendered.image, rendered.valid, VIEWS, LIGHTS, strict=True):
        expected = render(Factors(canonical.depth[0], canonical.albedo[0], view, light), nets.camera)
        # `render` continues the object beyond the frame, `render_batch` does not.
        assert (expected.valid | ~valid).all()
        inner = valid & (expected.depth < 1.2)
        inner[[0, -1]] = inner[:, [0, -1]] = False
        assert inner.sum() > 100
        torch.testing.assert_close(image.clamp(-1, 1)[:, inner], expected.image[:, inner], rtol=0, atol=0.05)


@torch.no_grad()
def test_the_mirrored_object_renders_to_the_mirror_image(nets: FactorNets) -> None:
    canonical = nets.canonical(IMAGE[:1])
    # Mirroring x turns the other way about y and z, and moves and lights from the other side.
    view, light = VIEWS[:1] * torch.tensor([1, -1, -1, -1, 1, 1]), LIGHTS[:1] * torch.tensor([1, 1, -1, 1])
    one = render_batch(canonical, VIEWS[:1], LIGHTS[:1], nets.camera)
    other = render_batch(canonical.hflip(), view, light, nets.camera)
    # Cells are split along one diagonal, which mirroring does not keep.
    assert (one.image - hflip(other.image)).abs().mean() < 0.02


@torch.no_grad()
def test_the_estimate_has_the_networks_factors_and_the_depth_they_render_to(nets: FactorNets) -> None:
    observation = Observation(IMAGE[0], torch.ones(16, 16), torch.zeros(4), CenterCrop(1.0, 16))
    estimate = FeedForward(nets).estimate(observation, SilentProgress())
    factors = estimate.factors
    torch.testing.assert_close(factors.depth, nets.depth_of(IMAGE[:1])[0])
    torch.testing.assert_close(factors.albedo, nets.albedo_of(IMAGE[:1])[0])
    torch.testing.assert_close(factors.view, nets.view_of(IMAGE[:1])[0])
    torch.testing.assert_close(factors.light, nets.light_of(IMAGE[:1])[0])
    rendered = render_depth_with_margin(factors.depth[None], factors.view[None], nets.camera)[0]
    assert torch.equal(estimate.depth, rendered)
    assert torch.equal(estimate.valid, (rendered < VIEW_FAR).float())


def test_gradients_reach_every_network(nets: FactorNets) -> None:
    canonical = nets.canonical(IMAGE)
    render_batch(canonical, nets.view_of(IMAGE), nets.light_of(IMAGE), nets.camera).image.square().mean().backward()
    for name in ("depth", "albedo", "view", "light"):
        gradients = torch.cat([parameter.grad.flatten() for parameter in nets.parameters(name)])
        assert torch.isfinite(gradients).all()
        assert gradients.any(), name


@torch.no_grad()
def test_the_embedded_networks_reconstruct_faces(generator: torch.nn.Module, latents: Tensor) -> None:
    category = load_category("synface")
    unused = NetworkMeans(torch.full((6,), torch.nan), torch.full((4,), torch.nan))  # a template needs none
    trained = trained_nets(load_tensors(models_root() / "synface" / "networks.safetensors"), category, unused)
    assert trained.camera == camera_of(category)
    faces = CenterCrop(category.frame_share, category.working_size)(generator(latents).clamp(-1, 1))
    depth = replace(trained, symmetric=True).canonical(faces).depth
    middle, rim = depth[:, 28:44, 26:38].mean(), depth[:, :10, 4:14].mean()
    assert middle < rim - 0.03  # a nose before a temple
    # Turned faces: the mirrored one looks the other way.
    yaw, other = trained.view_of(faces)[:, 1], trained.view_of(hflip(faces))[:, 1]
    torch.testing.assert_close(yaw, -other, rtol=0, atol=0.12)
    light, flipped = trained.light_of(faces)[:, 2], trained.light_of(hflip(faces))[:, 2]
    torch.testing.assert_close(light, -flipped, rtol=0, atol=0.25)


@pytest.mark.parametrize("config", ["fresh", "the authors'", "of g2s pretrain"])
@torch.no_grad()
def test_networks_without_a_template_are_relative_to_the_means(config: str) -> None:
    category = replace(load_category("celeba"), working_size=16)
    means = NetworkMeans(torch.tensor([0.1, -0.2, 0.05, 0.1, 0.0, 0.3]), torch.tensor([0.2, -0.1, 0.3, 0.1]))
    torch.manual_seed(0)
    nets = fresh_nets(category, means)
    if config != "fresh":
        parts = {"netD": nets.depth, "netA": nets.albedo, "netV": nets.view, "netL": nets.light}
        tensors = {f"{part}.{name}": value for part, net in parts.items() for name, value in net.state_dict().items()}
        if config == "of g2s pretrain":  # they state the means of their training
            tensors |= {"mean_view": means.view, "mean_light": means.light}
            means, stated = NetworkMeans(torch.ones(6), torch.ones(4)), means
        nets = trained_nets(tensors, category, means)
        means = stated if config == "of g2s pretrain" else means
    assert nets.mean_depth is None
    assert not nets.symmetric
    size = category.working_size
    view = nets.view_of(torch.rand(1, 3, size, size) * 2 - 1)[0]
    mean = means.view * torch.tensor([math.pi / 3] * 3 + [0.1] * 2 + [0.0])
    torch.testing.assert_close(view, mean, rtol=0, atol=0.04)
    light = nets.light_of(torch.rand(1, 3, size, size) * 2 - 1)[0]
    torch.testing.assert_close(light, torch.tensor([0.6, 0.45, 0.3, 0.1]), rtol=0, atol=0.02)
