"""StyleGAN2's resampling convolutions as plain ones, by composing kernels (polyphase decomposition).

The original zero-stuffs or strides and blurs with [1, 3, 3, 1] in a pass of its own. Convolutions compose:
an up-convolution is one stride-1 convolution that makes the four phases of the output, and a pixel shuffle;
a down-convolution is one stride-2 convolution. Zero padding composes exactly too, borders included.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, pad


def blur_taps(like: Tensor) -> Float[Tensor, 4]:
    """The 4-tap binomial filter, summing to 1."""
    return like.new_tensor([1.0, 3.0, 3.0, 1.0]) / 8


def blurred(weight: Float[Tensor, "o i k k"]) -> Float[Tensor, "o i n n"]:
    """A kernel convolved in full with the blur: n = k + 3 taps a side."""
    taps = blur_taps(weight)
    plane = pad(weight.flatten(0, 1).unsqueeze(1), (3, 3, 3, 3))
    full = conv2d(plane, torch.outer(taps, taps)[None, None])
    return full.view(*weight.shape[:2], *full.shape[-2:])


def up_kernel(weight: Float[Tensor, "o i 3 3"]) -> Float[Tensor, "o4 i 3 3"]:
    """The four phases of `transposed convolution, stride 2, then blur with gain 4`, as one 3x3 kernel.

    With x zero outside the picture, y[m] = Σ_j x[j] E[m - 2j], where E is the 6-tap composed kernel indexed
    from -2; the output at m = 2a + p takes x[a-1 .. a+1] with the taps E[p + 2 - 2t], t = 0, 1, 2. Output
    channels are ordered for `pixel_shuffle(2)`.
    """
    composed = 4 * blurred(weight)
    # E[n] = Σ_s K[s] W[n + s - 1]; blurred() indexes the same sums from 0 because K is symmetric.
    phases = [composed[:, :, [4 + p, 2 + p, p]][:, :, :, [4 + q, 2 + q, q]] for p in (0, 1) for q in (0, 1)]
    return torch.stack(phases, dim=1).flatten(0, 1).contiguous()


def down_kernel(weight: Float[Tensor, "o i k k"]) -> Float[Tensor, "o i n n"]:
    """`blur, then convolution with stride 2` as one kernel of k + 3 taps, for stride 2 and padding (k + 1) / 2."""
    return blurred(weight)


def image_up_kernel(like: Tensor) -> Float[Tensor, "12 1 3 3"]:
    """Zero-stuffed up-sampling by 2 with the blur, for three separate channels, ordered for `pixel_shuffle`."""
    taps = torch.stack((like.new_tensor([0.25, 0.75, 0.0]), like.new_tensor([0.0, 0.75, 0.25])))
    phases = torch.einsum("pi,qj->pqij", taps, taps).reshape(4, 1, 3, 3)
    return phases.repeat(3, 1, 1, 1)
