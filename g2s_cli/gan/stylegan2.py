"""StyleGAN2's generator (Karras et al. 2020), frozen and optimised, from checkpoints in the rosinality layout.

All samples share the convolution weights: styles scale activations before the convolution and demodulation scales them
after it. Up-sampling is a transposed convolution and a depthwise blur (`gan.filters`). Equalised-learning-rate gains
and the activation's √2 are folded into weights, memory is channels-last, and convolutions can run in bfloat16.

Buffers of a checkpoint require no gradients, so backward passes reach the latent only. If the state's tensors require
gradients (recipes/), the folding is part of the graph and they receive them. Size, widths, latent size and depth are
read off the tensors.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, leaky_relu, linear

from g2s_cli.gan.batch_invariant import batch_invariant_conv, batch_invariant_linear
from g2s_cli.gan.filters import blur, polyphase_kernel, upsample_image
from g2s_cli.gan.rosinality import State, count_modules, get_blur_kernel, get_scaled_weight, get_tensor, scale_weight

SLOPE = 0.2
GAIN = math.sqrt(2.0)  # of the activation; leaky_relu(x) √2 = leaky_relu(√2 x), so it moves into weights
FEATURE_PX = (
    64  # resolution of the features for segmentation; finer layers encode edges and grain (docs/experiments/masks.md)
)
MAPPING_RATE = 0.01  # learning-rate multiplier of the mapping network, the same in every released model
MAX_BATCH_PIXELS = 1 << 20  # of images in one batch: 64 of 128 px, 4 of 512
EPSILON = 1e-8


class Mapping(nn.Module):
    """The mapping network F: Z → W. Layer 0 normalises z; layers 1 to `depth` are linear with leaky ReLU."""

    def __init__(self, state: State) -> None:
        super().__init__()
        self.depth = max(count_modules(state, "style") - 1, 1)
        self.latent_size = get_tensor(state, "style.1.weight", None, None).shape[1]
        size, gain = self.latent_size, GAIN * MAPPING_RATE
        for layer in range(1, self.depth + 1):
            weight = get_scaled_weight(state, f"style.{layer}.weight", size, size)
            self.register_buffer(f"weight{layer}", weight * gain)
            self.register_buffer(f"bias{layer}", get_tensor(state, f"style.{layer}.bias", size) * gain)

    def forward(self, z: Float[Tensor, "b d"], first: int = 0, last: int | None = None) -> Float[Tensor, "b d"]:
        """Apply layers `first` (included) to `last` (excluded); the paper's F₁ of depth d has first = depth + 1 - d."""
        for layer in range(first, self.depth + 1 if last is None else last):
            if layer == 0:
                z = z * (z.square().mean(dim=1, keepdim=True) + EPSILON).rsqrt()
            else:
                z = leaky_relu(linear(z, getattr(self, f"weight{layer}"), getattr(self, f"bias{layer}")), SLOPE)
        return z


class Style(nn.Module):
    """The affine layer from w to a convolution's style, one scale a channel."""

    weight: Tensor
    bias: Tensor

    def __init__(self, state: State, prefix: str, channels: int, latent_size: int) -> None:
        super().__init__()
        self.register_buffer("weight", get_scaled_weight(state, f"{prefix}.weight", channels, latent_size))
        self.register_buffer("bias", get_tensor(state, f"{prefix}.bias", channels))

    def forward(self, w: Float[Tensor, "b d"]) -> Float[Tensor, "b c"]:
        """Scales."""
        return batch_invariant_linear(w, self.weight, self.bias)


