"""StyleGAN2's discriminator (Karras et al. 2020), frozen and optimised for inference and image gradients.

As in the generator, blurs are depthwise convolutions, all gains (and the 1/√2 of residual sums) are folded into
weights, memory is channels-last, and convolutions can run in bfloat16.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, leaky_relu, linear

from g2s_cli.gan.batch_invariant import batch_invariant_conv
from g2s_cli.gan.filters import blur
from g2s_cli.gan.rosinality import State, count_modules, get_blur_kernel, get_scaled_weight, get_tensor
from g2s_cli.gan.stylegan2 import GAIN, SLOPE

STDDEV_GROUP = 4  # images that share a mini-batch standard deviation


class DownBlock(nn.Module):
    """A residual block that halves the resolution."""

    weight1: Tensor
    bias1: Tensor
    weight2: Tensor
    bias2: Tensor
    blur_kernel: Tensor
    skip_weight: Tensor
    skip_blur_kernel: Tensor

    def __init__(self, state: State, prefix: str, inputs: int) -> None:
        super().__init__()
        weight1 = get_scaled_weight(state, f"{prefix}.conv1.0.weight", inputs, inputs, 3, 3)
        # The activation's √2 and the residual sum's 1/√2 cancel.
        weight2 = get_scaled_weight(state, f"{prefix}.conv2.1.weight", None, inputs, 3, 3)
        self.width = len(weight2)
        skip_weight = get_scaled_weight(state, f"{prefix}.skip.1.weight", self.width, inputs, 1, 1)
        _register_kernel(self, "weight1", weight1 * GAIN)
        self.register_buffer("bias1", get_tensor(state, f"{prefix}.conv1.1.bias", inputs) * GAIN)
        _register_kernel(self, "weight2", weight2)
        self.register_buffer("bias2", get_tensor(state, f"{prefix}.conv2.2.bias", self.width))
        self.register_buffer("blur_kernel", get_blur_kernel(state, f"{prefix}.conv2.0.kernel"))
        _register_kernel(self, "skip_weight", skip_weight / math.sqrt(2))
        self.register_buffer("skip_blur_kernel", get_blur_kernel(state, f"{prefix}.skip.0.kernel"))

    def forward(self, maps: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h2 w2"]:
        """Residual branch plus skip branch."""
        inner = batch_invariant_conv(lambda x: conv2d(x, self.weight1, self.bias1, padding=1), maps)
        inner = blur(leaky_relu(inner, SLOPE, inplace=True), self.blur_kernel, padding=2)
        inner = batch_invariant_conv(lambda x: conv2d(x, self.weight2, self.bias2, stride=2), inner)
        inner = leaky_relu(inner, SLOPE, inplace=True)
        # A blur of stride 2 would do, but its gradient in bfloat16 is thirty times slower on CPUs.
        skip = blur(maps, self.skip_blur_kernel, padding=1)
        return inner + batch_invariant_conv(lambda x: conv2d(x, self.skip_weight, stride=2), skip)


class Discriminator(nn.Module):
    """D: images (b 3 s s) in [-1, 1] to logits (b 1) and intermediate features.

    Raises:
        WeightsError: the state is not that of such a network.
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
        _register_kernel(self, "rgb_weight", get_scaled_weight(state, "convs.0.0.weight", None, 3, 1, 1) * GAIN)
        width = len(self.rgb_weight)
        self.register_buffer("rgb_bias", get_tensor(state, "convs.0.1.bias", width) * GAIN)
        self.blocks, self.size = nn.ModuleList(), 4
        for level in range(1, count_modules(state, "convs")):
            block = DownBlock(state, f"convs.{level}", width)
            self.blocks.append(block)
            self.size, width = 2 * self.size, block.width
        weight = get_scaled_weight(state, "final_conv.0.weight", None, width + 1, 3, 3) * GAIN
        _register_kernel(self, "final_weight", weight)
        self.register_buffer("final_bias", get_tensor(state, "final_conv.1.bias", len(weight)) * GAIN)
        dense = get_scaled_weight(state, "final_linear.0.weight", None, 16 * len(weight)) * GAIN
        self.register_buffer("dense0_weight", dense)
        self.register_buffer("dense0_bias", get_tensor(state, "final_linear.0.bias", len(dense)) * GAIN)
        self.register_buffer("dense1_weight", get_scaled_weight(state, "final_linear.1.weight", 1, len(dense)))
        self.register_buffer("dense1_bias", get_tensor(state, "final_linear.1.bias", 1))
        self.compute_dtype = torch.float32

    def with_dtype(self, dtype: torch.dtype) -> Discriminator:
        """Convert the convolutions to another dtype in place; returns the network."""
        self.compute_dtype = dtype
        self.rgb_weight, self.rgb_bias = self.rgb_weight.to(dtype), self.rgb_bias.to(dtype)
        self.blocks.to(dtype)
        return self

    def features(self, image: Float[Tensor, "b 3 s s"], count: int = 4) -> list[Tensor]:
        """Outputs of the first `count` blocks, finest first, in the compute dtype."""
        maps = image.to(self.compute_dtype).contiguous(memory_format=torch.channels_last)
        maps = leaky_relu(conv2d(maps, self.rgb_weight, self.rgb_bias), SLOPE, inplace=True)
        outputs = []
        for block in self.blocks[:count]:
            maps = block(maps)
            outputs.append(maps)
        return outputs

    def forward(self, image: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b 1"]:
        """Logits, large for realistic images. A batch has at most four images or a multiple of four."""
        maps = self.features(image, len(self.blocks))[-1].float()
        maps = torch.cat((maps, _minibatch_stddev(maps)), dim=1)
        maps = leaky_relu(conv2d(maps, self.final_weight, self.final_bias, padding=1), SLOPE)
        hidden = leaky_relu(linear(maps.flatten(1), self.dense0_weight, self.dense0_bias), SLOPE)
        return linear(hidden, self.dense1_weight, self.dense1_bias)


def _minibatch_stddev(maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 h w"]:
    """Mini-batch standard deviation, averaged to one map: images i, i + b/g, ... form a group."""
    batch, channels, height, width = maps.shape
    group = min(STDDEV_GROUP, batch)
    grouped = maps.view(group, batch // group, channels, height, width)
    stddev = (grouped.var(dim=0, unbiased=False) + 1e-8).sqrt().mean(dim=(1, 2, 3))
    return stddev.repeat(group)[:, None, None, None].expand(batch, 1, height, width)


def _register_kernel(module: nn.Module, name: str, kernel: Tensor) -> None:
    module.register_buffer(name, kernel.contiguous(memory_format=torch.channels_last))
