"""Training steps of the recipe's GAN (recipes/synface) against the textbook's, in pictures a second.

    python benchmarks/gan_training.py [--rounds 5] [--threads 1] [--batch 16] [--sizes 64 128]

A round times a plain step and one with the R1 penalty of every contender, one after the other; ratios are taken within
rounds, and fifteen plain steps go with one of the other kind, as in training. The textbook (`textbook_stylegan2`,
float32) makes its pictures anew for each of the two networks, as its public trainers do; path lengths nobody keeps.
Untrained networks of the recipe's widths and random pictures: their content costs no time.
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

from g2s_cli.training.distributed import Group
from g2s_cli.weights.tensors import submodule_state
from recipes.synface.pictures import Pictures
from recipes.synface.running import first_pair
from g2s_cli.evaluation.ground_truth import DepthPair
from recipes.synface.states import LATENT, as_checkpoint
from recipes.synface.training import Learner, Settings

CPU = torch.device("cpu")
Step = Callable[[bool], object]  # whether with the R1 penalty


def our_step(pair: DepthPair, pictures: Pictures, batch: int, dtype: torch.dtype) -> Step:
    learner = Learner.of(pair, Settings(batch=batch), CPU)

    def step(penalised: bool) -> object:
        learner.step = 0 if penalised else 1
        return learner.advance(pictures, Group(), dtype)

    return step


def textbook_step(pair: DepthPair, pictures: Pictures, batch: int) -> Step:
    saved = {name: tensor.float() for name, tensor in as_checkpoint(pair).items()}
    generator, average = (textbook.generator_of(submodule_state(saved, "g_ema")) for _ in range(2))
    discriminator = textbook.discriminator_of(pair.discriminator)
    settings = Settings(batch=batch)
    adams = {
        network: torch.optim.Adam(network.parameters(), lr=settings.rate, betas=(0.0, 0.99))
        for network in (generator, discriminator)
    }

    def result() -> torch.Tensor:
        return generator(generator.style(torch.randn(batch, LATENT)))

    def learn(network: torch.nn.Module, loss: torch.Tensor) -> None:
        network.zero_grad()
        loss.backward()
        adams[network].step()

    def step(penalised: bool) -> object:
        real = pictures.take(torch.arange(batch), torch.zeros(batch, dtype=torch.bool))
        with torch.no_grad():
            fake = result()
        learn(discriminator, softplus(discriminator(fake)).mean() + softplus(-discriminator(real)).mean())
        if penalised:
            real.requires_grad_()
            (slope,) = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)
            penalty = slope.square().sum(dim=(1, 2, 3)).mean()
            learn(discriminator, penalty * settings.r1 / 2 * settings.r1_every)
        learn(generator, softplus(-discriminator(result())).mean())
        kept = 0.5 ** (batch / settings.half_life)
        with torch.no_grad():
            for mean, latest in zip(average.parameters(), generator.parameters(), strict=True):
                mean.lerp_(latest, 1 - kept)
        return None

    return step


def seconds(step: Step, penalised: bool) -> float:
    start = time.perf_counter()
    step(penalised)
    return time.perf_counter() - start


def main() -> None:
    segmenter = argparse.ArgumentParser(description="Time training steps against the textbook's.")
    segmenter.add_argument("--rounds", type=int, default=5)
    segmenter.add_argument("--threads", type=int, default=1)
    segmenter.add_argument("--batch", type=int, default=16)
    segmenter.add_argument("--sizes", type=int, nargs="+", default=[64, 128])
    asked = segmenter.parse_args()
    torch.set_num_threads(asked.threads)
    print(machine.describe(CPU))
    every = Settings.r1_every
    for size in asked.sizes:
        pair = first_pair(None, size, seed=0)
        random = np.random.default_rng(0)
        pictures = Pictures(random.integers(0, 256, (2 * asked.batch, size, size, 3), dtype=np.uint8))
        contenders = {
            "textbook": textbook_step(pair, pictures, asked.batch),
            "ours, float32": our_step(pair, pictures, asked.batch, torch.float32),
            "ours, bfloat16": our_step(pair, pictures, asked.batch, torch.bfloat16),
        }
        for step in contenders.values():
            step(True)
        rounds: list[dict[str, float]] = []
        for _ in range(asked.rounds):
            taken = {}
            for name, step in contenders.items():
                plain, penalised = (seconds(step, category) for category in (False, True))
                taken[name] = ((every - 1) * plain + penalised) / every
            rounds.append(taken)
        for name in contenders:
            ratio = median(taken["textbook"] / taken[name] for taken in rounds)
            rate = median(asked.batch / taken[name] for taken in rounds)
            print(f"{size:4} px  {name:16} {rate:6.1f} pictures a second  {ratio:5.1f}x")


if __name__ == "__main__":
    main()
