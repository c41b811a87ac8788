"""BiSeNet (Yu et al. 2018) for face parsing, with the parameter names of the public face-parsing checkpoints.

As there, ResNet-18 features replace the spatial path. The auxiliary heads of training are left out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, relu


class BiSeNet(nn.Module):
    """Images (b 3 h w), whose sides are multiples of 32, to logits (b k h w).

    Args:
        classes: k, 19 in the public checkpoints.
        width: channels of the first layer, 64 in the public checkpoints; all others are multiples.
    """

    input_size = 512  # input size in pixels, as the authors resize faces
    stem, head = "cp.resnet.conv1.weight", "conv_out.conv_out.weight"  # weights of the first and the last layer
    auxiliary: tuple[str, ...] = ("conv_out16.", "conv_out32.")

    def __init__(self, classes: int, width: int = 64) -> None:
        super().__init__()
        self.classes = classes
        self.cp = _Context(width)
        self.ffm = _Fusion(4 * width)
        logits = nn.Conv2d(4 * width, classes, 1, bias=False)
        self.conv_out = nn.Sequential(OrderedDict(conv=_layer(4 * width, 4 * width), conv_out=logits))

    @classmethod
    def sized_for(cls, state: Mapping[str, Tensor]) -> BiSeNet:
        """An untrained network with a state dict's sizes."""
        return cls(len(state[cls.head]), len(state[cls.stem]))

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k h w"]:
        """Logits for images."""
        logits = self.conv_out(self.ffm(*self.cp(image)))
        return interpolate(logits, image.shape[2:], mode="bilinear", align_corners=True)


class _Block(nn.Module):
    """A basic residual block."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, maps: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(relu(self.bn1(self.conv1(maps)))))
        return relu(self.downsample(maps) + inner)


class _ResNet18(nn.Module):
    """Features at 1/8, 1/16 and 1/32 of the image's size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(_Block(width, width, 1), _Block(width, width, 1))
        self.layer2, self.layer3, self.layer4 = (
            nn.Sequential(_Block(w, 2 * w, 2), _Block(2 * w, 2 * w, 1)) for w in (width, 2 * width, 4 * width)
        )

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        eighth = self.layer2(self.layer1(self.maxpool(relu(self.bn1(self.conv1(image))))))
        sixteenth = self.layer3(eighth)
        return eighth, sixteenth, self.layer4(sixteenth)


class _Attention(nn.Module):
    """The attention refinement module: channels weighted by their global average."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = _layer(inputs, outputs)
        self.conv_atten = nn.Conv2d(outputs, outputs, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(outputs)

    def forward(self, maps: Tensor) -> Tensor:
        inner = self.conv(maps)
        return inner * torch.sigmoid(self.bn_atten(self.conv_atten(_global_average(inner))))


class _Context(nn.Module):
    """The context path: coarse features up-sampled to 1/8."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.resnet = _ResNet18(width)
        self.arm16 = _Attention(4 * width, 2 * width)
        self.arm32 = _Attention(8 * width, 2 * width)
        self.conv_head32 = _layer(2 * width, 2 * width)
        self.conv_head16 = _layer(2 * width, 2 * width)
        self.conv_avg = _layer(8 * width, 2 * width, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        eighth, sixteenth, coarse = self.resnet(image)
        up = interpolate(self.arm32(coarse) + self.conv_avg(_global_average(coarse)), sixteenth.shape[2:])
        up = interpolate(self.arm16(sixteenth) + self.conv_head32(up), eighth.shape[2:])
        return eighth, self.conv_head16(up)


class _Fusion(nn.Module):
    """The feature fusion module."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convblk = _layer(width, width, 1)
        self.conv1 = nn.Conv2d(width, width // 4, 1, bias=False)
        self.conv2 = nn.Conv2d(width // 4, width, 1, bias=False)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        maps = self.convblk(torch.cat((fine, coarse), dim=1))
        return maps + maps * torch.sigmoid(self.conv2(relu(self.conv1(_global_average(maps)))))


def _layer(inputs: int, outputs: int, kernel: int = 3) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(OrderedDict(conv=convolution, bn=nn.BatchNorm2d(outputs), relu=nn.ReLU()))


def _global_average(maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c 1 1"]:
    return maps.mean(dim=(2, 3), keepdim=True)
