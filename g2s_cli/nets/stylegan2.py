"""StyleGAN2's generator (Karras et al. 2020), frozen and made fast, from checkpoints in the rosinality layout.

What makes it fast: weights are shared by the batch, styles scale the activations before a convolution and
demodulation scales them after it (instead of a grouped convolution with a kernel a sample); up-sampling and
blur are folded into one convolution (`nets.resample`); equalised-learning-rate gains and the √2 of the
activation are folded into weights; memory is channels-last; the arithmetic can be bfloat16. Weights never
ask for gradients, so a backward pass costs only the way to the latent.

Everything that describes the architecture is read off the tensors: size, widths, latent size, depth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping as StateDict

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, leaky_relu, linear, pixel_shuffle

from g2s_cli.errors import WeightsError
from g2s_cli.nets.resample import image_up_kernel, up_kernel

SLOPE = 0.2
GAIN = math.sqrt(2.0)  # of the activation; leaky_relu(x) √2 = leaky_relu(√2 x), so it moves into weights
MAPPING_RATE = 0.01  # learning-rate multiplier of the mapping network, the same in every released model
EPSILON = 1e-8


class Mapping(nn.Module):
    """The mapping network F: Z → W. Layer 0 normalises z; layers 1 to `depth` are linear with leaky ReLU."""

    def __init__(self, weights: list[Tensor], biases: list[Tensor]) -> None:
        super().__init__()
        self.depth = len(weights)
        self.latent_size = weights[-1].shape[0]
        for index, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            gain = GAIN * MAPPING_RATE
            self.register_buffer(f"weight{index}", weight.float() * (gain / math.sqrt(weight.shape[1])))
            self.register_buffer(f"bias{index}", bias.float() * gain)

    def forward(self, z: Float[Tensor, "b d"], first: int = 0, last: int | None = None) -> Float[Tensor, "b d"]:
        """Layers first (included) to last (excluded); the paper's F₁ of depth d is `first = depth + 1 - d`."""
        for layer in range(first, self.depth + 1 if last is None else last):
            if layer == 0:
                z = z * (z.square().mean(dim=1, keepdim=True) + EPSILON).rsqrt()
            else:
                weight, bias = getattr(self, f"weight{layer - 1}"), getattr(self, f"bias{layer - 1}")
                z = leaky_relu(linear(z, weight, bias), SLOPE)
        return z


class StyledConv(nn.Module):
    """A modulated 3x3 convolution, perhaps up-sampling, with noise, bias and activation."""

    weight: Tensor
    energy: Tensor
    style_weight: Tensor
    style_bias: Tensor
    offset: Tensor

    def __init__(self, state: StateDict[str, Tensor], prefix: str, noise: Tensor | None) -> None:
        super().__init__()
        kernel = _take(state, prefix + "conv.weight", 5)[0].float()
        kernel = kernel / math.sqrt(kernel[0].numel())
        bias = _take(state, prefix + "activate.bias", 1).float()
        self.upsamples = prefix + "conv.blur.kernel" in state
        composed = up_kernel(kernel) if self.upsamples else kernel
        self.register_buffer("weight", composed.contiguous(memory_format=torch.channels_last))
        self.register_buffer("energy", kernel.square().sum(dim=(2, 3)) / GAIN**2)
        _register_style(self, state, prefix)
        offset = bias[:, None, None] * GAIN
        if noise is not None:
            offset = offset + _take(state, prefix + "noise.weight", 1).float() * noise[0].float() * GAIN
        self.register_buffer("offset", offset[None].contiguous(memory_format=torch.channels_last))

    def forward(self, maps: Float[Tensor, "b i h w"], w: Float[Tensor, "b d"]) -> Float[Tensor, "b o h2 w2"]:
        """Scale, convolve, demodulate, add noise and bias, activate."""
        style = linear(w, self.style_weight, self.style_bias)
        demodulation = (style.square() @ self.energy.T + EPSILON / GAIN**2).rsqrt()
        maps = conv2d(maps * style.to(maps.dtype)[:, :, None, None], self.weight, padding=1)
        if self.upsamples:
            maps = pixel_shuffle(maps, 2)
        maps = torch.addcmul(self.offset, maps, demodulation.to(maps.dtype)[:, :, None, None])
        return leaky_relu(maps, SLOPE)


