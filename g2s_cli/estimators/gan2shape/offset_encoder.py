"""The offset encoder E of step 2 (paper tables 7 and 8): an image to a latent offset."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, relu

from g2s_cli.estimators.networks import halvings
from g2s_cli.gan.state_dict import load_state, state_mismatch


class ResBlock(nn.Module):
    """A residual block that halves the picture (table 8)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, 2, 1, bias=False)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.conv_sc = nn.Conv2d(before, after, 1)

    def forward(self, maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        """Residual path plus identity path."""
        maps = relu(maps)
        return self.conv2(relu(self.conv1(maps))) + self.conv_sc(avg_pool2d(maps, 2))


class OffsetEncoder(nn.Module):
    """E: images (b 3 s s) in [-1, 1] to vectors (b d), offsets before the mapping layers F_1 (Eq. 7)."""

    def __init__(self, size: int, latent_size: int, width: int = 32, code: int | None = None) -> None:
        super().__init__()
        self.size, self.latent_size = size, latent_size
        blocks = halvings(size) - 1
        widths = [width * 2**level for level in range(blocks + 1)]
        top = widths[-1]
        code = 2 * top if code is None else code
        self.network = nn.Sequential(
            nn.Conv2d(3, width, 4, 2, 1, bias=False),
            *(ResBlock(before, after) for before, after in itertools.pairwise(widths)),
            nn.ReLU(),
            nn.Conv2d(top, code, 4, 1, 0, bias=False),
            nn.ReLU(),
            nn.Conv2d(code, latent_size, 1, bias=False),
        )

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> OffsetEncoder:
        """The network a state dict belongs to, with its weights. Raises WeightsError."""
        blocks = sum(name.endswith("conv1.weight") for name in state)
        try:
            width, code, latent_size = (len(state[f"network.{n}.weight"]) for n in (0, blocks + 2, blocks + 4))
        except KeyError as error:
            raise state_mismatch(cls, f"{error.args[0]} is missing") from error
        return load_state(cls, lambda: cls(2 ** (blocks + 3), latent_size, width, code), state)

    def forward(self, image: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b d"]:
        """Offsets for images."""
        return self.network(image).flatten(1)
