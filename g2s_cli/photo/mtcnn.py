"""The three networks of MTCNN (Zhang et al., 2016): each looks closer at what the one before let through.

They read windows of 12, 24 and 48 pixels a side in [-1, 1] and say how the window is to be moved so that it becomes
the box of a face, whether there is one at all, and, the last of them, where its five points are. The first one is
convolutional: on a whole picture it answers for every window at steps of two pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

WINDOW_PX = (12, 24, 48)
STRIDE_PX = 2  # between the windows of the first network


class Look(nn.Module):
    """One network: a trunk, and answers (`heads`) read off its end.

    Its numbers come in the order in which the layers stand here. Nothing is trained.
    """

    def __init__(self, trunk: Sequence[nn.Module], heads: Sequence[nn.Module]) -> None:
        super().__init__()
        self.trunk, self.heads = nn.Sequential(*trunk), nn.ModuleList(heads)
        self.requires_grad_(False)

    def forward(self, windows: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """What every head says; the last one in probabilities (no face, face)."""
        seen = self.trunk(windows)
        *answers, face = (head(seen) for head in self.heads)
        return [*answers, face.softmax(dim=1)]

    def take(self, arrays: Sequence[Tensor]) -> Look:
        """The network with published numbers, kernels as (h, w, in, out). Raises ValueError if they do not fit."""
        for own, array in zip(self.parameters(), arrays, strict=True):
            orders = {4: (3, 2, 0, 1), 2: (1, 0)}
            # What is shared over a picture, PReLU's slopes, comes with axes of length one.
            turned = array.permute(orders[array.ndim]) if own.ndim > 1 else array.flatten()
            if turned.shape != own.shape:
                raise ValueError(f"{tuple(array.shape)} where {tuple(own.shape)} belongs")
            own.copy_(turned)
        return self


class ColumnsFirst(nn.Module):
    """Flattens maps column by column, as the published numbers expect."""

    def forward(self, maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n"]:
        """Columns, rows, channels."""
        return maps.permute(0, 3, 2, 1).flatten(1)


def proposing() -> Look:
    """The first network: box (b 4 h w) and face (b 2 h w)."""
    trunk = (*_layer(nn.Conv2d(3, 10, 3)), _pool(2), *_layer(nn.Conv2d(10, 16, 3)), *_layer(nn.Conv2d(16, 32, 3)))
    return Look(trunk, (nn.Conv2d(32, 4, 1), nn.Conv2d(32, 2, 1)))


def refining() -> Look:
    """The second network: box (b 4) and face (b 2)."""
    trunk = (
        *(*_layer(nn.Conv2d(3, 28, 3)), _pool(3)),
        *(*_layer(nn.Conv2d(28, 48, 3)), _pool(3)),
        *_layer(nn.Conv2d(48, 64, 2)),
        *(ColumnsFirst(), *_layer(nn.Linear(576, 128))),
    )
    return Look(trunk, (nn.Linear(128, 4), nn.Linear(128, 2)))


def locating() -> Look:
    """The third network: box (b 4), points (b 10) and face (b 2).

    Points are five columns, then five rows, in shares of the window.
    """
    trunk = (
        *(*_layer(nn.Conv2d(3, 32, 3)), _pool(3)),
        *(*_layer(nn.Conv2d(32, 64, 3)), _pool(3)),
        *(*_layer(nn.Conv2d(64, 64, 3)), _pool(2)),
        *_layer(nn.Conv2d(64, 128, 2)),
        *(ColumnsFirst(), *_layer(nn.Linear(1152, 256))),
    )
    return Look(trunk, (nn.Linear(256, 4), nn.Linear(256, 10), nn.Linear(256, 2)))


def _layer(layer: nn.Conv2d | nn.Linear) -> tuple[nn.Module, nn.Module]:
    """A layer and its PReLU."""
    outside = layer.out_channels if isinstance(layer, nn.Conv2d) else layer.out_features
    return layer, nn.PReLU(outside)


def _pool(size: int) -> nn.Module:
    return nn.MaxPool2d(size, 2, ceil_mode=True)
