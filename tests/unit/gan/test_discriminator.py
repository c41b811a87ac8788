"""The discriminator against the textbook implementation."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from torch import Tensor

from g2s_cli.errors import WeightsError
from g2s_cli.gan.discriminator import Discriminator

State = dict[str, Tensor]


def images(batch: int) -> Tensor:
    return torch.rand(batch, 3, 16, 16, generator=torch.Generator().manual_seed(batch)) * 2 - 1


def test_sizes_are_read_off_the_tensors(discriminator_state: State) -> None:
    net = Discriminator(discriminator_state)
    assert net.size == 16
    assert [tuple(maps.shape) for maps in net.features(images(2))] == [(2, 5, 8, 8), (2, 7, 4, 4)]
    assert len(net.features(images(2), count=1)) == 1


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_logits_equal_the_textbook(textbook: ModuleType, discriminator_state: State, batch: int) -> None:
    ours, theirs = Discriminator(discriminator_state), textbook.discriminator_of(discriminator_state)
    torch.testing.assert_close(ours(images(batch)), theirs(images(batch)), rtol=1e-4, atol=1e-5)


def test_features_and_gradients_equal_the_textbook(textbook: ModuleType, discriminator_state: State) -> None:
    outputs = []
    for net in (Discriminator(discriminator_state), textbook.discriminator_of(discriminator_state)):
        image = images(2).requires_grad_()
        features = net.features(image)
        loss = sum((maps * torch.linspace(-1, 1, maps.numel()).view_as(maps)).sum() for maps in features)
        outputs.append((*features, *torch.autograd.grad(loss, image)))
    for ours, theirs in zip(*outputs, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_there_are_no_parameters(discriminator_state: State) -> None:
    assert not list(Discriminator(discriminator_state).parameters())


def test_bfloat16_features_are_close_to_float32(discriminator_state: State) -> None:
    exact = Discriminator(discriminator_state).features(images(4))
    rounded = Discriminator(discriminator_state).with_dtype(torch.bfloat16).features(images(4))
    for ours, expected in zip(rounded, exact, strict=True):
        assert ours.dtype == torch.bfloat16
        assert (ours.float() - expected).square().mean() < 1e-3 * expected.square().mean()


def test_missing_and_misshapen_tensors_are_refused(discriminator_state: State) -> None:
    for name, value in discriminator_state.items():
        rest = {other: tensor for other, tensor in discriminator_state.items() if other != name}
        with pytest.raises(WeightsError, match=f"{name} is missing"):
            Discriminator(rest)
        with pytest.raises(WeightsError, match=r"rosinality layout: .* not "):
            Discriminator(rest | {name: torch.cat((value, value), dim=-1)})
