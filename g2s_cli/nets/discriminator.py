"""StyleGAN2's discriminator (Karras et al. 2020), frozen and made fast: our perceptual eye.

Blur and stride are folded into single convolutions (`nets.resample`), and all gains, the 1/√2 of the
residual sum included, into weights. Backward passes reach the image only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping as StateDict

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, leaky_relu, linear

from g2s_cli.errors import WeightsError
from g2s_cli.nets.resample import down_kernel
from g2s_cli.nets.stylegan2 import GAIN, SLOPE

GROUP = 4  # images that share a mini-batch standard deviation


class DownBlock(nn.Module):
    """A residual block that halves the picture."""

    weight1: Tensor
    bias1: Tensor
    weight2: Tensor
    bias2: Tensor
    shortcut: Tensor

    def __init__(self, state: StateDict[str, Tensor], prefix: str) -> None:
        super().__init__()
        _register(self, "weight1", _kernel(state, prefix + "conv1.0.weight") * GAIN)
        self.register_buffer("bias1", _take(state, prefix + "conv1.1.bias").float() * GAIN)
        # The activation's √2 and the residual sum's 1/√2 cancel.
        _register(self, "weight2", down_kernel(_kernel(state, prefix + "conv2.1.weight")))
        self.register_buffer("bias2", _take(state, prefix + "conv2.2.bias").float())
        _register(self, "shortcut", down_kernel(_kernel(state, prefix + "skip.1.weight")) / math.sqrt(2))

    def forward(self, maps: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h2 w2"]:
        """Residual path plus shortcut."""
        inner = leaky_relu(conv2d(maps, self.weight1, self.bias1, padding=1), SLOPE, inplace=True)
        inner = leaky_relu(conv2d(inner, self.weight2, self.bias2, stride=2, padding=2), SLOPE, inplace=True)
        return inner + conv2d(maps, self.shortcut, stride=2, padding=1)


class Discriminator(nn.Module):
    """D: images (b 3 s s) in [-1, 1] to logits (b 1), and the features on the way."""

    rgb_weight: Tensor
    rgb_bias: Tensor
    final_weight: Tensor
    final_bias: Tensor
    dense0_weight: Tensor
    dense0_bias: Tensor
    dense1_weight: Tensor
    dense1_bias: Tensor

    def __init__(self, state: StateDict[str, Tensor]) -> None:
        super().__init__()
        _register(self, "rgb_weight", _kernel(state, "convs.0.0.weight") * GAIN)
        self.register_buffer("rgb_bias", _take(state, "convs.0.1.bias").float() * GAIN)
        count = len([name for name in state if name.endswith("conv1.0.weight")])
        self.size = 4 * 2**count
        self.blocks = nn.ModuleList(DownBlock(state, f"convs.{i + 1}.") for i in range(count))
        _register(self, "final_weight", _kernel(state, "final_conv.0.weight") * GAIN)
        self.register_buffer("final_bias", _take(state, "final_conv.1.bias").float() * GAIN)
        for index, gain in ((0, GAIN), (1, 1.0)):
            weight = _take(state, f"final_linear.{index}.weight").float()
            self.register_buffer(f"dense{index}_weight", weight * (gain / math.sqrt(weight.shape[1])))
            self.register_buffer(f"dense{index}_bias", _take(state, f"final_linear.{index}.bias").float() * gain)
        self.compute_dtype = torch.float32

    def with_dtype(self, dtype: torch.dtype) -> Discriminator:
        """Set the arithmetic of the convolutions; returns itself."""
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
        """Logits: large for what looks real."""
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


def _kernel(state: StateDict[str, Tensor], name: str) -> Tensor:
    """A convolution's weight with its equalised-learning-rate gain."""
    weight = _take(state, name).float()
    return weight / math.sqrt(weight[0].numel())


def _take(state: StateDict[str, Tensor], name: str) -> Tensor:
    if name not in state:
        raise WeightsError(
            f"These weights are not a StyleGAN2 discriminator in the rosinality layout: {name} is missing.",
            "Convert the checkpoint to that layout first.",
        )
    return state[name]
