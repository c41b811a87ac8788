"""The blur beside a resampling convolution, or folded into it: forward and backward in milliseconds.

    python benchmarks/blur.py [--dtype bfloat16] [--threads 1] [--batch 16] [--device cpu] [--rounds 9]

Folded, going up is one 3x3 convolution for the four phases of the output and a pixel shuffle, going down one
6x6 convolution of stride 2: a pass over memory less, four times the multiplications. Both ways compute the
same; the layers are those of the embedded 64-pixel GAN. Channels-last throughout.
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


def composed(weight: Tensor) -> Tensor:
    """A kernel (o i 3 3) and the blur as one (o i 6 6)."""
    full = conv2d(pad(weight.flatten(0, 1).unsqueeze(1), (3, 3, 3, 3)), KERNEL[None, None])
    return full.view(*weight.shape[:2], 6, 6)


def four_phases(weight: Tensor) -> Tensor:
    """The composed kernel of a transposed convolution (o i 3 3), as a plain one (4o i 3 3) before a shuffle."""
    whole = composed(weight)
    taps = ([4, 2, 0], [5, 3, 1])  # of even and odd output pixels, for the inputs before, at and after
    return torch.stack([whole[:, :, rows][..., columns] for rows in taps for columns in taps], dim=1).flatten(0, 1)


def milliseconds(run: Callable[[Tensor], Tensor], maps: Tensor) -> float:
    maps = maps.detach().requires_grad_()
    start = time.perf_counter()
    result = run(maps)
    torch.autograd.grad(result, maps, torch.ones_like(result))
    if maps.is_cuda:
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - start)


def main() -> None:
    segmenter = argparse.ArgumentParser(description="Time the blur beside a convolution against folded into it.")
    segmenter.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    segmenter.add_argument("--threads", type=int, default=1)
    segmenter.add_argument("--batch", type=int, default=16)
    segmenter.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    segmenter.add_argument("--rounds", type=int, default=9)
    asked = segmenter.parse_args()
    torch.set_num_threads(asked.threads)
    rng = torch.Generator().manual_seed(0)

    def placed(tensor: Tensor) -> Tensor:
        form = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
        return tensor.to(asked.device, getattr(torch, asked.dtype)).contiguous(memory_format=form)

    kernel = placed(KERNEL)
    print(f"{'layer':24} {'beside':>7} {'folded':>7} {'ratio':>6} {'difference':>11}")
    for coarse, fine, pixels in LAYERS:
        up, down = (torch.randn(o, i, 3, 3, generator=rng) / i**0.5 / 3 for o, i in ((fine, coarse), (coarse, fine)))
        small = placed(torch.randn(asked.batch, coarse, pixels, pixels, generator=rng))
        large = placed(torch.randn(asked.batch, fine, 2 * pixels, 2 * pixels, generator=rng))
        up_weight, up_folded = placed(up.transpose(0, 1)), placed(four_phases(up))
        down_weight, down_folded = placed(down), placed(composed(down))
        pairs = (
            (
                f"up {coarse} → {fine}, {2 * pixels} px",
                small,
                lambda maps, w=up_weight: blur(conv_transpose2d(maps, w, stride=2), kernel, padding=1),
                lambda maps, w=up_folded: pixel_shuffle(conv2d(maps, w, padding=1), 2),
            ),
            (
                f"down {fine} → {coarse}, {2 * pixels} px",
                large,
                lambda maps, w=down_weight: conv2d(blur(maps, kernel, padding=2), w, stride=2),
                lambda maps, w=down_folded: conv2d(maps, w, stride=2, padding=2),
            ),
        )
        for name, maps, beside, folded in pairs:
            difference = (beside(maps) - folded(maps)).abs().max().item()
            times = [(milliseconds(beside, maps), milliseconds(folded, maps)) for _ in range(asked.rounds)]
            one, other = (median(column) for column in zip(*times, strict=True))
            ratio = median(theirs / ours for ours, theirs in times)
            print(f"{name:24} {one:7.2f} {other:7.2f} {ratio:6.2f} {difference:11.1e}")


if __name__ == "__main__":
    main()