class StyledConv(nn.Module):
    """A modulated 3x3 convolution with noise, bias and activation, optionally up-sampling.

    Args:
        noise: name of the noise map; checkpoints without it have no noise.
        size: of the output, in pixels.
    """

    weight: Tensor
    squared_weight: Tensor
    noise_and_bias: Tensor
    blur_kernel: Tensor | None

    def __init__(
        self, state: State, prefix: str, noise: str, inputs: int, size: int, latent_size: int, *, upsamples: bool
    ) -> None:
        super().__init__()
        weight = scale_weight(get_tensor(state, f"{prefix}.conv.weight", 1, None, inputs, 3, 3)[0])
        self.width = len(weight)
        self.style = Style(state, f"{prefix}.conv.modulation", inputs, latent_size)
        self.register_buffer("squared_weight", weight.square().sum(dim=(2, 3)) / GAIN**2)
        kernel = get_blur_kernel(state, f"{prefix}.conv.blur.kernel") if upsamples else None
        self.register_buffer("blur_kernel", kernel)
        weight = weight.transpose(0, 1) if upsamples else weight  # the layout of conv_transpose2d
        self.register_buffer("weight", weight.contiguous(memory_format=torch.channels_last))
        bias = get_tensor(state, f"{prefix}.activate.bias", self.width)[None, :, None, None] * GAIN
        if noise in state:
            strength = get_tensor(state, f"{prefix}.noise.weight", 1)
            bias = bias + strength * get_tensor(state, noise, 1, 1, size, size) * GAIN
        self.register_buffer("noise_and_bias", bias.contiguous(memory_format=torch.channels_last))

    def with_dtype(self, dtype: torch.dtype) -> None:
        """Convert the convolution; style and demodulation stay float32."""
        self.weight, self.noise_and_bias = self.weight.to(dtype), self.noise_and_bias.to(dtype)
        if self.blur_kernel is not None:
            self.blur_kernel = self.blur_kernel.to(dtype)

    def forward(self, maps: Float[Tensor, "b i h w"], w: Float[Tensor, "b d"]) -> Float[Tensor, "b o s s"]:
        """Modulate, convolve, demodulate, add noise and bias, activate."""
        style = self.style(w)
        demodulation = (batch_invariant_linear(style.square(), self.squared_weight) + EPSILON / GAIN**2).rsqrt()
        maps = maps * style.to(maps.dtype)[:, :, None, None]
        if self.blur_kernel is None:
            maps = batch_invariant_conv(lambda x: conv2d(x, self.weight, padding=1), maps)
        else:
            maps = batch_invariant_conv(lambda x: conv_transpose2d(x, self.weight, stride=2), maps)
            maps = blur(maps, self.blur_kernel, padding=1)
        maps = (maps * demodulation.to(maps.dtype)[:, :, None, None]).add_(self.noise_and_bias)
        return leaky_relu(maps, SLOPE, inplace=True)


class ToRGB(nn.Module):
    """A modulated 1x1 convolution to RGB, as one small matrix a sample, added to the up-sampled coarser image."""

    weight: Tensor
    bias: Tensor
    upsample_kernel: Tensor | None

    def __init__(self, state: State, prefix: str, inputs: int, latent_size: int, *, upsamples: bool) -> None:
        super().__init__()
        weight = get_tensor(state, f"{prefix}.conv.weight", 1, 3, inputs, 1, 1)[0, :, :, 0, 0]
        self.style = Style(state, f"{prefix}.conv.modulation", inputs, latent_size)
        self.register_buffer("weight", scale_weight(weight))
        self.register_buffer("bias", get_tensor(state, f"{prefix}.bias", 1, 3, 1, 1))
        kernel = polyphase_kernel(get_blur_kernel(state, f"{prefix}.upsample.kernel")) if upsamples else None
        self.register_buffer("upsample_kernel", kernel)

    def forward(
        self, maps: Float[Tensor, "b i h w"], w: Float[Tensor, "b d"], coarser: Tensor | None
    ) -> Float[Tensor, "b 3 h w"]:
        """The image up to this resolution, in float32."""
        weights = (self.weight * self.style(w)[:, None]).to(maps.dtype)
        # Pixels first, as they lie in memory: this way the gradient is channels-last, too.
        pixels = maps.permute(0, 2, 3, 1).flatten(1, 2) @ weights.mT
        image = pixels.float().unflatten(1, maps.shape[2:]).permute(0, 3, 1, 2) + self.bias
        if coarser is None or self.upsample_kernel is None:
            return image
        return image + upsample_image(coarser, self.upsample_kernel)


