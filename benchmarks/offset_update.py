"""One offset-fitting update (paper 3.1, step 2): G forward, D features, backward to the offsets, in milliseconds.

    python benchmarks/offset_update.py [--rounds 12] [--threads 2] [--batch 16] [--device cpu]

Ours in float32 and bfloat16 against `textbook_stylegan2` (float32, nothing frozen), with the embedded weights.
A round times every contender once, one after the other, so that whatever else the machine does hits all alike;
ratios are taken within rounds. The cosine is that of the gradient with the textbook's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import textbook_stylegan2 as textbook
import torch
from torch import Tensor
from torch.nn.functional import l1_loss

from g2s_cli.gan.discriminator import Discriminator
from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.weights.cache import models_root
from g2s_cli.weights.tensors import load_tensors, submodule_state

Update = Callable[[], Tensor]


def update_of(
    render: Callable[[Tensor], Tensor], features: Callable[[Tensor], list[Tensor]], w: Tensor, wanted: Tensor
) -> Update:
    """The update of some networks: the gradient of L1 to fixed images and to their features, by the offsets."""
    with torch.no_grad():
        wanted_features = features(wanted)

    def update() -> Tensor:
        offset = torch.zeros_like(w, requires_grad=True)
        image = render(w + offset)
        loss = l1_loss(image, wanted)
        for result, asked in zip(features(image), wanted_features, strict=True):
            loss = loss + l1_loss(result.permute(0, 2, 3, 1), asked.permute(0, 2, 3, 1))  # gradients channels-last
        loss.backward()
        return offset.grad

    return update


def textbook_update(state: dict[str, Tensor], w: Tensor, wanted: Tensor) -> Update:
    generator = textbook.generator_of(submodule_state(state, "g_ema")).to(w.device)
    discriminator = textbook.discriminator_of(submodule_state(state, "d")).to(w.device)
    inner = update_of(generator, discriminator.features, w, wanted)

    def update() -> Tensor:
        generator.zero_grad()
        discriminator.zero_grad()
        return inner()

    return update


def our_update(state: dict[str, Tensor], w: Tensor, wanted: Tensor, dtype: torch.dtype) -> Update:
    generator = Generator(submodule_state(state, "g_ema")).to(w.device).with_dtype(dtype)
    discriminator = Discriminator(submodule_state(state, "d")).to(w.device).with_dtype(dtype)
    return update_of(generator, discriminator.features, w, wanted)


def milliseconds(update: Update, device: torch.device) -> float:
    start = time.perf_counter()
    update()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time one offset-fitting update against the textbook's.")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    state = load_tensors(models_root() / "synface" / "gan.safetensors")
    rng = torch.Generator().manual_seed(0)
    generator = Generator(submodule_state(state, "g_ema"))
    w = generator.mapping(torch.randn(asked.batch, generator.latent_size, generator=rng)).to(asked.device)
    wanted = torch.rand(asked.batch, 3, generator.size, generator.size, generator=rng).to(asked.device) * 2 - 1
    contenders = {
        "textbook, float32": textbook_update(state, w, wanted),
        "ours, float32": our_update(state, w, wanted, torch.float32),
        "ours, bfloat16": our_update(state, w, wanted, torch.bfloat16),
    }
    gradients = {name: update().flatten() for name, update in contenders.items()}  # also warms up
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(asked.rounds):
        for name, update in contenders.items():
            times[name].append(milliseconds(update, asked.device))
    base = next(iter(contenders))
    print(f"{'':20} {'median ms':>9} {'ratio: median':>13} {'least':>6} {'most':>6} {'cosine':>8}")
    for name, spent in times.items():
        ratios = [theirs / mine for theirs, mine in zip(times[base], spent, strict=True)]
        cosine = torch.cosine_similarity(gradients[base], gradients[name], dim=0).item()
        row = f"{median(spent):9.1f} {median(ratios):13.2f} {min(ratios):6.2f} {max(ratios):6.2f} {cosine:8.5f}"
        print(f"{name:20} {row}")


if __name__ == "__main__":
    main()
