"""The three networks of MTCNN (Zhang et al. 2016): P-Net proposes boxes, R-Net refines them, O-Net adds landmarks.

Inputs are windows of 12, 24 and 48 pixels a side in [-1, 1]. P-Net is fully convolutional: on a whole image it scores
every window at a stride of two pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

WINDOW_PX = (12, 24, 48)
STRIDE_PX = 2  # between P-Net's windows


class CascadeNet(nn.Module):
    """A frozen trunk with several heads: box offsets, landmarks (O-Net only), and face probability."""

    def __init__(self, trunk: Sequence[nn.Module], heads: Sequence[nn.Module]) -> None:
        super().__init__()
        self.trunk, self.heads = nn.Sequential(*trunk), nn.ModuleList(heads)
        self.requires_grad_(False)

    def forward(self, windows: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Outputs of the heads; the last are the probabilities of (no face, face)."""
        features = self.trunk(windows)
        *outputs, logits = (head(features) for head in self.heads)
        return [*outputs, logits.softmax(dim=1)]

    def load_arrays(self, arrays: Sequence[Tensor]) -> CascadeNet:
        """Copy published weights, in the order of the layers, into the network and return it.

        Args:
            arrays: convolution kernels as (h, w, in, out), dense ones as (in, out), PReLU slopes with axes of length 1.

        Raises:
            ValueError: number or shapes do not match.
        """
        orders = {4: (3, 2, 0, 1), 2: (1, 0)}
        for parameter, array in zip(self.parameters(), arrays, strict=True):
            value = array.permute(orders[array.ndim]) if parameter.ndim > 1 else array.flatten()
            if value.shape != parameter.shape:
                raise ValueError(f"an array is {tuple(array.shape)}, its parameter {tuple(parameter.shape)}")
            parameter.copy_(value)
        return self


class FlattenColumns(nn.Module):
    """Flattens maps in the order columns, rows, channels, which the published dense layers expect."""

    def forward(self, maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n"]:
        """Rows of numbers."""
        return maps.permute(0, 3, 2, 1).flatten(1)


def proposal_net() -> CascadeNet:
    """P-Net: box offsets (b 4 h w) and probabilities (b 2 h w)."""
    trunk = (*_conv(3, 10, 3), _pool(2), *_conv(10, 16, 3), *_conv(16, 32, 3))
    return CascadeNet(trunk, (nn.Conv2d(32, 4, 1), nn.Conv2d(32, 2, 1)))


def refine_net() -> CascadeNet:
    """R-Net: box offsets (b 4) and probabilities (b 2)."""
    trunk = (*_conv(3, 28, 3), _pool(3), *_conv(28, 48, 3), _pool(3), *_conv(48, 64, 2), *_dense(576, 128))
    return CascadeNet(trunk, (nn.Linear(128, 4), nn.Linear(128, 2)))


def output_net() -> CascadeNet:
    """O-Net: box offsets (b 4), landmarks (b 10) and probabilities (b 2).

    Landmarks are five columns, then five rows, in shares of the window.
    """
    convs = (*_conv(3, 32, 3), _pool(3), *_conv(32, 64, 3), _pool(3), *_conv(64, 64, 3), _pool(2), *_conv(64, 128, 2))
    return CascadeNet((*convs, *_dense(1152, 256)), (nn.Linear(256, 4), nn.Linear(256, 10), nn.Linear(256, 2)))


def _conv(inputs: int, outputs: int, kernel: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, kernel), nn.PReLU(outputs)


def _dense(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return FlattenColumns(), nn.Linear(inputs, outputs), nn.PReLU(outputs)


def _pool(size: int) -> nn.Module:
    return nn.MaxPool2d(size, 2, ceil_mode=True)
