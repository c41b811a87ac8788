"""The recipe's networks as values: what they compute, what they grow into, what is saved of them."""

from pathlib import Path

import pytest
import torch
from fake_checkpoints.checkpoints import textbook
from torch.nn.functional import avg_pool2d

from g2s_cli.errors import UsageError
from g2s_cli.weights.importers import build_gan, read_checkpoint
from recipes.synface.running import export
from g2s_cli.evaluation.ground_truth import DepthPair
from recipes.synface.states import LATENT, as_checkpoint, discriminator_of, fresh, from_checkpoint, generator_of, grown, trainable, weights, window_mean

WIDTHS = (8, 6, 4)


@pytest.fixture(scope="module")
def pair() -> DepthPair:
    return fresh(WIDTHS, seed=0)


@pytest.fixture(scope="module")
def z() -> torch.Tensor:
    return torch.randn(4, LATENT, generator=torch.Generator().manual_seed(1))


def test_gradients_of_all_weights_are_the_textbook_s(pair: DepthPair, z: torch.Tensor) -> None:
    ours = DepthPair(trainable(pair.generator), trainable(pair.discriminator))
    image = generator_of(ours.generator, torch.float32)
    loss = discriminator_of(ours.discriminator, torch.float32)(image(image.mapping(z))).square().mean()
    loss.backward()

    saved = as_checkpoint(pair)
    twin, critic = textbook().Generator(list(WIDTHS), LATENT), textbook().Discriminator(list(WIDTHS))
    noise = {name[6:]: tensor.float() for name, tensor in saved.items() if "noise" in name}
    twin.load_state_dict({name: value for name, value in pair.generator.items() if name != "latent_avg"} | noise)
    critic.load_state_dict(pair.discriminator)
    theirs = critic(twin(twin.style(z))).square().mean()
    theirs.backward()

    torch.testing.assert_close(loss, theirs, rtol=1e-4, atol=1e-6)
    for network, state in ((twin, ours.generator), (critic, ours.discriminator)):
        expected = dict(network.named_parameters())
        for name, tensor in state.items():
            if tensor.requires_grad:
                scale = expected[name].grad.abs().max().item()
                torch.testing.assert_close(tensor.grad, expected[name].grad, rtol=1e-3, atol=1e-4 * scale, msg=name)


def test_a_fresh_network_s_numbers_are_of_order_one(pair: DepthPair, z: torch.Tensor) -> None:
    generator = generator_of(pair.generator, torch.float32)
    image = generator(generator.mapping(z))
    assert image.shape == (4, 3, 16, 16)
    assert 0.3 < image.std() < 10


def test_a_grown_generator_enlarges_what_it_made(pair: DepthPair, z: torch.Tensor) -> None:
    before, after = generator_of(pair.generator, torch.float32), generator_of(grown(pair, 0).generator, torch.float32)
    w = before.mapping(z)
    torch.testing.assert_close(after.mapping(z), w)
    small, large = before(w), after(w)
    assert large.shape == (4, 3, 32, 32)
    expected = textbook().Blur(4.0, (2, 1), up=2)(small)
    torch.testing.assert_close(large, expected, rtol=1e-4, atol=1e-4)


def test_a_grown_discriminator_sees_even_pictures_as_before(pair: DepthPair) -> None:
    """Away from the edges, where the new blur reaches past the picture."""
    before, after = (discriminator_of(one.discriminator, torch.float32) for one in (pair, grown(pair, 0)))
    even = torch.tensor([0.3, -0.5, 0.8])[None, :, None, None].expand(4, 3, 32, 32).contiguous()
    handed_down = after.features(even, 1)[0]
    first = torch.nn.functional.conv2d(avg_pool2d(even, 2), before.rgb_weight, before.rgb_bias)
    expected = torch.nn.functional.leaky_relu(first, 0.2)
    torch.testing.assert_close(handed_down[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1], rtol=1e-4, atol=1e-5)


def test_growing_twice_gives_networks_that_learn_everywhere(pair: DepthPair, z: torch.Tensor) -> None:
    twice = grown(grown(pair, 0), 1)
    state, critic = trainable(twice.generator), trainable(twice.discriminator)
    generator = generator_of(state, torch.float32)
    loss = discriminator_of(critic, torch.float32)(generator(generator.mapping(z))).sum()
    gradients = torch.autograd.grad(loss, [*weights(state), *weights(critic)])
    assert generator.size == 64
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_what_is_saved_is_what_was_trained(pair: DepthPair, z: torch.Tensor, tmp_path: Path) -> None:
    images = []
    for name in ("gan.pt", "gan.safetensors"):
        export(pair, tmp_path / name)
        part, tensors = read_checkpoint(tmp_path / name)
        assert part == "gan"
        generator, discriminator = build_gan({key: value.float() for key, value in tensors.items()})
        images.append(generator(generator.mapping(z)))
        assert discriminator(images[-1]).shape == (4, 1)
    torch.testing.assert_close(images[0], images[1], rtol=0, atol=0)
    trained = generator_of(pair.generator, torch.float32)
    torch.testing.assert_close(images[0], trained(trained.mapping(z)), rtol=0.02, atol=0.02)  # half precision
    again = from_checkpoint(tensors)
    assert again.generator.keys() == pair.generator.keys()
    assert again.discriminator.keys() == pair.discriminator.keys()


def test_the_mean_of_generators_lies_between_them(pair: DepthPair) -> None:
    other = fresh(WIDTHS, seed=1)
    mean = window_mean([pair, other, other])
    for name, tensor in mean.generator.items():
        torch.testing.assert_close(3 * tensor, pair.generator[name] + 2 * other.generator[name])
    assert mean.discriminator is pair.discriminator


def test_generators_of_different_sizes_have_no_mean(pair: DepthPair) -> None:
    with pytest.raises(UsageError, match="different sizes"):
        window_mean([pair, fresh((*WIDTHS, 4), seed=0)])
