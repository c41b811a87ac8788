"""The factor networks: depth, albedo, view and light (paper tables 5 and 6).

Layers stand in one `network` sequence, in the authors' order, so that their checkpoints load by name. All
sizes follow from the image size (a power of two, 16 or more) and the width of the first layer; the
`from_state` constructors read both off a checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from jaxtyping import Float
from torch import Tensor, nn

from g2s_cli.errors import WeightsError
from g2s_cli.gan.state_dict import load_state, state_mismatch

CHANNELS_A_GROUP = 4
TOP_OF_CODE = 512  # channels of the last 4x4 layer of V and L, whatever their width

Net = TypeVar("Net", bound=nn.Module)


def default_width(size: int) -> int:
    """The authors' width of the first layer for a working size in pixels."""
    return max(4096 // size, 16)


def halvings(size: int) -> int:
    """How many stride-2 layers bring `size` pixels down to 4."""
    return size.bit_length() - 3


class MapNet(nn.Module):
    """Image to image through a bottleneck (table 6): the depth head D (1 channel) and the albedo head A (3).

    Forward: images (b 3 s s) in [-1, 1] to maps (b c s s). With `bounded` the output passes a tanh, as A's
    does; D's is raw (see `estimators.factor_codes`).
    """

    def __init__(self, size: int, channels: int, width: int, bottleneck: int = 256, *, bounded: bool) -> None:
        super().__init__()
        self.size = size
        widths = [width * 2**level for level in range(halvings(size))]
        lower, top = widths[:-1], widths[-1]
        layers: list[nn.Module] = []
        before = 3
        for after in lower:
            layers += _block(nn.Conv2d(before, after, 4, 2, 1, bias=False), after, nn.LeakyReLU(0.2))
            before = after
        layers += [nn.Conv2d(before, top, 4, 2, 1, bias=False), nn.LeakyReLU(0.2)]
        layers += [nn.Conv2d(top, bottleneck, 4, 1, 0, bias=False), nn.ReLU()]
        layers += [nn.ConvTranspose2d(bottleneck, top, 4, 1, 0, bias=False), nn.ReLU()]
        layers += [nn.Conv2d(top, top, 3, 1, 1, bias=False), nn.ReLU()]
        before = top
        for after in reversed(lower):
            layers += _block(nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False), after, nn.ReLU())
            layers += _block(nn.Conv2d(after, after, 3, 1, 1, bias=False), after, nn.ReLU())
            before = after
        layers.append(nn.Upsample(scale_factor=2, mode="nearest"))
        layers += _block(nn.Conv2d(width, width, 3, 1, 1, bias=False), width, nn.ReLU())
        layers += _block(nn.Conv2d(width, width, 5, 1, 2, bias=False), width, nn.ReLU())
        layers.append(nn.Conv2d(width, channels, 5, 1, 2, bias=False))
        if bounded:
            layers.append(nn.Tanh())
        self.network = nn.Sequential(*layers)

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor], *, bounded: bool) -> MapNet:
        """The network a state dict belongs to, with its weights. Raises WeightsError."""
        weights = _kernels(state)
        levels = (sum(weight.shape[2] == 4 for weight in weights) - 1) // 2
        width = len(weights[0])
        if levels < 2 or width % CHANNELS_A_GROUP:
            raise state_mismatch(cls, f"{levels} levels from a width of {width}")
        top = len(weights[levels])
        return load_state(cls, lambda: cls(2 ** (levels + 2), len(weights[-1]), width, top, bounded=bounded), state)

    def forward(self, image: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b c s s"]:
        """Maps for images."""
        return self.network(image)


class CodeNet(nn.Module):
    """Image to a few numbers in (-1, 1) (table 5): the view head V (6) and the light head L (4).

    Forward: images (b 3 s s) in [-1, 1] to codes (b c); `estimators.factor_codes` scales them to scene units.
    """

    def __init__(self, size: int, channels: int, width: int) -> None:
        super().__init__()
        self.size = size
        layers: list[nn.Module] = []
        before = 3
        for after in [width * 2**level for level in range(halvings(size))]:
            layers += [nn.Conv2d(before, after, 4, 2, 1, bias=False), nn.ReLU()]
            before = after
        layers += [nn.Conv2d(before, TOP_OF_CODE, 4, 1, 0, bias=False), nn.ReLU()]
        layers += [nn.Conv2d(TOP_OF_CODE, channels, 1, bias=False), nn.Tanh()]
        self.network = nn.Sequential(*layers)

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> CodeNet:
        """The network a state dict belongs to, with its weights. Raises WeightsError."""
        weights = _kernels(state)
        levels = sum(weight.shape[2] == 4 for weight in weights) - 1
        return load_state(cls, lambda: cls(2 ** (levels + 2), len(weights[-1]), len(weights[0])), state)

    def forward(self, image: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b c"]:
        """Codes for images."""
        return self.network(image).flatten(1)


def _block(layer: nn.Module, channels: int, activation: nn.Module) -> list[nn.Module]:
    return [layer, nn.GroupNorm(channels // CHANNELS_A_GROUP, channels), activation]


def _kernels(state: Mapping[str, Tensor]) -> list[Tensor]:
    """Convolution weights of a `network.N.weight` state dict, in the order of the layers."""
    numbered = {
        int(name.split(".")[1]): weight
        for name, weight in state.items()
        if name.startswith("network.") and weight.ndim == 4
    }
    if len(numbered) < 4:
        raise WeightsError(
            "These tensors are not a factor network's: no sequence of network.N.weight kernels.",
            "Name a checkpoint with the authors' layers.",
        )
    return [numbered[index] for index in sorted(numbered)]
