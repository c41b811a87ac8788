"""A blur after a resampling convolution against a blur folded into it: forward and backward in milliseconds.

    python benchmarks/blur.py [--dtype bfloat16] [--threads 1] [--batch 16] [--device cpu] [--rounds 9]

Folded, upsampling is one 3x3 convolution to the four phases of the output and a pixel shuffle, downsampling one 6x6
convolution of stride 2: one pass over memory less, four times the multiplications. Both compute the same. The layers
are those of the embedded 64-pixel GAN, channels-last.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d, pad, pixel_shuffle

from g2s_cli.gan.filters import blur

LAYERS = ((256, 256, 4), (256, 128, 8), (128, 64, 16), (64, 32, 32))  # coarser and finer width, coarser pixels
TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
KERNEL = torch.outer(TAPS, TAPS)

Layer = Callable[[Tensor], Tensor]


def fold_blur(weight: Tensor) -> Tensor:
    """Compose a kernel (o i 3 3) with the blur to one of (o i 6 6)."""
    full = conv2d(pad(weight.flatten(0, 1).unsqueeze(1), (3, 3, 3, 3)), KERNEL[None, None])
    return full.view(*weight.shape[:2], 6, 6)


def phase_kernels(weight: Tensor) -> Tensor:
    """The folded kernel of a transposed convolution (o i 3 3) as a plain one (4o i 3 3) before a pixel shuffle."""
    folded = fold_blur(weight)
    taps = ([4, 2, 0], [5, 3, 1])  # of even and odd output pixels, for the inputs before, at and after
    return torch.stack([folded[:, :, rows][..., columns] for rows in taps for columns in taps], dim=1).flatten(0, 1)


def milliseconds(layer: Layer, maps: Tensor) -> float:
    maps = maps.detach().requires_grad_()
    start = time.perf_counter()
    result = layer(maps)
    torch.autograd.grad(result, maps, torch.ones_like(result))
    if maps.is_cuda:
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - start)


def compare(name: str, maps: Tensor, layers: tuple[Layer, Layer], rounds: int) -> None:
    """Print the times of the separate and the folded layer, and how far their results differ."""
    separate, folded = layers
    difference = (separate(maps) - folded(maps)).abs().max().item()
    times = [(milliseconds(separate, maps), milliseconds(folded, maps)) for _ in range(rounds)]
    first, second = (median(column) for column in zip(*times, strict=True))
    ratio = median(theirs / ours for ours, theirs in times)
    print(f"{name:24} {first:7.2f} {second:7.2f} {ratio:6.2f} {difference:11.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the blur beside a convolution against folded into it.")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rng = torch.Generator().manual_seed(0)

    def prepare(tensor: Tensor) -> Tensor:
        memory_format = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
        return tensor.to(args.device, getattr(torch, args.dtype)).contiguous(memory_format=memory_format)

    kernel = prepare(KERNEL)
    print(f"{'layer':24} {'beside':>7} {'folded':>7} {'ratio':>6} {'difference':>11}")
    for coarse, fine, pixels in LAYERS:
        up, down = (torch.randn(o, i, 3, 3, generator=rng) / i**0.5 / 3 for o, i in ((fine, coarse), (coarse, fine)))
        small = prepare(torch.randn(args.batch, coarse, pixels, pixels, generator=rng))
        large = prepare(torch.randn(args.batch, fine, 2 * pixels, 2 * pixels, generator=rng))
        up_weight, up_folded = prepare(up.transpose(0, 1)), prepare(phase_kernels(up))
        down_weight, down_folded = prepare(down), prepare(fold_blur(down))
        ups: tuple[Layer, Layer] = (
            lambda maps, w=up_weight: blur(conv_transpose2d(maps, w, stride=2), kernel, padding=1),
            lambda maps, w=up_folded: pixel_shuffle(conv2d(maps, w, padding=1), 2),
        )
        downs: tuple[Layer, Layer] = (
            lambda maps, w=down_weight: conv2d(blur(maps, kernel, padding=2), w, stride=2),
            lambda maps, w=down_folded: conv2d(maps, w, stride=2, padding=2),
        )
        compare(f"up {coarse} → {fine}, {2 * pixels} px", small, ups, args.rounds)
        compare(f"down {fine} → {coarse}, {2 * pixels} px", large, downs, args.rounds)


if __name__ == "__main__":
    main()
