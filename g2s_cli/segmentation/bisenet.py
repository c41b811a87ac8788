"""BiSeNet, the parser of faces: a ResNet-18 seen at three scales, attention on the coarser two, one fusion.

Yu et al. 2018, in the form of the public face parsers, where features of the ResNet stand in for the spatial path.
Names are those of their checkpoints; all widths are multiples of the first layer's. Heads for training are left out.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, relu

from g2s_cli.estimators.networks import load_state, state_mismatch

STEM, LAST = "cp.resnet.conv1.weight", "conv_out.conv_out.weight"
FOR_TRAINING = ("conv_out16.", "conv_out32.")


class BiSeNet(nn.Module):
    """Images to classes: (b 3 h w) to logits (b k h w), at the size of the images, a multiple of 32.

    classes: k, 19 of the public ones. width: of the first layer, 64 of theirs. side: what the authors enlarge faces to.
    """

    side = 512

    def __init__(self, classes: int, width: int = 64) -> None:
        super().__init__()
        self.classes = classes
        self.cp = _Context(width)
        self.ffm = _Fusion(4 * width)
        self.conv_out = _Head(4 * width, classes)

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> BiSeNet:
        """The network a state dict belongs to, with its weights, ready to parse. Raises WeightsError."""
        if not all(name in state and state[name].dim() == 4 and len(state[name]) for name in (STEM, LAST)):
            raise state_mismatch(cls, f"{STEM} or {LAST} is missing")
        kept = {name: tensor for name, tensor in state.items() if not name.startswith(FOR_TRAINING)}
        return load_state(cls, lambda: cls(len(state[LAST]), len(state[STEM])), kept).eval().requires_grad_(False)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k h w"]:
        """Logits for images."""
        logits = self.conv_out(self.ffm(*self.cp(image)))
        return interpolate(logits, image.shape[2:], mode="bilinear", align_corners=True)


class _Layer(nn.Module):
    """Convolution, batch normalisation, ReLU."""

    def __init__(self, before: int, after: int, kernel: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(after)

    def forward(self, maps: Tensor) -> Tensor:
        return relu(self.bn(self.conv(maps)))


class _Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.downsample: nn.Module = nn.Identity()
        if before != after:
            self.downsample = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

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
            nn.Sequential(_Block(one, 2 * one, 2), _Block(2 * one, 2 * one, 1)) for one in (width, 2 * width, 4 * width)
        )

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        eighth = self.layer2(self.layer1(self.maxpool(relu(self.bn1(self.conv1(image))))))
        sixteenth = self.layer3(eighth)
        return eighth, sixteenth, self.layer4(sixteenth)


class _Attention(nn.Module):
    """Features weighted by what is in the whole picture."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv = _Layer(before, after)
        self.conv_atten = nn.Conv2d(after, after, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(after)

    def forward(self, maps: Tensor) -> Tensor:
        inner = self.conv(maps)
        return inner * torch.sigmoid(self.bn_atten(self.conv_atten(_whole(inner))))


class _Context(nn.Module):
    """The ResNet with its coarse features brought back to 1/8."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.resnet = _ResNet18(width)
        self.arm16 = _Attention(4 * width, 2 * width)
        self.arm32 = _Attention(8 * width, 2 * width)
        self.conv_head32 = _Layer(2 * width, 2 * width)
        self.conv_head16 = _Layer(2 * width, 2 * width)
        self.conv_avg = _Layer(8 * width, 2 * width, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        eighth, sixteenth, coarse = self.resnet(image)
        up = interpolate(self.arm32(coarse) + self.conv_avg(_whole(coarse)), sixteenth.shape[2:])
        up = interpolate(self.arm16(sixteenth) + self.conv_head32(up), eighth.shape[2:])
        return eighth, self.conv_head16(up)


class _Fusion(nn.Module):
    """Fine and coarse features in one, each channel weighted by what is in the whole picture."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convblk = _Layer(width, width, 1)
        self.conv1 = nn.Conv2d(width, width // 4, 1, bias=False)
        self.conv2 = nn.Conv2d(width // 4, width, 1, bias=False)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        maps = self.convblk(torch.cat((fine, coarse), dim=1))
        return maps + maps * torch.sigmoid(self.conv2(relu(self.conv1(_whole(maps)))))


class _Head(nn.Module):
    """Features to logits."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.conv = _Layer(width, width)
        self.conv_out = nn.Conv2d(width, classes, 1, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        return self.conv_out(self.conv(maps))


def _whole(maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c 1 1"]:
    """What is in the whole picture, on average."""
    return maps.mean(dim=(2, 3), keepdim=True)
