"""PSPNet, the parser of cars, cats, horses and churches: a dilated ResNet and a pyramid of averages.

Zhao et al. 2017, with the three-layer stem of its public PyTorch training code (semseg), whose names these are. Depth,
classes and width are read off the tensors; all widths are multiples of the first layer's. The head for training is left
out.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, relu

from g2s_cli.estimators.networks import load_state, state_mismatch

BINS = (1, 2, 3, 6)  # the pyramid's cells a side; no tensor tells
WIDEN = 4  # how much wider a block's output is than its inner layers
STEM, LAST = "layer0.0.weight", "cls.4.weight"
FOR_TRAINING = ("aux.",)


class PSPNet(nn.Module):
    """Images to classes: (b 3 h w) to logits (b k h w), at the size of the images, 1 more than a multiple of 8.

    classes: k, 21 of VOC, 150 of ADE20K. blocks: of the four stages, 3 4 6 3 for ResNet-50. width: of the first layer;
    the public ones' is 64. side: what the authors enlarge pictures to.
    """

    side = 473

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
    def from_state(cls, state: Mapping[str, Tensor]) -> PSPNet:
        """The network a state dict belongs to, with its weights, ready to parse. Raises WeightsError."""
        if not all(name in state and state[name].dim() == 4 and len(state[name]) for name in (STEM, LAST)):
            raise state_mismatch(cls, f"{STEM} or {LAST} is missing")
        kept = {name: tensor for name, tensor in state.items() if not name.startswith(FOR_TRAINING)}
        split = [name.split(".") for name in kept]
        blocks = tuple(len({name[1] for name in split if name[0] == f"layer{stage}"}) for stage in (1, 2, 3, 4))
        net = load_state(cls, lambda: cls(len(state[LAST]), blocks, len(state[STEM])), kept)
        return net.eval().requires_grad_(False)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k h w"]:
        """Logits for images."""
        maps = self.layer4(self.layer3(self.layer2(self.layer1(self.layer0(image)))))
        return interpolate(self.cls(self.ppm(maps)), image.shape[2:], mode="bilinear", align_corners=True)


class _Block(nn.Module):
    """A narrow convolution between two of one pixel, beside a shortcut."""

    def __init__(self, before: int, inner: int, stride: int, dilation: int) -> None:
        super().__init__()
        after = WIDEN * inner
        self.conv1 = nn.Conv2d(before, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, after, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(after)
        self.downsample: nn.Module = nn.Identity()
        if before != after:
            self.downsample = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, maps: Tensor) -> Tensor:
        inner = relu(self.bn2(self.conv2(relu(self.bn1(self.conv1(maps))))))
        return relu(self.bn3(self.conv3(inner)) + self.downsample(maps))


class _Pyramid(nn.Module):
    """Features beside their averages over the whole picture, its quarters, ninths and thirty-sixths."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.features = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(cells), *_layer(width, width // len(BINS), 1)) for cells in BINS
        )

    def forward(self, maps: Tensor) -> Tensor:
        size = maps.shape[2:]
        coarse = [interpolate(one(maps), size, mode="bilinear", align_corners=True) for one in self.features]
        return torch.cat((maps, *coarse), dim=1)


def _layer(before: int, after: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(after), nn.ReLU()]


def _stage(before: int, inner: int, count: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    first = _Block(before, inner, stride, dilation)
    return nn.Sequential(first, *(_Block(WIDEN * inner, inner, 1, dilation) for _ in range(count - 1)))
