"""StyleGAN2 as the textbook has it (Karras et al. 2020): the twin that ours is measured and tested against.

Every sample has its own modulated kernel, run as a group of one convolution; up-sampling stuffs zeros and
down-sampling drops pixels, each with a blur in a pass of its own; equalised-learning-rate gains are
multiplied in at every call; nothing is frozen, so that a backward pass computes weight gradients too. The
parameters carry the names of the rosinality layout: `load_state_dict(state)` fits.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, leaky_relu, linear, pad


def resample(maps: Tensor, kernel: Tensor, *, up: int = 1, down: int = 1, margin: tuple[int, int]) -> Tensor:
    """Stuff `up - 1` zeros after every pixel, pad, filter every channel, keep every `down`-th pixel."""
    batch, channels, height, width = maps.shape
    stuffed = maps.new_zeros(batch, channels, height, up, width, up)
    stuffed[:, :, :, 0, :, 0] = maps
    stuffed = pad(stuffed.view(batch * channels, 1, height * up, width * up), (*margin, *margin))
    filtered = conv2d(stuffed, kernel.flip(0, 1)[None, None])[:, :, ::down, ::down]
    return filtered.reshape(batch, channels, *filtered.shape[2:])


class Blur(nn.Module):
    def __init__(self, gain: float, margin: tuple[int, int], up: int = 1) -> None:
        super().__init__()
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("kernel", torch.outer(taps, taps) * gain)
        self.margin, self.up = margin, up

    def forward(self, maps: Tensor) -> Tensor:
        return resample(maps, self.kernel, up=self.up, margin=self.margin)


class EqualLinear(nn.Module):
    def __init__(self, before: int, after: int, rate: float = 1.0, *, activated: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(after, before))
        self.bias = nn.Parameter(torch.empty(after))
        self.rate, self.activated = rate, activated

    def forward(self, x: Tensor) -> Tensor:
        gain = self.rate / math.sqrt(self.weight.shape[1])
        x = linear(x, self.weight * gain, self.bias * self.rate)
        return leaky_relu(x, 0.2) * math.sqrt(2) if self.activated else x


class EqualConv(nn.Module):
    def __init__(self, before: int, after: int, width: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(after, before, width, width))
        self.stride, self.padding = stride, padding

    def forward(self, maps: Tensor) -> Tensor:
        gain = 1 / math.sqrt(self.weight[0].numel())
        return conv2d(maps, self.weight * gain, stride=self.stride, padding=self.padding)


class FusedLeakyReLU(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.empty(channels))

    def forward(self, maps: Tensor) -> Tensor:
        return leaky_relu(maps + self.bias[:, None, None], 0.2) * math.sqrt(2)


class Noise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1))


class ModulatedConv(nn.Module):
    def __init__(
        self, before: int, after: int, width: int, latent: int, *, demodulate: bool = True, upsample: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1, after, before, width, width))
        self.modulation = EqualLinear(latent, before)
        self.demodulate = demodulate
        self.blur = Blur(4.0, (1, 1)) if upsample else None

    def forward(self, maps: Tensor, w: Tensor) -> Tensor:
        batch, before, height, width = maps.shape
        _, after, _, taps, _ = self.weight.shape
        weight = self.weight / math.sqrt(before * taps**2) * self.modulation(w).view(batch, 1, before, 1, 1)
        if self.demodulate:
            weight = weight * torch.rsqrt(weight.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8)
        grouped = maps.reshape(1, batch * before, height, width)
        if self.blur is None:
            result = conv2d(grouped, weight.flatten(0, 1), padding=taps // 2, groups=batch)
            return result.view(batch, after, height, width)
        result = conv_transpose2d(grouped, weight.transpose(1, 2).flatten(0, 1), stride=2, groups=batch)
        return self.blur(result.view(batch, after, *result.shape[2:]))


class StyledConv(nn.Module):
    def __init__(self, before: int, after: int, latent: int, *, upsample: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv(before, after, 3, latent, upsample=upsample)
        self.noise = Noise()
        self.activate = FusedLeakyReLU(after)

    def forward(self, maps: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        return self.activate(self.conv(maps, w) + self.noise.weight * noise)


class ToRGB(nn.Module):
    def __init__(self, before: int, latent: int, *, upsample: bool = True) -> None:
        super().__init__()
        self.conv = ModulatedConv(before, 3, 1, latent, demodulate=False)
        self.bias = nn.Parameter(torch.empty(1, 3, 1, 1))
        self.upsample = Blur(4.0, (2, 1), up=2) if upsample else None

    def forward(self, maps: Tensor, w: Tensor, coarser: Tensor | None = None) -> Tensor:
        image = self.conv(maps, w) + self.bias
        return image if coarser is None or self.upsample is None else image + self.upsample(coarser)


class PixelNorm(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return z * torch.rsqrt(z.square().mean(dim=1, keepdim=True) + 1e-8)


class Generator(nn.Module):
    """widths: channels at 4, 8, ... pixels."""

    def __init__(self, widths: list[int], latent: int, depth: int = 8) -> None:
        super().__init__()
        self.style = nn.Sequential(
            PixelNorm(), *(EqualLinear(latent, latent, 0.01, activated=True) for _ in range(depth))
        )
        self.input = nn.Module()
        self.input.input = nn.Parameter(torch.empty(1, widths[0], 4, 4))
        self.conv1 = StyledConv(widths[0], widths[0], latent)
        self.to_rgb1 = ToRGB(widths[0], latent, upsample=False)
        self.convs, self.to_rgbs, self.noises = nn.ModuleList(), nn.ModuleList(), nn.Module()
        self.noises.register_buffer("noise_0", torch.empty(1, 1, 4, 4))
        for level, (before, after) in enumerate(itertools.pairwise(widths)):
            self.convs.append(StyledConv(before, after, latent, upsample=True))
            self.convs.append(StyledConv(after, after, latent))
            self.to_rgbs.append(ToRGB(after, latent))
            for index in (2 * level + 1, 2 * level + 2):
                self.noises.register_buffer(f"noise_{index}", torch.empty(1, 1, 8 << level, 8 << level))

    def forward(self, w: Tensor) -> Tensor:
        noises = list(self.noises.buffers())
        maps = self.conv1(self.input.input.expand(len(w), -1, -1, -1), w, noises[0])
        image = self.to_rgb1(maps, w)
        for level, to_rgb in enumerate(self.to_rgbs):
            maps = self.convs[2 * level](maps, w, noises[2 * level + 1])
            maps = self.convs[2 * level + 1](maps, w, noises[2 * level + 2])
            image = to_rgb(maps, w, image)
        return image


class ResBlock(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(EqualConv(before, before, 3, padding=1), FusedLeakyReLU(before))
        self.conv2 = nn.Sequential(Blur(1.0, (2, 2)), EqualConv(before, after, 3, stride=2), FusedLeakyReLU(after))
        self.skip = nn.Sequential(Blur(1.0, (1, 1)), EqualConv(before, after, 1, stride=2))

    def forward(self, maps: Tensor) -> Tensor:
        return (self.conv2(self.conv1(maps)) + self.skip(maps)) / math.sqrt(2)


class Discriminator(nn.Module):
    """widths: channels at 4, 8, ... pixels."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        fine = widths[::-1]
        self.convs = nn.Sequential(
            nn.Sequential(EqualConv(3, fine[0], 1), FusedLeakyReLU(fine[0])),
            *(ResBlock(before, after) for before, after in itertools.pairwise(fine)),
        )
        self.final_conv = nn.Sequential(EqualConv(widths[0] + 1, widths[0], 3, padding=1), FusedLeakyReLU(widths[0]))
        self.final_linear = nn.Sequential(
            EqualLinear(widths[0] * 16, widths[0], activated=True), EqualLinear(widths[0], 1)
        )

    def features(self, image: Tensor, count: int = 4) -> list[Tensor]:
        outputs, maps = [], self.convs[0](image)
        for block in self.convs[1 : count + 1]:
            maps = block(maps)
            outputs.append(maps)
        return outputs

    def forward(self, image: Tensor) -> Tensor:
        maps = self.convs(image)
        batch, channels, height, width = maps.shape
        group = min(4, batch)
        deviation = maps.view(group, batch // group, channels, height, width)
        deviation = torch.sqrt(deviation.var(dim=0, unbiased=False) + 1e-8).mean(dim=(1, 2, 3))
        deviation = deviation.repeat(group).view(batch, 1, 1, 1).expand(batch, 1, height, width)
        return self.final_linear(self.final_conv(torch.cat((maps, deviation), dim=1)).flatten(1))


def generator_of(state: Mapping[str, Tensor]) -> Generator:
    """The textbook generator with these weights (rosinality layout)."""
    count = sum(name.startswith("to_rgbs.") and name.endswith("conv.weight") for name in state)
    widths = [state["input.input"].shape[1], *(state[f"convs.{2 * i}.conv.weight"].shape[1] for i in range(count))]
    depth = sum(name.startswith("style.") and name.endswith("weight") for name in state)
    net = Generator(widths, len(state["style.1.weight"]), depth)
    net.load_state_dict(dict(state))
    return net


def discriminator_of(state: Mapping[str, Tensor]) -> Discriminator:
    """The textbook discriminator with these weights (rosinality layout)."""
    count = sum(name.endswith("skip.1.weight") for name in state)
    fine = [len(state["convs.0.1.bias"]), *(len(state[f"convs.{i + 1}.conv2.2.bias"]) for i in range(count))]
    net = Discriminator(fine[::-1])
    net.load_state_dict(dict(state))
    return net
