"""StyleGAN2's blur, [1, 3, 3, 1] both ways in every channel, beside up- and down-sampling.

The blur could be folded into the convolution beside it (a 3x3 kernel for each of four phases going up, a 6x6
kernel going down). That saves a pass over memory and costs four times the multiplications: channels-last, it
was slower on every layer measured (benchmarks/README.md). An image of three channels has no such convolution
beside it; there the phases pay.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, pad, pixel_shuffle


def blur(maps: Float[Tensor, "b c h w"], kernel: Float[Tensor, "4 4"], padding: int) -> Float[Tensor, "b c h2 w2"]:
    """Blurred maps, zero outside the picture: h2 = h + 2 padding - 3."""
    channels = maps.shape[1]
    return conv2d(maps, kernel.expand(channels, 1, -1, -1), padding=padding, groups=channels)


def phases(kernel: Float[Tensor, "4 4"]) -> Float[Tensor, "12 1 3 3"]:
    """The polyphase form of `stuff zeros between pixels, filter` for three channels.

    In one dimension output pixel 2a is K₀x[a-1] + K₂x[a] and pixel 2a + 1 is K₁x[a] + K₃x[a+1].
    """
    padded = pad(kernel, (1, 1, 1, 1))
    four = torch.stack([padded[1 - p :: 2, 1 - q :: 2] for p in (0, 1) for q in (0, 1)])
    return four.unsqueeze(1).repeat(3, 1, 1, 1)


def image_up(image: Float[Tensor, "b 3 h w"], kernel: Float[Tensor, "12 1 3 3"]) -> Float[Tensor, "b 3 h2 w2"]:
    """An image at twice the size, with the `phases` of a kernel."""
    return pixel_shuffle(conv2d(image, kernel, padding=1, groups=3), 2)
