"""The networks of a GAN in training: what they compute, what they grow into, and their files."""

from pathlib import Path

import pytest
import torch
from fake_checkpoints.checkpoints import textbook
from torch.nn.functional import avg_pool2d

from g2s_cli.errors import UsageError
from g2s_cli.training.gan_networks import (
    LATENT,
    GanState,
    as_checkpoint,
    discriminator_of,
    from_checkpoint,
    gan_for,
    generator_of,
    grow,
    initial_gan,
    parameters,
    trainable,
)
from g2s_cli.weights.importers import build_gan, read_checkpoint
from g2s_cli.weights.tensors import write_weights

CHANNELS = (8, 6, 4)


@pytest.fixture(scope="module")
def gan() -> GanState:
    return initial_gan(CHANNELS, seed=0)


@pytest.fixture(scope="module")
def z() -> torch.Tensor:
    return torch.randn(4, LATENT, generator=torch.Generator().manual_seed(1))


def test_gradients_of_all_weights_are_the_textbook_s(gan: GanState, z: torch.Tensor) -> None:
    ours = GanState(trainable(gan.generator), trainable(gan.discriminator))
    image = generator_of(ours.generator)
    loss = discriminator_of(ours.discriminator)(image(image.mapping(z))).square().mean()
    loss.backward()

    saved = as_checkpoint(gan)
    twin, critic = textbook().Generator(list(CHANNELS), LATENT), textbook().Discriminator(list(CHANNELS))
    noise = {name[6:]: tensor.float() for name, tensor in saved.items() if "noise" in name}
    twin.load_state_dict({name: value for name, value in gan.generator.items() if name != "latent_avg"} | noise)
    critic.load_state_dict(gan.discriminator)
    theirs = critic(twin(twin.style(z))).square().mean()
    theirs.backward()

    torch.testing.assert_close(loss, theirs, rtol=1e-4, atol=1e-6)
    for network, state in ((twin, ours.generator), (critic, ours.discriminator)):
        expected = dict(network.named_parameters())
        for name, tensor in state.items():
            if tensor.requires_grad:
                scale = expected[name].grad.abs().max().item()
                torch.testing.assert_close(tensor.grad, expected[name].grad, rtol=1e-3, atol=1e-4 * scale, msg=name)


def test_images_of_an_initial_network_are_of_order_one(gan: GanState, z: torch.Tensor) -> None:
    generator = generator_of(gan.generator)
    image = generator(generator.mapping(z))
    assert image.shape == (4, 3, 16, 16)
    assert 0.3 < image.std() < 10


def test_a_grown_generator_enlarges_its_images(gan: GanState, z: torch.Tensor) -> None:
    before, after = generator_of(gan.generator), generator_of(grow(gan, 0).generator)
    w = before.mapping(z)
    torch.testing.assert_close(after.mapping(z), w)
    small, large = before(w), after(w)
    assert large.shape == (4, 3, 32, 32)
    expected = textbook().Blur(4.0, (2, 1), up=2)(small)
    torch.testing.assert_close(large, expected, rtol=1e-4, atol=1e-4)


def test_a_grown_discriminator_has_the_features_of_before(gan: GanState) -> None:
    """Away from the edges, where the new blur reaches past the image."""
    before, after = (discriminator_of(one.discriminator) for one in (gan, grow(gan, 0)))
    uniform = torch.tensor([0.3, -0.5, 0.8])[None, :, None, None].expand(4, 3, 32, 32).contiguous()
    features = after.features(uniform, 1)[0]
    first = torch.nn.functional.conv2d(avg_pool2d(uniform, 2), before.rgb_weight, before.rgb_bias)
    expected = torch.nn.functional.leaky_relu(first, 0.2)
    torch.testing.assert_close(features[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1], rtol=1e-4, atol=1e-5)


def test_networks_grown_twice_have_finite_gradients(gan: GanState, z: torch.Tensor) -> None:
    twice = grow(grow(gan, 0), 1)
    state, critic = trainable(twice.generator), trainable(twice.discriminator)
    generator = generator_of(state)
    loss = discriminator_of(critic)(generator(generator.mapping(z))).sum()
    gradients = torch.autograd.grad(loss, [*parameters(state), *parameters(critic)])
    assert generator.size == 64
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_a_saved_gan_computes_what_the_trained_one_does(gan: GanState, z: torch.Tensor, tmp_path: Path) -> None:
    write_weights(as_checkpoint(gan), tmp_path / "gan.safetensors")
    part, tensors = read_checkpoint(tmp_path / "gan.safetensors")
    assert part == "gan"
    generator, discriminator = build_gan({key: value.float() for key, value in tensors.items()})
    images = generator(generator.mapping(z))
    assert discriminator(images).shape == (4, 1)
    trained = generator_of(gan.generator)
    torch.testing.assert_close(images, trained(trained.mapping(z)), rtol=0.02, atol=0.02)  # half precision
    again = from_checkpoint(tensors)
    assert again.generator.keys() == gan.generator.keys()
    assert again.discriminator.keys() == gan.discriminator.keys()


def test_a_training_begins_with_a_gan_of_the_size_or_of_half_of_it(gan: GanState, tmp_path: Path) -> None:
    path = tmp_path / "gan.safetensors"
    write_weights(as_checkpoint(gan), path)
    assert [generator_of(gan_for(path, size, 0).generator).size for size in (16, 32)] == [16, 32]
    with pytest.raises(UsageError, match="generates images of 16 pixels; the training images have 8"):
        gan_for(path, 8, 0)
    with pytest.raises(UsageError, match="There is no network for images of 48 pixels"):
        gan_for(None, 48, 0)
