"""StyleGAN2's weights as values: fresh ones, ones grown to twice the size, and what is saved of them.

A network is a dict of tensors in the rosinality layout. `g2s_cli.nets` makes a module of it; where the tensors ask
for gradients, these arrive at the dict's tensors: the network that is trained is the one that g2s runs. There is no
noise: the embedded GAN learnt to do without (its strengths were 0.003 at most), and g2s holds noise fixed anyway.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from g2s_cli.errors import UsageError
from g2s_cli.gan.discriminator import Discriminator
from g2s_cli.gan.latents import random_latents
from g2s_cli.gan.rosinality import count_modules
from g2s_cli.gan.stylegan2 import MAPPING_RATE, Generator
from g2s_cli.weights.tensors import submodule_state

State = dict[str, Tensor]
TAPS = (1.0, 3.0, 3.0, 1.0)
LATENT = 512
DEPTH = 8
CONSTANTS = ("kernel", "latent_avg", "noise")


@dataclass(frozen=True)
class Pair:
    """A generator's and a discriminator's weights."""

    generator: State
    discriminator: State


def fresh(widths: Sequence[int], seed: int) -> Pair:
    """Untrained networks for pictures of 4 · 2^(n - 1) pixels; widths: channels at 4, 8, ... pixels."""
    random = torch.Generator().manual_seed(seed)
    generator: State = {"latent_avg": torch.zeros(LATENT)}
    for layer in range(1, DEPTH + 1):
        generator[f"style.{layer}.weight"] = torch.randn(LATENT, LATENT, generator=random) / MAPPING_RATE
        generator[f"style.{layer}.bias"] = torch.zeros(LATENT)
    generator["input.input"] = torch.randn(1, widths[0], 4, 4, generator=random)
    generator |= _styled("conv1", widths[0], widths[0], random) | _colours("to_rgb1", widths[0], random)
    for level, (before, after) in enumerate(itertools.pairwise(widths)):
        generator |= _up_block(level, before, after, random)
    discriminator = {
        "convs.0.0.weight": torch.randn(widths[-1], 3, 1, 1, generator=random),
        "convs.0.1.bias": torch.zeros(widths[-1]),
        "final_conv.0.weight": torch.randn(widths[0], widths[0] + 1, 3, 3, generator=random),
        "final_conv.1.bias": torch.zeros(widths[0]),
        "final_linear.0.weight": torch.randn(widths[0], widths[0] * 16, generator=random),
        "final_linear.0.bias": torch.zeros(widths[0]),
        "final_linear.1.weight": torch.randn(1, widths[0], generator=random),
        "final_linear.1.bias": torch.zeros(1),
    }
    for level, (before, after) in enumerate(itertools.pairwise(reversed(widths)), start=1):
        discriminator |= _down_block(level, before, after, random)
    return Pair(generator, discriminator)


def grown(pair: Pair, seed: int) -> Pair:
    """The same networks for pictures of twice the size, to go on from: at first they do what they did.

    The generator's new block adds nothing to the enlarged picture yet. The discriminator reads colours as before,
    one level up; its new block's shortcut hands them down, and its other branch is zero.
    """
    random = torch.Generator().manual_seed(seed)
    level = count_modules(pair.generator, "to_rgbs")
    width = pair.generator[f"convs.{2 * level - 1}.conv.weight"].shape[1]
    generator = dict(pair.generator) | _up_block(level, width, width, random)
    generator[f"to_rgbs.{level}.conv.weight"] = torch.zeros(1, 3, width, 1, 1)
    old = pair.discriminator
    width = len(old["convs.0.0.weight"])
    discriminator = {_one_level_down(name): tensor for name, tensor in old.items()}
    discriminator |= _down_block(1, width, width, random)
    discriminator["convs.1.conv2.1.weight"] = torch.zeros(width, width, 3, 3)
    # √width undoes the equalised learning rate, √2 the gain of the residual sum.
    discriminator["convs.1.skip.1.weight"] = torch.eye(width)[:, :, None, None] * math.sqrt(2 * width)
    return Pair(generator, discriminator)


def trainable(state: Mapping[str, Tensor], device: torch.device | None = None) -> State:
    """A copy in float32, where device says, whose weights ask for gradients."""
    return {
        name: tensor.detach().to(device, torch.float32, copy=True).requires_grad_(not _constant(name))
        for name, tensor in state.items()
    }


def weights(state: State) -> list[Tensor]:
    """Those tensors of a state that are trained, in its order."""
    return [tensor for name, tensor in state.items() if not _constant(name)]


def frozen(state: State) -> State:
    """The same tensors, not asking for gradients."""
    return {name: tensor.detach() for name, tensor in state.items()}


def generator_of(state: State, dtype: torch.dtype) -> Generator:
    """The network that a state describes."""
    return Generator(state, state["latent_avg"]).with_dtype(dtype)


def discriminator_of(state: State, dtype: torch.dtype) -> Discriminator:
    """The network that a state describes."""
    return Discriminator(state).with_dtype(dtype)


def from_checkpoint(tensors: Mapping[str, Tensor]) -> Pair:
    """The networks of a file of g2s or of the rosinality layout with `g_ema`, `d`, `latent_avg`; noise is dropped."""
    generator = {
        name: tensor.float() for name, tensor in submodule_state(tensors, "g_ema").items() if "noise" not in name
    }
    discriminator = {name: tensor.float() for name, tensor in submodule_state(tensors, "d").items()}
    return Pair(generator | {"latent_avg": tensors["latent_avg"].float().reshape(-1)}, discriminator)


def window_mean(pairs: Sequence[Pair]) -> Pair:
    """The mean of some generators, weight by weight, beside the first one's discriminator.

    For runs that went different ways from one checkpoint: between them lies one that has of both (Wortsman et al. 2022,
    "Model soups"). Raises UsageError if their weights differ in names or shapes.
    """
    first = pairs[0]
    shapes = [{name: tensor.shape for name, tensor in pair.generator.items()} for pair in pairs]
    if any(one != shapes[0] for one in shapes):
        raise UsageError("These runs train generators of different sizes.", "Name runs that began with one checkpoint.")
    mean = {name: torch.stack([pair.generator[name] for pair in pairs]).mean(dim=0) for name in first.generator}
    return Pair(mean, first.discriminator)


def as_checkpoint(pair: Pair, samples: int = 10_000) -> State:
    """What is saved, in half precision: g_ema and d in the rosinality layout, noise silent, and the mean latent."""
    network = generator_of(pair.generator, torch.float32)
    mean = random_latents(network, samples, torch.Generator().manual_seed(0)).mean(dim=0)
    generator = {name: tensor for name, tensor in pair.generator.items() if name != "latent_avg"}
    for index in range(2 * count_modules(generator, "to_rgbs") + 1):
        prefix = "conv1" if index == 0 else f"convs.{index - 1}"
        size = 4 << (index + 1) // 2
        generator[f"{prefix}.noise.weight"] = torch.zeros(1)
        generator[f"noises.noise_{index}"] = torch.zeros(1, 1, size, size)
    named = {f"g_ema.{name}": tensor for name, tensor in generator.items()}
    named |= {f"d.{name}": tensor for name, tensor in pair.discriminator.items()} | {"latent_avg": mean}
    return {name: tensor.detach().half().contiguous() for name, tensor in named.items()}


def _constant(name: str) -> bool:
    return any(part in name for part in CONSTANTS)


def _kernel(gain: float) -> Tensor:
    taps = torch.tensor(TAPS)
    return torch.outer(taps, taps) / taps.sum() ** 2 * gain


def _modulation(prefix: str, before: int, random: torch.Generator) -> State:
    return {
        f"{prefix}.conv.modulation.weight": torch.randn(before, LATENT, generator=random),
        f"{prefix}.conv.modulation.bias": torch.ones(before),
    }


def _styled(prefix: str, before: int, after: int, random: torch.Generator) -> State:
    return _modulation(prefix, before, random) | {
        f"{prefix}.conv.weight": torch.randn(1, after, before, 3, 3, generator=random),
        f"{prefix}.activate.bias": torch.zeros(after),
    }


def _colours(prefix: str, before: int, random: torch.Generator) -> State:
    return _modulation(prefix, before, random) | {
        f"{prefix}.conv.weight": torch.randn(1, 3, before, 1, 1, generator=random),
        f"{prefix}.bias": torch.zeros(1, 3, 1, 1),
    }


def _up_block(level: int, before: int, after: int, random: torch.Generator) -> State:
    state = _styled(f"convs.{2 * level}", before, after, random)
    state |= _styled(f"convs.{2 * level + 1}", after, after, random)
    state |= _colours(f"to_rgbs.{level}", after, random)
    return state | {
        f"convs.{2 * level}.conv.blur.kernel": _kernel(4.0),
        f"to_rgbs.{level}.upsample.kernel": _kernel(4.0),
    }


def _down_block(level: int, before: int, after: int, random: torch.Generator) -> State:
    prefix = f"convs.{level}"
    return {
        f"{prefix}.conv1.0.weight": torch.randn(before, before, 3, 3, generator=random),
        f"{prefix}.conv1.1.bias": torch.zeros(before),
        f"{prefix}.conv2.0.kernel": _kernel(1.0),
        f"{prefix}.conv2.1.weight": torch.randn(after, before, 3, 3, generator=random),
        f"{prefix}.conv2.2.bias": torch.zeros(after),
        f"{prefix}.skip.0.kernel": _kernel(1.0),
        f"{prefix}.skip.1.weight": torch.randn(after, before, 1, 1, generator=random),
    }


def _one_level_down(name: str) -> str:
    """The name that a tensor of the discriminator has when a level is put between it and the colours."""
    category, number, rest = name.split(".", 2)
    return f"{category}.{int(number) + 1}.{rest}" if category == "convs" and number != "0" else name
