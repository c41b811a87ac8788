"""The networks of a StyleGAN2 in training, as tensors: initial ones, ones grown to twice the size, and their files.

A network is a dict of tensors in the rosinality layout, of which `g2s_cli.gan` makes a module; the module's gradients
arrive at the tensors. There is no noise: the embedded GAN learnt to do without (its strengths were 0.003 at most), and
g2s holds noise fixed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from g2s_cli.errors import UsageError, WeightsError
from g2s_cli.gan.discriminator import Discriminator
from g2s_cli.gan.latents import random_latents
from g2s_cli.gan.rosinality import count_modules
from g2s_cli.gan.stylegan2 import MAPPING_RATE, Generator
from g2s_cli.weights.importers import build_gan, read_checkpoint
from g2s_cli.weights.tensors import submodule_state

State = dict[str, Tensor]
TAPS = (1.0, 3.0, 3.0, 1.0)
LATENT = 512
MAPPING_LAYERS = 8
BUFFERS = ("kernel", "latent_avg", "noise")  # parts of the names of tensors that are not trained
CHANNELS = {4: 256, 8: 256, 16: 128, 32: 64, 64: 32, 128: 32}  # of an initial network, by image size


@dataclass(frozen=True)
class GanState:
    """The tensors of a generator and of a discriminator."""

    generator: State
    discriminator: State


def gan_for(checkpoint: Path | None, size: int, seed: int) -> GanState:
    """The networks that a training on images of `size` pixels begins with.

    Args:
        checkpoint: a GAN of this size, or of half of it, which is grown; None for untrained networks.
        size: pixels of a side.
        seed: of the new weights.

    Raises:
        UsageError: there is no network of this size, or the checkpoint has another.
        WeightsError: the checkpoint is no GAN.
    """
    if checkpoint is None:
        if size not in CHANNELS or size < 8:
            raise UsageError(f"There is no network for images of {size} pixels.", "Render them 8, 16, ... 128 wide.")
        return initial_gan([channels for level, channels in CHANNELS.items() if level <= size], seed)
    _, tensors = read_checkpoint(checkpoint)
    generator, _ = build_gan(tensors)
    if not submodule_state(tensors, "d"):
        raise WeightsError(f"{checkpoint} has no discriminator, which training needs.", "Name one that has, or none.")
    if generator.size not in (size, size // 2):
        what = f"{checkpoint} generates images of {generator.size} pixels; the training images have {size}."
        raise UsageError(what, f"Render them {generator.size} or {2 * generator.size} wide.")
    gan = from_checkpoint(tensors)
    return gan if generator.size == size else grow(gan, seed)


def initial_gan(channels: Sequence[int], seed: int) -> GanState:
    """Untrained networks for images of 4 · 2^(n - 1) pixels; channels: n numbers, at 4, 8, ... pixels."""
    rng = torch.Generator().manual_seed(seed)
    first, last = channels[0], channels[-1]
    generator: State = {"latent_avg": torch.zeros(LATENT)}
    for layer in range(1, MAPPING_LAYERS + 1):
        generator[f"style.{layer}.weight"] = torch.randn(LATENT, LATENT, generator=rng) / MAPPING_RATE
        generator[f"style.{layer}.bias"] = torch.zeros(LATENT)
    generator["input.input"] = torch.randn(1, first, 4, 4, generator=rng)
    generator |= _styled_conv("conv1", first, first, rng) | _to_rgb("to_rgb1", first, rng)
    for level, (before, after) in enumerate(itertools.pairwise(channels)):
        generator |= _up_block(level, before, after, rng)
    discriminator = {
        "convs.0.0.weight": torch.randn(last, 3, 1, 1, generator=rng),
        "convs.0.1.bias": torch.zeros(last),
        "final_conv.0.weight": torch.randn(first, first + 1, 3, 3, generator=rng),
        "final_conv.1.bias": torch.zeros(first),
        "final_linear.0.weight": torch.randn(first, first * 16, generator=rng),
        "final_linear.0.bias": torch.zeros(first),
        "final_linear.1.weight": torch.randn(1, first, generator=rng),
        "final_linear.1.bias": torch.zeros(1),
    }
    for level, (before, after) in enumerate(itertools.pairwise(reversed(channels)), start=1):
        discriminator |= _down_block(level, before, after, rng)
    return GanState(generator, discriminator)


def grow(gan: GanState, seed: int) -> GanState:
    """The same networks for images of twice the size; until trained, they compute what they did before.

    The generator's new block adds nothing to the enlarged image. The discriminator's first layer moves one level up;
    the new block's shortcut hands its features down, and the other branch is zero.
    """
    rng = torch.Generator().manual_seed(seed)
    level = count_modules(gan.generator, "to_rgbs")
    width = gan.generator[f"convs.{2 * level - 1}.conv.weight"].shape[1]
    generator = dict(gan.generator) | _up_block(level, width, width, rng)
    generator[f"to_rgbs.{level}.conv.weight"] = torch.zeros(1, 3, width, 1, 1)
    width = len(gan.discriminator["convs.0.0.weight"])
    discriminator = {_one_level_down(name): tensor for name, tensor in gan.discriminator.items()}
    discriminator |= _down_block(1, width, width, rng)
    discriminator["convs.1.conv2.1.weight"] = torch.zeros(width, width, 3, 3)
    # √width undoes the equalised learning rate, √2 the gain of the residual sum.
    discriminator["convs.1.skip.1.weight"] = torch.eye(width)[:, :, None, None] * math.sqrt(2 * width)
    return GanState(generator, discriminator)


def trainable(state: Mapping[str, Tensor], device: torch.device | None = None) -> State:
    """A copy in float32 whose parameters require gradients."""
    return {
        name: tensor.detach().to(device, torch.float32, copy=True).requires_grad_(not _is_buffer(name))
        for name, tensor in state.items()
    }


def parameters(state: State) -> list[Tensor]:
    """The tensors that are trained, in the state's order."""
    return [tensor for name, tensor in state.items() if not _is_buffer(name)]


