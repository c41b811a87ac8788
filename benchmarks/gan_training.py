"""Updates of a GAN in training against the textbook's, in images a second.

    python benchmarks/gan_training.py [--rounds 5] [--threads 1] [--batch 16] [--sizes 64 128]

A round times a plain update and one with the R1 penalty of every contender in turn; ratios are taken within
rounds, and fifteen plain steps go with one of the other kind, as in training. The textbook (`textbook_stylegan2`,
float32) generates images anew for each of the two networks, as its public trainers do; none regularises path lengths.
The networks are untrained and the images random: their content costs no time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import machine
import numpy as np
import textbook_stylegan2 as textbook
import torch
from torch.nn.functional import softplus

from g2s_cli.machine import Machine
from g2s_cli.training.dataset import ImageDataset
from g2s_cli.training.distributed import Group
from g2s_cli.training.gan import GanConfig, GanTraining
from g2s_cli.training.gan_networks import LATENT, GanState, as_checkpoint, gan_for
from g2s_cli.weights.tensors import submodule_state

CPU = torch.device("cpu")
Step = Callable[[bool], object]  # whether with the R1 penalty


def our_step(gan: GanState, images: ImageDataset, batch: int, dtype: torch.dtype) -> Step:
    training = GanTraining(gan, GanConfig(batch=batch), images, Machine(CPU, dtype), Group())
    return lambda penalised: training.step(0 if penalised else 1)


def textbook_step(gan: GanState, images: ImageDataset, batch: int) -> Step:
    saved = {name: tensor.float() for name, tensor in as_checkpoint(gan).items()}
    generator, average = (textbook.generator_of(submodule_state(saved, "g_ema")) for _ in range(2))
    discriminator = textbook.discriminator_of(gan.discriminator)
    config = GanConfig(batch=batch)
    adams = {
        network: torch.optim.Adam(network.parameters(), lr=config.lr, betas=(0.0, 0.99))
        for network in (generator, discriminator)
    }

    def generate() -> torch.Tensor:
        return generator(generator.style(torch.randn(batch, LATENT)))

    def learn(network: torch.nn.Module, loss: torch.Tensor) -> None:
        network.zero_grad()
        loss.backward()
        adams[network].step()

    def step(penalised: bool) -> object:
        real = images.take(torch.arange(batch), torch.zeros(batch, dtype=torch.bool))
        with torch.no_grad():
            fake = generate()
        learn(discriminator, softplus(discriminator(fake)).mean() + softplus(-discriminator(real)).mean())
        if penalised:
            real.requires_grad_()
            (slope,) = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)
            penalty = slope.square().sum(dim=(1, 2, 3)).mean()
            learn(discriminator, penalty * config.r1 / 2 * config.r1_every)
        learn(generator, softplus(-discriminator(generate())).mean())
        decay = 0.5 ** (batch / config.half_life)
        with torch.no_grad():
            for mean, latest in zip(average.parameters(), generator.parameters(), strict=True):
                mean.lerp_(latest, 1 - decay)
        return None

    return step


def seconds(step: Step, penalised: bool) -> float:
    start = time.perf_counter()
    step(penalised)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description="Time training steps against the textbook's.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(machine.describe(CPU))
    every = GanConfig.r1_every
    for size in options.sizes:
        gan = gan_for(None, size, seed=0)
        random = np.random.default_rng(0)
        images = ImageDataset(random.integers(0, 256, (2 * options.batch, size, size, 3), dtype=np.uint8))
        contenders = {
            "textbook": textbook_step(gan, images, options.batch),
            "ours, float32": our_step(gan, images, options.batch, torch.float32),
            "ours, bfloat16": our_step(gan, images, options.batch, torch.bfloat16),
        }
        for step in contenders.values():
            step(True)
        rounds: list[dict[str, float]] = []
        for _ in range(options.rounds):
            taken = {}
            for name, step in contenders.items():
                plain, penalised = (seconds(step, penalised) for penalised in (False, True))
                taken[name] = ((every - 1) * plain + penalised) / every
            rounds.append(taken)
        for name in contenders:
            ratio = median(taken["textbook"] / taken[name] for taken in rounds)
            rate = median(options.batch / taken[name] for taken in rounds)
            print(f"{size:4} px  {name:16} {rate:6.1f} images a second  {ratio:5.1f}x")


if __name__ == "__main__":
    main()
