"""Parsing networks: read off their tensors, whatever their width and depth."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from g2s_cli.errors import WeightsError
from g2s_cli.segmentation.bisenet import BiSeNet
from g2s_cli.segmentation.parsing_net import parsing_net
from g2s_cli.segmentation.pspnet import PSPNet


@pytest.mark.parametrize("blocks", [(3, 4, 6, 3), (3, 4, 23, 3), (1, 2, 1, 1)], ids=["50", "101", "another"])
@pytest.mark.parametrize(("classes", "width"), [(21, 4), (150, 8)])
def test_a_pspnet_is_what_its_tensors_say(blocks: tuple[int, ...], classes: int, width: int) -> None:
    result = PSPNet(classes, blocks, width)
    net = parsing_net(result.state_dict())
    assert isinstance(net, PSPNet)
    assert net.classes == classes
    assert [len(stage) for stage in (net.layer1, net.layer2, net.layer3, net.layer4)] == list(blocks)
    assert [value.shape for value in net.parameters()] == [value.shape for value in result.parameters()]


@pytest.mark.parametrize(("classes", "width"), [(19, 4), (7, 8)])
def test_a_bisenet_is_what_its_tensors_say(classes: int, width: int) -> None:
    net = parsing_net(BiSeNet(classes, width).state_dict())
    assert isinstance(net, BiSeNet)
    assert net.classes == classes
    assert len(net.cp.resnet.conv1.weight) == width


NARROW = pytest.mark.parametrize("result", [BiSeNet(5, 4), PSPNet(5, width=4)], ids=["bisenet", "pspnet"])


@NARROW
def test_it_parses_one_picture_like_many(result: nn.Module) -> None:
    net = parsing_net(result.state_dict())
    side = 64 if isinstance(net, BiSeNet) else 65
    pictures = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    logits = net(pictures)
    assert logits.shape == (2, 5, side, side)
    assert not logits.requires_grad
    torch.testing.assert_close(logits[:1], net(pictures[:1]))  # normalisation looks at no batch, nothing is dropped
    torch.testing.assert_close(logits, net(pictures), rtol=0, atol=0)


@NARROW
def test_checkpoints_of_old_torch_count_no_batches(result: nn.Module) -> None:
    state = {name: value for name, value in result.state_dict().items() if "num_batches" not in name}
    assert parsing_net(state).classes == 5


@NARROW
def test_names_of_layers_without_end_cost_nothing(result: nn.Module) -> None:
    head = "cp.resnet." if isinstance(result, BiSeNet) else ""
    state = result.state_dict() | {f"{head}layer3.999999999.conv1.weight": torch.zeros(1, 1, 1, 1)}
    with pytest.raises(WeightsError, match="are not the weights of a"):
        parsing_net(state)


def test_other_networks_are_refused() -> None:
    with pytest.raises(WeightsError, match="no parsing network"):
        parsing_net({"layer0.0.weight": torch.zeros(4, 3, 3, 3)})
