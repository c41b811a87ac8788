"""The generator against the textbook implementation."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from torch import Tensor

from g2s_cli.errors import WeightsError
from g2s_cli.gan import stylegan2
from g2s_cli.gan.stylegan2 import Generator

State = dict[str, Tensor]


@pytest.fixture
def latents() -> Tensor:
    return torch.randn(3, 6, generator=torch.Generator().manual_seed(1))


def gradient(render: torch.nn.Module, w: Tensor) -> Tensor:
    w = w.clone().requires_grad_()
    image = render(w)
    # One weight a pixel, so that no errors cancel.
    return torch.autograd.grad((image * torch.linspace(-1, 1, image.numel()).view_as(image)).sum(), w)[0]


def test_sizes_are_read_off_the_tensors(generator_state: State) -> None:
    net = Generator(generator_state)
    assert (net.size, net.latent_size, net.mapping.depth) == (16, 6, 3)
    assert [net.first.width, *(conv.width for conv in net.convs)] == [7, 5, 5, 3, 3]


def test_images_and_gradients_equal_the_textbook(textbook: ModuleType, generator_state: State, latents: Tensor) -> None:
    ours, theirs = Generator(generator_state), textbook.generator_of(generator_state)
    torch.testing.assert_close(ours(latents), theirs(latents), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradient(ours, latents), gradient(theirs, latents), rtol=1e-4, atol=1e-4)


def test_there_are_no_parameters(generator_state: State) -> None:
    assert not list(Generator(generator_state).parameters())


def test_every_layer_reads_its_own_latent(generator_state: State, latents: Tensor) -> None:
    net = Generator(generator_state)
    stacked = latents.unsqueeze(1).repeat(1, 6, 1)
    torch.testing.assert_close(net(stacked), net(latents))
    for layer in range(6):
        changed = stacked.clone()
        changed[:, layer] += 1
        assert not torch.allclose(net(changed), net(latents)), f"layer {layer} is not read"


def test_features_have_at_most_the_feature_resolution(
    monkeypatch: pytest.MonkeyPatch, generator_state: State, latents: Tensor
) -> None:
    net = Generator(generator_state)
    stacked = latents.unsqueeze(1).repeat(1, 6, 1)
    image, finest = net.forward_features(stacked)
    torch.testing.assert_close(image, net(latents))
    assert finest.shape == (3, 3, 16, 16)
    monkeypatch.setattr(stylegan2, "FEATURE_PX", 8)
    same, coarser = net.forward_features(stacked)
    torch.testing.assert_close(same, image)
    assert coarser.shape == (3, 5, 8, 8)
    stacked[:, 4:] += 1  # read by layers of 16 px only
    assert torch.equal(net.forward_features(stacked)[1], coarser)


def test_bfloat16_images_are_float32_and_close_to_it(generator_state: State, latents: Tensor) -> None:
    exact = Generator(generator_state)(latents)
    rounded = Generator(generator_state).with_dtype(torch.bfloat16)(latents)
    assert rounded.dtype == torch.float32
    assert (rounded - exact).square().mean() < 1e-3 * exact.square().mean()


def test_mapping_in_two_parts_equals_the_textbook(
    textbook: ModuleType, generator_state: State, latents: Tensor
) -> None:
    mapping = Generator(generator_state).mapping
    expected = textbook.generator_of(generator_state).style(latents)
    torch.testing.assert_close(mapping(latents), expected, rtol=1e-5, atol=1e-5)
    for split in range(5):
        torch.testing.assert_close(mapping(mapping(latents, last=split), first=split), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(mapping(latents, last=1).square().mean(dim=1), torch.ones(3))


def test_the_mean_latent_defaults_to_the_mapping_of_zero(generator_state: State) -> None:
    latent_avg = torch.arange(6.0)
    torch.testing.assert_close(Generator(generator_state, latent_avg).latent_avg, latent_avg)
    net = Generator(generator_state)
    torch.testing.assert_close(net.latent_avg, net.mapping(torch.zeros(1, 6))[0])


def test_checkpoints_without_noise_have_none(textbook: ModuleType, generator_state: State, latents: Tensor) -> None:
    silent = {name: 0 * value if name.startswith("noises.") else value for name, value in generator_state.items()}
    bare = {name: value for name, value in generator_state.items() if not name.startswith("noises.")}
    expected = textbook.generator_of(silent)(latents)
    torch.testing.assert_close(Generator(bare)(latents), expected, rtol=1e-4, atol=1e-5)


def test_missing_and_misshapen_tensors_are_refused(generator_state: State) -> None:
    for name, value in generator_state.items():
        rest = {other: tensor for other, tensor in generator_state.items() if other != name}
        if not name.startswith("noises."):
            with pytest.raises(WeightsError, match=f"{name} is missing"):
                Generator(rest)
        with pytest.raises(WeightsError, match=r"rosinality layout: .* not "):
            Generator(rest | {name: torch.cat((value, value), dim=-1)})
