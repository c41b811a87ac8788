"""The factor networks and the offset encoder: what is read off their weights, and what is not their weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from g2s_cli.errors import WeightsError
from g2s_cli.estimators.gan2shape.offset_encoder import OffsetEncoder
from g2s_cli.estimators.networks import CodeNet, MapNet, default_width, halvings

State = dict[str, Tensor]
READERS: dict[str, Callable[[State], nn.Module]] = {
    "map": lambda state: MapNet.from_state(state, bounded=True),
    "code": CodeNet.from_state,
    "offset": OffsetEncoder.from_state,
}


def result(category: str, size: int) -> nn.Module:
    torch.manual_seed(0)
    return {
        "map": lambda: MapNet(size, 3, 8, bottleneck=12, bounded=True),
        "code": lambda: CodeNet(size, 6, 4),
        "offset": lambda: OffsetEncoder(size, 10, 4, code=7),
    }[category]()


@pytest.mark.parametrize("size", [16, 32])
@pytest.mark.parametrize("category", READERS)
@torch.no_grad()
def test_size_and_widths_are_read_off_the_weights(category: str, size: int) -> None:
    net = result(category, size)
    read = READERS[category](net.state_dict())
    image = torch.rand(2, 3, size, size) * 2 - 1
    assert read.size == size
    assert torch.equal(read(image), net(image))


@torch.no_grad()
def test_shapes_and_ranges() -> None:
    image = 100 * torch.randn(2, 3, 16, 16)
    maps, coeffs, offsets = (result(category, 16)(image) for category in READERS)
    assert (maps.shape, coeffs.shape, offsets.shape) == ((2, 3, 16, 16), (2, 6), (2, 10))
    assert maps.abs().max() <= 1
    assert coeffs.abs().max() <= 1
    raw = MapNet(16, 1, 8, bounded=False)
    raw.network[-1].weight.mul_(1000)
    assert raw(image).abs().max() > 1


def test_the_authors_widths() -> None:
    assert [default_width(size) for size in (64, 128, 256, 512)] == [64, 32, 16, 16]
    assert [halvings(size) for size in (16, 64, 128)] == [2, 4, 5]


@pytest.mark.parametrize("category", READERS)
def test_every_tensor_is_missed(category: str) -> None:
    state = result(category, 16).state_dict()
    for name in state:
        with pytest.raises(WeightsError):
            READERS[category]({other: value for other, value in state.items() if other != name})


@pytest.mark.parametrize("category", READERS)
def test_every_tensor_has_its_shape(category: str) -> None:
    state = result(category, 16).state_dict()
    for name, value in state.items():
        with pytest.raises(WeightsError):
            READERS[category](state | {name: torch.cat((value, value), dim=-1)})
        with pytest.raises(WeightsError):
            READERS[category](state | {name: value[None]})


@pytest.mark.parametrize("category", READERS)
def test_weights_of_something_else_are_refused(category: str, generator_state: State) -> None:
    others = [result(other, 16).state_dict() for other in READERS if other != category]
    plain = nn.Sequential(*(nn.Conv2d(3, 3, 3) for _ in range(5))).state_dict()
    for state in (*others, generator_state, {f"network.{name}": value for name, value in plain.items()}, {}):
        with pytest.raises(WeightsError):
            READERS[category](state)


@pytest.mark.parametrize("category", [MapNet, CodeNet])
def test_a_file_that_suggests_a_huge_network_takes_no_memory(category: type) -> None:
    # Twenty halvings of 16 channels: terabytes, of a file of some kilobytes.
    state = {f"network.{n}.weight": torch.zeros(16, 1, 4, 4) for n in range(41)}
    options = {"bounded": True} if category is MapNet else {}
    with pytest.raises(WeightsError, match="are not the weights of a"):
        category.from_state(state, **options)


def test_the_weights_of_a_network_are_its_own() -> None:
    state = CodeNet(16, 4, 8).state_dict()
    net = CodeNet.from_state(state)
    with torch.no_grad():
        net.network[0].weight.add_(1)
    assert not torch.equal(state["network.0.weight"], net.network[0].weight)
    assert all(weight.requires_grad for weight in net.parameters())