class Generator(nn.Module):
    """The synthesis network G: W → images, with its mapping network; noise is fixed by the checkpoint.

    Args:
        latent_avg: the mean latent; by default the mapping of z = 0.

    Raises:
        WeightsError: the state is not that of such a network.
    """

    constant: Tensor
    latent_avg: Tensor

    def __init__(self, state: State, latent_avg: Tensor | None = None) -> None:
        super().__init__()
        self.mapping = Mapping(state)
        self.register_buffer("constant", get_tensor(state, "input.input", 1, None, 4, 4))
        latent = self.latent_size
        self.first = StyledConv(state, "conv1", "noises.noise_0", self.constant.shape[1], 4, latent, upsamples=False)
        self.first_rgb = ToRGB(state, "to_rgb1", self.first.width, latent, upsamples=False)
        self.convs, self.rgbs, self.size, width = nn.ModuleList(), nn.ModuleList(), 4, self.first.width
        for level in range(count_modules(state, "to_rgbs")):
            self.size *= 2
            for index, upsamples in ((2 * level, True), (2 * level + 1, False)):
                prefix, noise = f"convs.{index}", f"noises.noise_{index + 1}"
                conv = StyledConv(state, prefix, noise, width, self.size, latent, upsamples=upsamples)
                self.convs.append(conv)
                width = conv.width
            self.rgbs.append(ToRGB(state, f"to_rgbs.{level}", width, latent, upsamples=True))
        mean = self.mapping(torch.zeros(1, latent))[0] if latent_avg is None else latent_avg.float()
        self.register_buffer("latent_avg", mean.reshape(-1))
        self.compute_dtype = torch.float32

    @property
    def latent_size(self) -> int:
        """Dimension of a latent w."""
        return self.mapping.latent_size

    @property
    def layers(self) -> int:
        """Number of latents in W+, one a layer."""
        return len(self.convs) + 2

    @property
    def max_batch(self) -> int:
        """Images in a batch that bound its memory at every resolution."""
        return max(1, MAX_BATCH_PIXELS // self.size**2)

    def with_dtype(self, dtype: torch.dtype) -> Generator:
        """Convert the convolutions to another dtype in place; returns the network."""
        self.compute_dtype = dtype
        for conv in (self.first, *self.convs):
            conv.with_dtype(dtype)
        return self

    def forward(self, w: Float[Tensor, "b *n d"]) -> Float[Tensor, "b 3 s s"]:
        """Images in about [-1, 1] for latents in W (b d) or W+ (b n d)."""
        return self.forward_features(w)[0]

    def forward_features(self, w: Float[Tensor, "b *n d"]) -> tuple[Float[Tensor, "b 3 s s"], Float[Tensor, "b c t t"]]:
        """Images, and the input of the last ToRGB layer of at most `FEATURE_PX` pixels."""
        layers = w.unbind(1) if w.ndim == 3 else [w] * self.layers
        maps = self.constant.to(self.compute_dtype).expand(len(w), -1, -1, -1)
        maps = self.first(maps.contiguous(memory_format=torch.channels_last), layers[0])
        image, features = self.first_rgb(maps, layers[1], None), maps
        for block, rgb in enumerate(self.rgbs):
            maps = self.convs[2 * block](maps, layers[2 * block + 1])
            maps = self.convs[2 * block + 1](maps, layers[2 * block + 2])
            image = rgb(maps, layers[2 * block + 3], image)
            features = maps if maps.shape[-1] <= FEATURE_PX else features
        return image, features
