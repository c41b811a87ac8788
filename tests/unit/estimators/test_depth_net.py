"""The depth network, its files, and the estimator that averages it over mirror images."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import avg_pool2d, interpolate

from g2s_cli.errors import WeightsError
from g2s_cli.estimators.base import Observation
from g2s_cli.estimators.depth_net import DepthNet, DepthNetEstimator
from g2s_cli.geometry.center_crop import CenterCrop
from g2s_cli.geometry.warp import hflip
from g2s_cli.progress import SilentProgress

VERSION_0_1_0 = {"bottleneck": "whole", "head": "said"}


@pytest.fixture
def net() -> DepthNet:
    torch.manual_seed(0)
    return DepthNet(32, 8, 12)


def test_depth_of_every_pixel_does_not_depend_on_the_batch(net: DepthNet) -> None:
    image, mask = torch.rand(3, 3, 32, 32) * 2 - 1, torch.ones(3, 1, 32, 32)
    depth = net(image, mask)
    assert depth.shape == (3, 32, 32)
    torch.testing.assert_close(net(image[1:2], mask[1:2])[0], depth[1], atol=1e-5, rtol=0)


def test_a_pixel_changes_depth_nearby_most_and_everywhere_through_the_bottleneck(net: DepthNet) -> None:
    image, mask = torch.zeros(1, 3, 32, 32), torch.ones(1, 1, 32, 32)
    changed = image.clone()
    changed[..., 8, 24] = 1
    change = (net(changed, mask) - net(image, mask))[0].abs()
    assert change[28:, :4].max() > 0
    assert change[6:11, 22:27].max() > 3 * change[28:, :4].max()


def test_depth_depends_on_the_mask(net: DepthNet) -> None:
    image = torch.zeros(1, 3, 32, 32)
    assert not torch.equal(net(image, torch.ones(1, 1, 32, 32)), net(image, torch.zeros(1, 1, 32, 32)))


@pytest.mark.parametrize(
    ("size", "arguments"), [(32, (32, 8, 12)), (64, (64, 16, 5)), (128, (128, 8, 3)), (64, (32, 8, 12, 16))]
)
@pytest.mark.parametrize("names", [{}, VERSION_0_1_0], ids=["today", "0.1.0"])
def test_a_state_dict_determines_its_network(size: int, arguments: tuple[int, ...], names: dict[str, str]) -> None:
    net = DepthNet(*arguments)
    state = {}
    for name, tensor in net.state_dict().items():
        module, _, rest = name.partition(".")
        state[f"{names.get(module, module)}.{rest}"] = tensor
    loaded = DepthNet.from_state(state)
    assert loaded.size == size
    image, mask = torch.rand(1, 3, size, size), torch.ones(1, 1, size, size)
    assert torch.equal(loaded(image, mask), net(image, mask))


@torch.no_grad()
def test_a_level_of_detail_adds_to_the_unet_of_the_reduced_image(net: DepthNet) -> None:
    finer = DepthNet(32, 8, 12, 16)
    finer.load_state_dict(net.state_dict(), strict=False)
    image, mask = torch.rand(1, 3, 64, 64) * 2 - 1, torch.ones(1, 1, 64, 64)
    mask[..., :11] = 0
    image = image * mask
    coarse_mask = torch.ones(1, 1, 32, 32)
    coarse_mask[..., :5] = 0  # the sixth column is half inside, and has the colour of that half
    coarse = avg_pool2d(image, 2)
    coarse[..., 5] *= 2
    base = interpolate(net(coarse, coarse_mask)[None], scale_factor=2, mode="bilinear")[0]
    assert finer(image, mask).shape == (1, 64, 64)
    assert (finer(image, mask) - base).abs().max() > 1e-4
    finer.detail_head.weight.zero_()
    finer.detail_head.bias.zero_()
    torch.testing.assert_close(finer(image, mask), base)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("fine.first.weight"), "no fine.first.weight"),
        (lambda state: state.update({"bottleneck.1.weight": torch.zeros(12, 130)}), "130 numbers from a width of 8"),
        (lambda state: state.pop("head.bias"), "head.bias"),
        (lambda state: state.update({"fine.first.weight": torch.zeros(0, 16, 3, 3)}), "from a width of 0"),
    ],
)
def test_the_state_dict_of_another_network_is_refused(net: DepthNet, change, message: str) -> None:
    state = dict(net.state_dict())
    change(state)
    with pytest.raises(WeightsError, match=message):
        DepthNet.from_state(state)


def test_the_last_layer_is_float32_under_autocast(net: DepthNet) -> None:
    """In bfloat16 a plane would be a staircase."""
    image, mask = torch.rand(1, 3, 32, 32), torch.ones(1, 1, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        assert net(image, mask).dtype == torch.float32


@torch.no_grad()
def test_a_photo_of_another_size_is_resampled(net: DepthNet) -> None:
    ramp = torch.linspace(-1, 1, 64).expand(3, 64, 64)
    photo = Observation(ramp, torch.ones(64, 64), torch.zeros(4), CenterCrop(1.0, 64))
    half = replace(photo, image=avg_pool2d(ramp, 2), mask=torch.ones(32, 32))
    depth, expected = (DepthNetEstimator(net).estimate(one, SilentProgress()).depth for one in (photo, half))
    assert depth.shape == (64, 64)
    reduced = avg_pool2d(depth[None], 2)[0]  # untrained, hence noise, which the spline smoothes
    assert torch.corrcoef(torch.stack((reduced.flatten(), expected.flatten())))[0, 1] > 0.95


def test_the_estimate_is_the_mean_over_a_photo_and_its_mirror_image(net: DepthNet) -> None:
    image, mask = torch.rand(3, 32, 32) * 2 - 1, torch.rand(32, 32).round()

    def estimate(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        observation = Observation(image, mask, torch.zeros(4), CenterCrop(1.0, 32))
        found = DepthNetEstimator(net).estimate(observation, SilentProgress())
        assert found.valid.all()
        assert not found.depth.requires_grad
        return found.depth

    depth = estimate(image, mask)
    alone = 1 + net(image[None], mask[None, None])[0]
    mirrored = 1 + hflip(net(hflip(image[None]), hflip(mask[None, None])))[0]
    torch.testing.assert_close(depth, (alone + mirrored) / 2)
    torch.testing.assert_close(estimate(hflip(image), hflip(mask)), hflip(depth))
