"""Parsing networks are built from their state dicts, whatever their width and depth."""

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
def test_a_pspnet_is_sized_for_its_state(blocks: tuple[int, ...], classes: int, width: int) -> None:
    original = PSPNet(classes, blocks, width)
    net = parsing_net(original.state_dict())
    assert isinstance(net, PSPNet)
    assert net.classes == classes
    assert [len(stage) for stage in (net.layer1, net.layer2, net.layer3, net.layer4)] == list(blocks)
    assert [value.shape for value in net.parameters()] == [value.shape for value in original.parameters()]


@pytest.mark.parametrize(("classes", "width"), [(19, 4), (7, 8)])
def test_a_bisenet_is_sized_for_its_state(classes: int, width: int) -> None:
    net = parsing_net(BiSeNet(classes, width).state_dict())
    assert isinstance(net, BiSeNet)
    assert net.classes == classes
    assert len(net.cp.resnet.conv1.weight) == width


NARROW = pytest.mark.parametrize("original", [BiSeNet(5, 4), PSPNet(5, width=4)], ids=["bisenet", "pspnet"])


@NARROW
def test_an_image_has_the_same_logits_in_any_batch(original: nn.Module) -> None:
    net = parsing_net(original.state_dict())
    input_size = 64 if isinstance(net, BiSeNet) else 65
    images = torch.rand(2, 3, input_size, input_size, generator=torch.Generator().manual_seed(0))
    logits = net(images)
    assert logits.shape == (2, 5, input_size, input_size)
    assert not logits.requires_grad
    torch.testing.assert_close(logits[:1], net(images[:1]))
    torch.testing.assert_close(logits, net(images), rtol=0, atol=0)


@NARROW
def test_checkpoints_of_old_torch_without_batch_counts_are_read(original: nn.Module) -> None:
    state = {name: value for name, value in original.state_dict().items() if "num_batches" not in name}
    assert parsing_net(state).classes == 5


@NARROW
def test_absurd_layer_numbers_allocate_nothing(original: nn.Module) -> None:
    prefix = "cp.resnet." if isinstance(original, BiSeNet) else ""
    state = original.state_dict() | {f"{prefix}layer3.999999999.conv1.weight": torch.zeros(1, 1, 1, 1)}
    with pytest.raises(WeightsError, match="are not the weights of a"):
        parsing_net(state)


def test_other_networks_are_refused() -> None:
    with pytest.raises(WeightsError, match="no parsing network"):
        parsing_net({"layer0.0.weight": torch.zeros(4, 3, 3, 3)})
