"""S: pictures to depth."""

from __future__ import annotations

import pytest
import torch

from g2s_cli.errors import WeightsError
from g2s_cli.estimators.depth_net import DepthNet


@pytest.fixture
def net() -> DepthNet:
    torch.manual_seed(0)
    return DepthNet(32, 8, 12)


def test_it_says_a_depth_for_every_pixel_and_each_picture_by_itself(net: DepthNet) -> None:
    image, mask = torch.rand(3, 3, 32, 32) * 2 - 1, torch.ones(3, 1, 32, 32)
    said = net(image, mask)
    assert said.shape == (3, 32, 32)
    torch.testing.assert_close(net(image[1:2], mask[1:2])[0], said[1], atol=1e-5, rtol=0)


def test_a_pixel_tells_of_its_place_and_of_all_others(net: DepthNet) -> None:
    """Where it is above all, and everywhere through what is read of the whole picture."""
    image, mask = torch.zeros(1, 3, 32, 32), torch.ones(1, 1, 32, 32)
    changed = image.clone()
    changed[..., 8, 24] = 1
    apart = (net(changed, mask) - net(image, mask))[0].abs()
    assert apart[28:, :4].max() > 0
    assert apart[6:11, 22:27].max() > 3 * apart[28:, :4].max()


def test_the_mask_is_seen(net: DepthNet) -> None:
    image = torch.zeros(1, 3, 32, 32)
    assert not torch.equal(net(image, torch.ones(1, 1, 32, 32)), net(image, torch.zeros(1, 1, 32, 32)))


@pytest.mark.parametrize(("size", "width", "thought"), [(32, 8, 12), (64, 16, 5), (128, 8, 3)])
def test_a_state_dict_says_what_network_it_is_of(size: int, width: int, thought: int) -> None:
    net = DepthNet(size, width, thought)
    again = DepthNet.from_state(net.state_dict())
    assert again.size == size
    image, mask = torch.rand(1, 3, size, size), torch.ones(1, 1, size, size)
    assert torch.equal(again(image, mask), net(image, mask))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.pop("fine.first.weight"), "no fine.first.weight"),
        (lambda state: state.update({"whole.1.weight": torch.zeros(12, 130)}), "130 numbers from a width of 8"),
        (lambda state: state.pop("said.bias"), "said.bias"),
        (lambda state: state.update({"fine.first.weight": torch.zeros(0, 16, 3, 3)}), "from a width of 0"),
    ],
)
def test_what_is_none_is_refused(net: DepthNet, change, said: str) -> None:
    state = dict(net.state_dict())
    change(state)
    with pytest.raises(WeightsError, match=said):
        DepthNet.from_state(state)


def test_bfloat16_leaves_slopes_as_fine_as_they_are(net: DepthNet) -> None:
    """The last layer is computed in float32: in bfloat16 a plane would be a staircase."""
    image, mask = torch.rand(1, 3, 32, 32), torch.ones(1, 1, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        assert net(image, mask).dtype == torch.float32
