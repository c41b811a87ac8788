"""StyleGAN2's generator (Karras et al. 2020), frozen and made fast, from checkpoints in the rosinality layout.

What makes it fast: weights are shared by the batch, styles scale the activations before a convolution and
demodulation scales them after it (instead of a grouped convolution with a kernel a sample); up-sampling is a
transposed convolution and a depthwise blur (`nets.resample`); equalised-learning-rate gains and the √2 of the
activation are folded into weights; memory is channels-last; the arithmetic can be bfloat16.

A checkpoint's tensors ask for no gradients, so a backward pass costs only the way to the latent. Where they do
(recipes/), folding is part of the graph, and the gradients arrive at the tensors the network was made of.

Everything that describes the architecture is read off the tensors: size, widths, latent size, depth.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, leaky_relu, linear

from g2s_cli.gan.batch_invariant import steady_convolution, steady_linear
from g2s_cli.gan.filters import blur, image_up, phases
from g2s_cli.gan.rosinality import State, equalised, levels, take, take_blur

SLOPE = 0.2
GAIN = math.sqrt(2.0)  # of the activation; leaky_relu(x) √2 = leaky_relu(√2 x), so it moves into weights
# Pixels: layers finer than that know edges and grain, and less of what is what (docs/experiments/masks.md).
FEATURE_SIDE = 64
MAPPING_RATE = 0.01  # learning-rate multiplier of the mapping network, the same in every released model
MOST_PIXELS = 1 << 20  # of pictures made at once: 64 of 128 px, 4 of 512
EPSILON = 1e-8


class Mapping(nn.Module):
    """The mapping network F: Z → W. Layer 0 normalises z; layers 1 to `depth` are linear with leaky ReLU."""

    def __init__(self, state: State) -> None:
        super().__init__()
        self.depth = max(levels(state, "style") - 1, 1)
        self.latent_size = take(state, "style.1.weight", None, None).shape[1]
        size, gain = self.latent_size, GAIN * MAPPING_RATE
        for layer in range(1, self.depth + 1):
            self.register_buffer(f"weight{layer}", equalised(take(state, f"style.{layer}.weight", size, size)) * gain)
            self.register_buffer(f"bias{layer}", take(state, f"style.{layer}.bias", size) * gain)

    def forward(self, z: Float[Tensor, "b d"], first: int = 0, last: int | None = None) -> Float[Tensor, "b d"]:
        """Layers first (included) to last (excluded); the paper's F₁ of depth d is `first = depth + 1 - d`."""
        for layer in range(first, self.depth + 1 if last is None else last):
            if layer == 0:
                z = z * (z.square().mean(dim=1, keepdim=True) + EPSILON).rsqrt()
            else:
                z = leaky_relu(linear(z, getattr(self, f"weight{layer}"), getattr(self, f"bias{layer}")), SLOPE)
        return z


class Style(nn.Module):
    """The affine layer that makes a layer's style, one scale a channel, of w."""

    weight: Tensor
    bias: Tensor

    def __init__(self, state: State, prefix: str, channels: int, latent_size: int) -> None:
        super().__init__()
        self.register_buffer("weight", equalised(take(state, f"{prefix}.weight", channels, latent_size)))
        self.register_buffer("bias", take(state, f"{prefix}.bias", channels))

    def forward(self, w: Float[Tensor, "b d"]) -> Float[Tensor, "b c"]:
        """Scales."""
        return steady_linear(w, self.weight, self.bias)


class StyledConv(nn.Module):
    """A modulated 3x3 convolution, perhaps up-sampling, with noise, bias and activation.

    size: of the output, in pixels. A checkpoint without its noise (it is drawn afresh in training) has none.
    """

    weight: Tensor
    energy: Tensor
    offset: Tensor
    blur_kernel: Tensor | None

    def __init__(
        self, state: State, prefix: str, noise: str, before: int, size: int, latent_size: int, *, upsamples: bool
    ) -> None:
        super().__init__()
        kernel = equalised(take(state, f"{prefix}.conv.weight", 1, None, before, 3, 3)[0])
        self.width = len(kernel)
        self.style = Style(state, f"{prefix}.conv.modulation", before, latent_size)
        self.register_buffer("energy", kernel.square().sum(dim=(2, 3)) / GAIN**2)
        self.register_buffer("blur_kernel", take_blur(state, f"{prefix}.conv.blur.kernel") if upsamples else None)
        kernel = kernel.transpose(0, 1) if upsamples else kernel  # as conv_transpose2d wants it
        self.register_buffer("weight", kernel.contiguous(memory_format=torch.channels_last))
        bias = take(state, f"{prefix}.activate.bias", self.width)[None, :, None, None] * GAIN
        if noise in state:
            strength = take(state, f"{prefix}.noise.weight", 1)
            bias = bias + strength * take(state, noise, 1, 1, size, size) * GAIN
        self.register_buffer("offset", bias.contiguous(memory_format=torch.channels_last))

    def with_dtype(self, dtype: torch.dtype) -> None:
        """Convert what the convolution reads; style and demodulation stay float32."""
        self.weight, self.offset = self.weight.to(dtype), self.offset.to(dtype)
        if self.blur_kernel is not None:
            self.blur_kernel = self.blur_kernel.to(dtype)

    def forward(self, maps: Float[Tensor, "b i h w"], w: Float[Tensor, "b d"]) -> Float[Tensor, "b o s s"]:
        """Scale, convolve, demodulate, add noise and bias, activate."""
        style = self.style(w)
        demodulation = (steady_linear(style.square(), self.energy) + EPSILON / GAIN**2).rsqrt()
        maps = maps * style.to(maps.dtype)[:, :, None, None]
        if self.blur_kernel is None:
            maps = steady_convolution(lambda some: conv2d(some, self.weight, padding=1), maps)
        else:
            maps = steady_convolution(lambda some: conv_transpose2d(some, self.weight, stride=2), maps)
            maps = blur(maps, self.blur_kernel, padding=1)
        maps = (maps * demodulation.to(maps.dtype)[:, :, None, None]).add_(self.offset)
        return leaky_relu(maps, SLOPE, inplace=True)


