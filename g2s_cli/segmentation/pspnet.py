"""PSPNet (Zhao et al. 2017) for cars, cats, horses and churches: a dilated ResNet and pyramid pooling.

Parameter names and the three-layer stem are those of its public PyTorch code (semseg); the auxiliary head of training
is left out.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, relu

BINS = (1, 2, 3, 6)  # the pyramid's cells a side; not stored in checkpoints
EXPANSION = 4  # of a bottleneck block's output channels


class PSPNet(nn.Module):
    """Images (b 3 h w), whose sides are 1 more than multiples of 8, to logits (b k h w).

    Args:
        classes: k, 21 for VOC, 150 for ADE20K.
        blocks: of the four stages, 3 4 6 3 for ResNet-50.
        width: channels of the first layer, 64 in the public checkpoints; all others are multiples.
    """

    input_size = 473  # input size in pixels, as the authors resize images
    stem, head = "layer0.0.weight", "cls.4.weight"  # weights of the first and the last layer
    auxiliary: tuple[str, ...] = ("aux.",)

    def __init__(self, classes: int, blocks: tuple[int, ...] = (3, 4, 6, 3), width: int = 64) -> None:
        super().__init__()
        self.classes = classes
        self.layer0 = nn.Sequential(
            *_layer(3, width, 3, stride=2),
            *_layer(width, width, 3),
            *_layer(width, 2 * width, 3),
            nn.MaxPool2d(3, 2, 1),
        )
        self.layer1 = _stage(2 * width, width, blocks[0])
        self.layer2 = _stage(4 * width, 2 * width, blocks[1], stride=2)
        self.layer3 = _stage(8 * width, 4 * width, blocks[2], dilation=2)
        self.layer4 = _stage(16 * width, 8 * width, blocks[3], dilation=4)
        self.ppm = _Pyramid(32 * width)
        self.cls = nn.Sequential(*_layer(64 * width, 8 * width, 3), nn.Dropout2d(), nn.Conv2d(8 * width, classes, 1))

    @classmethod
    def sized_for(cls, state: Mapping[str, Tensor]) -> PSPNet:
        """An untrained network with a state dict's sizes."""
        parts = [name.split(".") for name in state]
        blocks = tuple(len({part[1] for part in parts if part[0] == f"layer{stage}"}) for stage in (1, 2, 3, 4))
        return cls(len(state[cls.head]), blocks, len(state[cls.stem]))

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k h w"]:
        """Logits for images."""
        maps = self.layer4(self.layer3(self.layer2(self.layer1(self.layer0(image)))))
        return interpolate(self.cls(self.ppm(maps)), image.shape[2:], mode="bilinear", align_corners=True)


class _Block(nn.Module):
    """A bottleneck residual block."""

    def __init__(self, inputs: int, inner: int, stride: int, dilation: int) -> None:
        super().__init__()
        outputs = EXPANSION * inner
        self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, maps: Tensor) -> Tensor:
        inner = relu(self.bn2(self.conv2(relu(self.bn1(self.conv1(maps))))))
        return relu(self.bn3(self.conv3(inner)) + self.downsample(maps))


class _Pyramid(nn.Module):
    """Pyramid pooling: features concatenated with their averages over grids of several sizes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.features = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(cells), *_layer(width, width // len(BINS), 1)) for cells in BINS
        )

    def forward(self, maps: Tensor) -> Tensor:
        size = maps.shape[2:]
        coarse = [interpolate(branch(maps), size, mode="bilinear", align_corners=True) for branch in self.features]
        return torch.cat((maps, *coarse), dim=1)


def _layer(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]


def _stage(inputs: int, inner: int, count: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    first = _Block(inputs, inner, stride, dilation)
    return nn.Sequential(first, *(_Block(EXPANSION * inner, inner, 1, dilation) for _ in range(count - 1)))
