"""StyleGAN2's blur, [1, 3, 3, 1] in both directions, for up- and down-sampling.

Feature maps are blurred by a depthwise convolution. Folding the blur into the adjacent convolution saves a pass over
memory but costs four times the multiplications, and was slower on every layer (benchmarks/README.md). RGB images have
no adjacent convolution: they are up-sampled in polyphase form.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, pad, pixel_shuffle


def blur(maps: Float[Tensor, "b c h w"], kernel: Float[Tensor, "4 4"], padding: int) -> Float[Tensor, "b c h2 w2"]:
    """Blur with zero padding: h2 = h + 2 padding - 3."""
    channels = maps.shape[1]
    return conv2d(maps, kernel.expand(channels, 1, -1, -1), padding=padding, groups=channels)


def polyphase_kernel(kernel: Float[Tensor, "4 4"]) -> Float[Tensor, "12 1 3 3"]:
    """The polyphase form of zero insertion and filtering, for three channels.

    In one dimension output pixel 2a is K₀x[a-1] + K₂x[a] and pixel 2a + 1 is K₁x[a] + K₃x[a+1].
    """
    padded = pad(kernel, (1, 1, 1, 1))
    phases = torch.stack([padded[1 - p :: 2, 1 - q :: 2] for p in (0, 1) for q in (0, 1)])
    return phases.unsqueeze(1).repeat(3, 1, 1, 1)


def upsample_image(image: Float[Tensor, "b 3 h w"], kernel: Float[Tensor, "12 1 3 3"]) -> Float[Tensor, "b 3 h2 w2"]:
    """An image at twice the size, by a `polyphase_kernel`."""
    return pixel_shuffle(conv2d(image, kernel, padding=1, groups=3), 2)