class ToRGB(nn.Module):
    """A modulated 1x1 convolution to colours, as one small matrix a sample, on top of the coarser image."""

    weight: Tensor
    bias: Tensor
    up_kernel: Tensor | None

    def __init__(self, state: State, prefix: str, before: int, latent_size: int, *, upsamples: bool) -> None:
        super().__init__()
        self.style = Style(state, f"{prefix}.conv.modulation", before, latent_size)
        self.register_buffer(
            "weight", equalised(take(state, f"{prefix}.conv.weight", 1, 3, before, 1, 1)[0, :, :, 0, 0])
        )
        self.register_buffer("bias", take(state, f"{prefix}.bias", 1, 3, 1, 1))
        kernel = phases(take_blur(state, f"{prefix}.upsample.kernel")) if upsamples else None
        self.register_buffer("up_kernel", kernel)

    def forward(
        self, maps: Float[Tensor, "b i h w"], w: Float[Tensor, "b d"], coarser: Tensor | None
    ) -> Float[Tensor, "b 3 h w"]:
        """The image so far, in float32."""
        mixing = (self.weight * self.style(w)[:, None]).to(maps.dtype)
        # Pixels first, as they lie in memory: this way the gradient is channels-last too.
        pixels = maps.permute(0, 2, 3, 1).flatten(1, 2) @ mixing.mT
        image = pixels.float().unflatten(1, maps.shape[2:]).permute(0, 3, 1, 2) + self.bias
        return image if coarser is None or self.up_kernel is None else image + image_up(coarser, self.up_kernel)


class Generator(nn.Module):
    """The synthesis network G: W → images, with its mapping network; noise is fixed by the checkpoint.

    `compute_dtype` is the arithmetic of the convolutions (see `with_dtype`); styles, demodulation and the
    image are always float32. Raises WeightsError if the state is not such a network's.
    """

    constant: Tensor
    latent_avg: Tensor

    def __init__(self, state: State, latent_avg: Tensor | None = None) -> None:
        super().__init__()
        self.mapping = Mapping(state)
        self.register_buffer("constant", take(state, "input.input", 1, None, 4, 4))
        width, latent = self.constant.shape[1], self.latent_size
        self.first = StyledConv(state, "conv1", "noises.noise_0", width, 4, latent, upsamples=False)
        self.first_rgb = ToRGB(state, "to_rgb1", self.first.width, latent, upsamples=False)
        self.convs, self.rgbs, self.size, width = nn.ModuleList(), nn.ModuleList(), 4, self.first.width
        for level in range(levels(state, "to_rgbs")):
            self.size *= 2
            for index, upsamples in ((2 * level, True), (2 * level + 1, False)):
                prefix, noise = f"convs.{index}", f"noises.noise_{index + 1}"
                conv = StyledConv(state, prefix, noise, width, self.size, latent, upsamples=upsamples)
                self.convs.append(conv)
                width = conv.width
            self.rgbs.append(ToRGB(state, f"to_rgbs.{level}", width, latent, upsamples=True))
        average = self.mapping(torch.zeros(1, latent))[0] if latent_avg is None else latent_avg.float()
        self.register_buffer("latent_avg", average.reshape(-1))
        self.compute_dtype = torch.float32

    @property
    def latent_size(self) -> int:
        """Numbers in a latent w."""
        return self.mapping.latent_size

    @property
    def layers(self) -> int:
        """How many latents a picture can be made of, one a layer."""
        return len(self.convs) + 2

    @property
    def at_once(self) -> int:
        """How many pictures to make at a time, so that those of 512 px need no more memory than those of 64."""
        return max(1, MOST_PIXELS // self.size**2)

    def with_dtype(self, dtype: torch.dtype) -> Generator:
        """Set the arithmetic of the convolutions, rounding their weights for good; returns itself."""
        self.compute_dtype = dtype
        for conv in (self.first, *self.convs):
            conv.with_dtype(dtype)
        return self

    def forward(self, w: Float[Tensor, "b *n d"]) -> Float[Tensor, "b 3 s s"]:
        """Images for latents, one for all layers (b d) or one a layer (b n d)."""
        return self.forward_features(w)[0]

    def forward_features(self, w: Float[Tensor, "b *n d"]) -> tuple[Float[Tensor, "b 3 s s"], Float[Tensor, "b c t t"]]:
        """Images, and the features that the last colour layer of at most `FEATURE_SIDE` pixels reads."""
        layers = w.unbind(1) if w.ndim == 3 else [w] * self.layers
        maps = self.constant.to(self.compute_dtype).expand(len(w), -1, -1, -1)
        maps = self.first(maps.contiguous(memory_format=torch.channels_last), layers[0])
        image, features = self.first_rgb(maps, layers[1], None), maps
        for block, rgb in enumerate(self.rgbs):
            maps = self.convs[2 * block](maps, layers[2 * block + 1])
            maps = self.convs[2 * block + 1](maps, layers[2 * block + 2])
            image = rgb(maps, layers[2 * block + 3], image)
            features = maps if maps.shape[-1] <= FEATURE_SIDE else features
        return image, features