class ToRGB(nn.Module):
    """A modulated 1x1 convolution to colours, as one small matrix a sample, on top of the coarser image."""

    weight: Tensor
    style_weight: Tensor
    style_bias: Tensor
    bias: Tensor
    upsampler: Tensor

    def __init__(self, state: StateDict[str, Tensor], prefix: str) -> None:
        super().__init__()
        kernel = _take(state, prefix + "conv.weight", 5)[0, :, :, 0, 0].float()
        self.register_buffer("weight", kernel / math.sqrt(kernel.shape[1]))
        _register_style(self, state, prefix)
        self.register_buffer("bias", _take(state, prefix + "bias", 4).float())
        self.register_buffer("upsampler", image_up_kernel(self.bias))

    def forward(
        self, maps: Float[Tensor, "b i h w"], w: Float[Tensor, "b d"], coarser: Tensor | None
    ) -> Float[Tensor, "b 3 h w"]:
        """The image so far, in float32."""
        style = linear(w, self.style_weight, self.style_bias)
        mixing = (self.weight * style[:, None]).to(maps.dtype)
        image = (mixing @ maps.flatten(2)).view(len(maps), 3, *maps.shape[2:]).float() + self.bias
        if coarser is None:
            return image
        return image + pixel_shuffle(conv2d(coarser, self.upsampler, padding=1, groups=3), 2)


class Generator(nn.Module):
    """The synthesis network G: W → images, with its mapping network; noise is fixed by the checkpoint.

    `compute_dtype` is the arithmetic of the convolutions (see `with_dtype`); styles, demodulation and the
    image are always float32.
    """

    constant: Tensor
    latent_avg: Tensor

    def __init__(self, state: StateDict[str, Tensor], latent_avg: Tensor | None = None) -> None:
        super().__init__()
        constant = _take(state, "input.input", 4).float()
        self.register_buffer("constant", constant)
        self.mapping = _mapping(state)
        count = len([name for name in state if name.startswith("convs.") and name.endswith("conv.weight")])
        self.size = constant.shape[-1] * 2 ** (count // 2)
        self.first = StyledConv(state, "conv1.", state.get("noises.noise_0"))
        self.first_rgb = ToRGB(state, "to_rgb1.")
        self.convs = nn.ModuleList(
            StyledConv(state, f"convs.{i}.", state.get(f"noises.noise_{i + 1}")) for i in range(count)
        )
        self.rgbs = nn.ModuleList(ToRGB(state, f"to_rgbs.{i}.") for i in range(count // 2))
        average = self.mapping(torch.zeros(1, self.latent_size))[0] if latent_avg is None else latent_avg.float()
        self.register_buffer("latent_avg", average.reshape(-1))
        self.compute_dtype = torch.float32

    @property
    def latent_size(self) -> int:
        """Numbers in a latent w."""
        return self.mapping.latent_size

    def with_dtype(self, dtype: torch.dtype) -> Generator:
        """Set the arithmetic of the convolutions; returns itself."""
        self.compute_dtype = dtype
        for layer in (self.first, *self.convs):
            layer.weight, layer.offset = layer.weight.to(dtype), layer.offset.to(dtype)
        return self

    def forward(self, w: Float[Tensor, "b *n d"]) -> Float[Tensor, "b 3 s s"]:
        """Images for latents, one for all layers (b d) or one a layer (b n d)."""
        return self.forward_features(w)[0]

    def forward_features(self, w: Float[Tensor, "b *n d"]) -> tuple[Float[Tensor, "b 3 s s"], Float[Tensor, "b c s s"]]:
        """Images, and the features that the last colour layer reads."""
        layers = w.unbind(1) if w.ndim == 3 else [w] * (len(self.convs) + 2)
        maps = self.constant.to(self.compute_dtype).expand(len(w), -1, -1, -1)
        maps = self.first(maps.contiguous(memory_format=torch.channels_last), layers[0])
        image = self.first_rgb(maps, layers[1], None)
        for block, rgb in enumerate(self.rgbs):
            maps = self.convs[2 * block](maps, layers[2 * block + 1])
            maps = self.convs[2 * block + 1](maps, layers[2 * block + 2])
            image = rgb(maps, layers[2 * block + 3], image)
        return image, maps


def _mapping(state: StateDict[str, Tensor]) -> Mapping:
    indices = sorted(int(name.split(".")[1]) for name in state if name.startswith("style.") and name.endswith("weight"))
    if not indices:
        raise _misfit("style.1.weight")
    return Mapping(
        [_take(state, f"style.{i}.weight", 2) for i in indices],
        [_take(state, f"style.{i}.bias", 1) for i in indices],
    )


def _register_style(module: nn.Module, state: StateDict[str, Tensor], prefix: str) -> None:
    """The affine layer that makes a style of w, its equalised-learning-rate gain folded in."""
    weight = _take(state, prefix + "conv.modulation.weight", 2).float()
    module.register_buffer("style_weight", weight / math.sqrt(weight.shape[1]))
    module.register_buffer("style_bias", _take(state, prefix + "conv.modulation.bias", 1).float())


def _take(state: StateDict[str, Tensor], name: str, dimensions: int) -> Tensor:
    tensor = state.get(name)
    if tensor is None or tensor.ndim != dimensions:
        raise _misfit(name)
    return tensor


def _misfit(name: str) -> WeightsError:
    return WeightsError(
        f"These weights are not a StyleGAN2 in the rosinality layout: {name} is missing or has another shape.",
        "Convert the checkpoint to that layout first.",
    )
