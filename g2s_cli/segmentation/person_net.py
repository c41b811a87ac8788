"""Person segmentation: a MobileNetV3 encoder (Howard et al. 2019), LR-ASPP and three decoder stages, 0.1 M parameters.

The architecture is that of MediaPipe's selfie segmentation with batch normalisation folded into the convolutions; its
published weights are where our training starts (docs/experiments/segmentation-network.md).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import hardswish, interpolate, pad, relu

from g2s_cli.gan.state_dict import load_state

INPUT_SIZE = 256  # pixels a side; a multiple of 16

# Of each inverted residual: input, expanded and output channels, kernel, stride, channels of its squeeze (0: none).
BLOCKS = (
    (16, 16, 16, 3, 2, 8),
    (16, 72, 24, 3, 2, 0),
    (24, 88, 24, 3, 1, 0),
    (24, 96, 32, 5, 2, 24),
    (32, 128, 32, 5, 1, 32),
    (32, 128, 32, 5, 1, 32),
    (32, 96, 32, 5, 1, 24),
    (32, 96, 32, 5, 1, 24),
)
HARDSWISH_FROM = 3  # the first block with hard swish instead of ReLU
SKIPS = (0, 2)  # blocks whose outputs the decoder takes, beside the stem's
HEAD = 128
DECODER = ((128, 24), (24, 16), (16, 16))  # channels of a stage's input and of its skip and output


class PersonNet(nn.Module):
    """Images in [-1, 1] (b 3 s s) to logits of "person" (b s s); s is a multiple of 16."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2)
        self.blocks = nn.ModuleList(
            _InvertedResidual(*sizes, smooth=k >= HARDSWISH_FROM) for k, sizes in enumerate(BLOCKS)
        )
        self.head, self.head_gate = nn.Conv2d(32, HEAD, 1), nn.Conv2d(32, HEAD, 1)
        self.decoder = nn.ModuleList(_DecoderStage(*sizes) for sizes in DECODER)
        self.logits = nn.ConvTranspose2d(DECODER[-1][1], 1, 2, 2)

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> PersonNet:
        """The frozen network of a state dict. Raises WeightsError for other names or shapes."""
        return (
            load_state(cls, cls, {name: tensor.float() for name, tensor in state.items()}).eval().requires_grad_(False)
        )

    def forward(self, image: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b s s"]:
        """Logits for images."""
        maps = hardswish(self.stem(_same(image / 2 + 0.5, 3, 2)))
        skips = [maps]
        for number, block in enumerate(self.blocks):
            maps = block(maps)
            if number in SKIPS:
                skips.append(maps)
        maps = relu(self.head(maps)) * torch.sigmoid(self.head_gate(_global_average(maps)))
        for stage in self.decoder:
            maps = stage(maps, skips.pop())
        return self.logits(maps)[:, 0]


class _Gate(nn.Module):
    """Squeeze and excitation: weights in (0, 1) from the maps' global averages."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)

    def forward(self, maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c 1 1"]:
        return torch.sigmoid(self.expand(relu(self.reduce(_global_average(maps)))))


class _InvertedResidual(nn.Module):
    """Expand, filter each channel, gate, project."""

    def __init__(
        self, inputs: int, expanded: int, outputs: int, kernel: int, stride: int, squeezed: int, *, smooth: bool
    ) -> None:
        super().__init__()
        self.expand = nn.Conv2d(inputs, expanded, 1)
        self.filter = nn.Conv2d(expanded, expanded, kernel, stride, groups=expanded)
        self.gate = _Gate(expanded, squeezed) if squeezed else None
        self.project = nn.Conv2d(expanded, outputs, 1)
        self.activation = hardswish if smooth else relu
        self.residual = inputs == outputs and stride == 1

    def forward(self, maps: Tensor) -> Tensor:
        (kernel, _), (stride, _) = self.filter.kernel_size, self.filter.stride
        inner = self.activation(self.filter(_same(self.activation(self.expand(maps)), kernel, stride)))
        if self.gate is not None:
            inner = inner * self.gate(inner)
        return self.project(inner) + maps if self.residual else self.project(inner)


class _DecoderStage(nn.Module):
    """Twice the resolution, with gated features of the encoder."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(inputs, outputs, 1)
        self.gate = _Gate(outputs, outputs)
        self.mix = nn.Conv2d(outputs, outputs, 1)
        self.filter = nn.Conv2d(outputs, outputs, 3, padding=1, groups=outputs)

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        maps = self.reduce(interpolate(coarse, scale_factor=2.0, mode="bilinear", align_corners=False))
        maps = relu(self.mix(skip * self.gate(skip + maps) + maps))
        return maps + relu(self.filter(maps))


def _same(maps: Tensor, kernel: int, stride: int) -> Tensor:
    """TensorFlow's "SAME" padding of even sizes: an odd margin is larger on the right and below."""
    margin = kernel - stride
    return pad(maps, (margin // 2, margin - margin // 2) * 2)


def _global_average(maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c 1 1"]:
    return maps.mean(dim=(2, 3), keepdim=True)
