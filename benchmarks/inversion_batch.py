"""One inversion update of one photo, and of several at once: milliseconds a photo.

    python benchmarks/inversion_batch.py --size 256

G and the discriminator forward, backward to the latents, as `g2s_cli.gan.inversion` has it. Weights
are random, for 64 pixels in the recipe's widths, for other sizes in those of the released models. With one thread the
processor's own time is measured, which other programs on the machine change little; with more, the clock.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import textbook_stylegan2 as textbook
import torch
from machine import describe
from torch import nn

from g2s_cli.gan.discriminator import Discriminator
from g2s_cli.gan.losses import DiscriminatorDistance
from g2s_cli.gan.rosinality import State
from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.loading import Gan
from g2s_cli.training.gan_networks import gan_for

LATENT = 512
WIDTHS = [512, 512, 512, 512, 256, 128, 64, 32, 16]  # at 4, 8, ... 1024 pixels: config e; f has twice from 64 on


def states(size: int) -> tuple[State, State]:
    if size == 64:
        pair = gan_for(None, size, seed=0)
        return pair.generator, pair.discriminator
    widths = WIDTHS[: size.bit_length() - 2]
    return drawn(textbook.Generator(widths, LATENT)), drawn(textbook.Discriminator(widths))


def drawn(net: nn.Module) -> State:
    rng = torch.Generator().manual_seed(0)
    return {
        name: value if name.endswith("kernel") else torch.randn(value.shape, generator=rng)
        for name, value in net.state_dict().items()
    }


def update_of(generator: Generator, distance: DiscriminatorDistance, count: int) -> Callable[[], None]:
    latent = torch.randn(count, generator.latent_size).requires_grad_()
    photos = torch.rand(count, 3, generator.size, generator.size) * 2 - 1
    wanted, everywhere = distance.features(photos), torch.ones_like(photos[:, :1])

    def update() -> None:
        latent.grad = None
        image = generator(latent)
        features = distance.between(distance.features(image), wanted, everywhere)
        ((image - photos).abs().mean() + features).backward()

    return update


def main() -> None:
    parser = argparse.ArgumentParser(description="Time inversion updates of several photos at once.")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--most", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    generator_state, discriminator_state = states(asked.size)
    generator = Generator(generator_state).with_dtype(torch.bfloat16)
    distance = Gan(generator, Discriminator(discriminator_state).with_dtype(torch.bfloat16)).inversion_distance
    clock = time.process_time if asked.threads == 1 else time.perf_counter
    counts = [2**power for power in range(asked.most.bit_length())]
    updates = {count: update_of(generator, distance, count) for count in counts}
    times: dict[int, list[float]] = {count: [] for count in counts}
    for turn in range(asked.rounds + 1):
        for count, update in updates.items():
            start = clock()
            update()
            if turn:  # the first warms up
                times[count].append(1000 * (clock() - start) / count)
    print(describe(torch.device("cpu")))
    print(f"{generator.size} px, photos at once {'ms a photo':>12} {'times as fast':>14} {'least':>6} {'most':>6}")
    for count, spent in times.items():
        ratios = [one / each for one, each in zip(times[1], spent, strict=True)]
        print(f"{count:22} {median(spent):12.1f} {median(ratios):14.2f} {min(ratios):6.2f} {max(ratios):6.2f}")


if __name__ == "__main__":
    main()