def detached(state: State) -> State:
    """The same tensors without gradients."""
    return {name: tensor.detach() for name, tensor in state.items()}


def generator_of(state: State, dtype: torch.dtype = torch.float32) -> Generator:
    """The module of a state."""
    return Generator(state, state["latent_avg"]).with_dtype(dtype)


def discriminator_of(state: State, dtype: torch.dtype = torch.float32) -> Discriminator:
    """The module of a state."""
    return Discriminator(state).with_dtype(dtype)


def from_checkpoint(tensors: Mapping[str, Tensor]) -> GanState:
    """The networks of a file of g2s, or of `g_ema`, `d`, `latent_avg` in the rosinality layout, without noise."""
    generator = {
        name: tensor.float() for name, tensor in submodule_state(tensors, "g_ema").items() if "noise" not in name
    }
    discriminator = {name: tensor.float() for name, tensor in submodule_state(tensors, "d").items()}
    return GanState(generator | {"latent_avg": tensors["latent_avg"].float().reshape(-1)}, discriminator)


def as_checkpoint(gan: GanState, samples: int = 10_000) -> State:
    """`g_ema`, `d` and the mean latent in half precision, in the rosinality layout with silent noise."""
    mean = random_latents(generator_of(gan.generator), samples, torch.Generator().manual_seed(0)).mean(dim=0)
    generator = {name: tensor for name, tensor in gan.generator.items() if name != "latent_avg"}
    for index in range(2 * count_modules(generator, "to_rgbs") + 1):
        prefix = "conv1" if index == 0 else f"convs.{index - 1}"
        size = 4 << (index + 1) // 2
        generator[f"{prefix}.noise.weight"] = torch.zeros(1)
        generator[f"noises.noise_{index}"] = torch.zeros(1, 1, size, size)
    named = {f"g_ema.{name}": tensor for name, tensor in generator.items()}
    named |= {f"d.{name}": tensor for name, tensor in gan.discriminator.items()} | {"latent_avg": mean}
    return {name: tensor.detach().half().contiguous() for name, tensor in named.items()}


def _is_buffer(name: str) -> bool:
    return any(part in name for part in BUFFERS)


def _blur_kernel(gain: float) -> Tensor:
    taps = torch.tensor(TAPS)
    return torch.outer(taps, taps) / taps.sum() ** 2 * gain


def _modulation(prefix: str, before: int, rng: torch.Generator) -> State:
    return {
        f"{prefix}.conv.modulation.weight": torch.randn(before, LATENT, generator=rng),
        f"{prefix}.conv.modulation.bias": torch.ones(before),
    }


def _styled_conv(prefix: str, before: int, after: int, rng: torch.Generator) -> State:
    return _modulation(prefix, before, rng) | {
        f"{prefix}.conv.weight": torch.randn(1, after, before, 3, 3, generator=rng),
        f"{prefix}.activate.bias": torch.zeros(after),
    }


def _to_rgb(prefix: str, before: int, rng: torch.Generator) -> State:
    return _modulation(prefix, before, rng) | {
        f"{prefix}.conv.weight": torch.randn(1, 3, before, 1, 1, generator=rng),
        f"{prefix}.bias": torch.zeros(1, 3, 1, 1),
    }


def _up_block(level: int, before: int, after: int, rng: torch.Generator) -> State:
    state = _styled_conv(f"convs.{2 * level}", before, after, rng)
    state |= _styled_conv(f"convs.{2 * level + 1}", after, after, rng)
    state |= _to_rgb(f"to_rgbs.{level}", after, rng)
    return state | {
        f"convs.{2 * level}.conv.blur.kernel": _blur_kernel(4.0),
        f"to_rgbs.{level}.upsample.kernel": _blur_kernel(4.0),
    }


def _down_block(level: int, before: int, after: int, rng: torch.Generator) -> State:
    prefix = f"convs.{level}"
    return {
        f"{prefix}.conv1.0.weight": torch.randn(before, before, 3, 3, generator=rng),
        f"{prefix}.conv1.1.bias": torch.zeros(before),
        f"{prefix}.conv2.0.kernel": _blur_kernel(1.0),
        f"{prefix}.conv2.1.weight": torch.randn(after, before, 3, 3, generator=rng),
        f"{prefix}.conv2.2.bias": torch.zeros(after),
        f"{prefix}.skip.0.kernel": _blur_kernel(1.0),
        f"{prefix}.skip.1.weight": torch.randn(after, before, 1, 1, generator=rng),
    }


def _one_level_down(name: str) -> str:
    """The name of a discriminator's tensor when a block is inserted after its first layer."""
    kind, number, rest = name.split(".", 2)
    return f"{kind}.{int(number) + 1}.{rest}" if kind == "convs" and number != "0" else name
