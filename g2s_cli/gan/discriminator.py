"""StyleGAN2's discriminator (Karras et al. 2020), frozen and made fast: our perceptual eye.

The same means as the generator's: a depthwise blur beside plain convolutions (`nets.resample`), all gains, the
1/√2 of the residual sum included, in the weights, channels-last memory, bfloat16 where asked for. Backward
passes reach the image only.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, leaky_relu, linear

from g2s_cli.gan.batch_invariant import steady_convolution
from g2s_cli.gan.filters import blur
from g2s_cli.gan.rosinality import State, count_modules, equalised, take, take_blur
from g2s_cli.gan.stylegan2 import GAIN, SLOPE

GROUP = 4  # images that share a mini-batch standard deviation


class DownBlock(nn.Module):
    """A residual block that halves the picture."""

    weight1: Tensor
    bias1: Tensor
    weight2: Tensor
    bias2: Tensor
    blur2: Tensor
    shortcut: Tensor
    shortcut_blur: Tensor

    def __init__(self, state: State, prefix: str, before: int) -> None:
        super().__init__()
        _register(self, "weight1", equalised(take(state, f"{prefix}.conv1.0.weight", before, before, 3, 3)) * GAIN)
        self.register_buffer("bias1", take(state, f"{prefix}.conv1.1.bias", before) * GAIN)
        # The activation's √2 and the residual sum's 1/√2 cancel.
        _register(self, "weight2", equalised(take(state, f"{prefix}.conv2.1.weight", None, before, 3, 3)))
        self.width = len(self.weight2)
        self.register_buffer("bias2", take(state, f"{prefix}.conv2.2.bias", self.width))
        self.register_buffer("blur2", take_blur(state, f"{prefix}.conv2.0.kernel"))
        shortcut = equalised(take(state, f"{prefix}.skip.1.weight", self.width, before, 1, 1))
        _register(self, "shortcut", shortcut / math.sqrt(2))
        self.register_buffer("shortcut_blur", take_blur(state, f"{prefix}.skip.0.kernel"))

    def forward(self, maps: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h2 w2"]:
        """Residual path plus shortcut."""
        inner = steady_convolution(lambda some: conv2d(some, self.weight1, self.bias1, padding=1), maps)
        inner = blur(leaky_relu(inner, SLOPE, inplace=True), self.blur2, padding=2)
        inner = steady_convolution(lambda some: conv2d(some, self.weight2, self.bias2, stride=2), inner)
        inner = leaky_relu(inner, SLOPE, inplace=True)
        # A blur of stride 2 would do, but its gradient in bfloat16 is thirty times slower on CPUs.
        beside = blur(maps, self.shortcut_blur, padding=1)
        return inner + steady_convolution(lambda some: conv2d(some, self.shortcut, stride=2), beside)


class Discriminator(nn.Module):
    """D: images (b 3 s s) in [-1, 1] to logits (b 1), and the features on the way.

    Raises WeightsError if the state is not such a network's.
    """

    rgb_weight: Tensor
    rgb_bias: Tensor
    final_weight: Tensor
    final_bias: Tensor
    dense0_weight: Tensor
    dense0_bias: Tensor
    dense1_weight: Tensor
    dense1_bias: Tensor

    def __init__(self, state: State) -> None:
        super().__init__()
        _register(self, "rgb_weight", equalised(take(state, "convs.0.0.weight", None, 3, 1, 1)) * GAIN)
        width = len(self.rgb_weight)
        self.register_buffer("rgb_bias", take(state, "convs.0.1.bias", width) * GAIN)
        self.blocks, self.size = nn.ModuleList(), 4
        for level in range(1, count_modules(state, "convs")):
            block = DownBlock(state, f"convs.{level}", width)
            self.blocks.append(block)
            self.size, width = 2 * self.size, block.width
        _register(self, "final_weight", equalised(take(state, "final_conv.0.weight", None, width + 1, 3, 3)) * GAIN)
        final = len(self.final_weight)
        self.register_buffer("final_bias", take(state, "final_conv.1.bias", final) * GAIN)
        self.register_buffer("dense0_weight", equalised(take(state, "final_linear.0.weight", None, 16 * final)) * GAIN)
        hidden = len(self.dense0_weight)
        self.register_buffer("dense0_bias", take(state, "final_linear.0.bias", hidden) * GAIN)
        self.register_buffer("dense1_weight", equalised(take(state, "final_linear.1.weight", 1, hidden)))
        self.register_buffer("dense1_bias", take(state, "final_linear.1.bias", 1))
        self.compute_dtype = torch.float32

    def with_dtype(self, dtype: torch.dtype) -> Discriminator:
        """Set the arithmetic of the convolutions, rounding their weights for good; returns itself."""
        self.compute_dtype = dtype
        self.rgb_weight, self.rgb_bias = self.rgb_weight.to(dtype), self.rgb_bias.to(dtype)
        self.blocks.to(dtype)
        return self

    def features(self, image: Float[Tensor, "b 3 s s"], count: int = 4) -> list[Tensor]:
        """Outputs of the first `count` blocks, finest first, in the arithmetic's dtype."""
        maps = image.to(self.compute_dtype).contiguous(memory_format=torch.channels_last)
        maps = leaky_relu(conv2d(maps, self.rgb_weight, self.rgb_bias), SLOPE, inplace=True)
        outputs = []
        for block in self.blocks[:count]:
            maps = block(maps)
            outputs.append(maps)
        return outputs

    def forward(self, image: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b 1"]:
        """Logits: large for what looks real. A batch has at most four images, or a multiple of four."""
        maps = self.features(image, len(self.blocks))[-1].float()
        maps = torch.cat((maps, _spread(maps)), dim=1)
        maps = leaky_relu(conv2d(maps, self.final_weight, self.final_bias, padding=1), SLOPE)
        hidden = leaky_relu(linear(maps.flatten(1), self.dense0_weight, self.dense0_bias), SLOPE)
        return linear(hidden, self.dense1_weight, self.dense1_bias)


def _spread(maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 h w"]:
    """Mini-batch standard deviation, averaged to one map: images i, i + b/g, ... form a group."""
    batch, channels, height, width = maps.shape
    group = min(GROUP, batch)
    grouped = maps.view(group, batch // group, channels, height, width)
    deviation = (grouped.var(dim=0, unbiased=False) + 1e-8).sqrt().mean(dim=(1, 2, 3))
    return deviation.repeat(group)[:, None, None, None].expand(batch, 1, height, width)


def _register(module: nn.Module, name: str, tensor: Tensor) -> None:
    module.register_buffer(name, tensor.contiguous(memory_format=torch.channels_last))
