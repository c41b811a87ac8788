"""The factor networks take the authors' names and shapes, and compute what theirs do.

Weights and inputs are filled by formula, so that only names, shapes and outputs are stored.
"""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from g2s_cli.estimators.gan2shape.offset_encoder import OffsetEncoder
from g2s_cli.estimators.networks import CodeNet, MapNet
from g2s_cli.weights.importers import read_checkpoint

DATA = Path(__file__).parents[1] / "data"
SHAPES: dict[str, dict[str, list[int]]] = json.loads((DATA / "factor_nets_manifest.json").read_text())
READERS = {
    "netD": partial(MapNet.from_state, bounded=False),
    "netA": partial(MapNet.from_state, bounded=True),
    "netV": CodeNet.from_state,
    "netL": CodeNet.from_state,
    "netEnc": OffsetEncoder.from_state,
}
MAPS = [key for key in SHAPES if key.startswith(("netD", "netA"))]
CODES = [key for key in SHAPES if key not in MAPS]


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    with np.load(DATA / "factor_nets_outputs.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays}


def formula_weight(name: str, shape: list[int]) -> Tensor:
    count = math.prod(shape)
    wave = torch.sin(0.37 * torch.arange(count, dtype=torch.float64) + len(name)).view(shape)
    if len(shape) > 1:
        return (wave * math.sqrt(2 / (count / shape[0]))).float()
    return ((1 if name.endswith("weight") else 0) + 0.1 * wave).float()


def formula_images(size: int) -> Tensor:
    index = torch.arange(2 * 3 * size * size, dtype=torch.float64)
    return (torch.sin(0.013 * index) * torch.cos(0.0007 * index)).view(2, 3, size, size).float()


def formula_net(key: str) -> tuple[nn.Module, Tensor]:
    """A network of the manifest and the images it is asked about."""
    name, size = key.split("@")
    net = READERS[name]({parameter: formula_weight(parameter, shape) for parameter, shape in SHAPES[key].items()})
    assert net.size == int(size)
    return net, formula_images(net.size)


def test_every_network_is_there() -> None:
    assert sorted(SHAPES) == sorted(f"{name}@{size}" for name in READERS for size in (64, 128))


@pytest.mark.parametrize("key", CODES)
@torch.no_grad()
def test_codes_and_offsets(golden: dict[str, Tensor], key: str) -> None:
    net, images = formula_net(key)
    # The formula makes them small (5e-5 to 5e-3): the tolerance is a share of the largest.
    scale = golden[key].abs().max().item()
    torch.testing.assert_close(net(images), golden[key], rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize("key", MAPS)
@torch.no_grad()
def test_maps(golden: dict[str, Tensor], key: str) -> None:
    """As near to the golden as float32 lets it be, which float64 tells.

    A sine for a weight makes channels nearly constant, and group normalisation divides by what little varies:
    rounding grows about 1e4-fold. Evaluated in float64 the same network lies 5e-3 (64 px) and 2e-2 (128 px)
    from the golden: that is the golden's own rounding. Another order of summation has an error of that size
    and no relation to it, so three times its root mean square is what any correct float32 network stays
    under, while a wrong slope, group size or activation is 0.04 and more away.
    """
    net, images = formula_net(key)
    ours = net(images)
    rounding = (net.double()(images.double()) - golden[key]).square().mean().sqrt().item()
    assert rounding < 2e-3 * golden[key].abs().max()
    assert (ours - golden[key]).square().mean().sqrt() < 3 * rounding


@pytest.mark.parametrize("size", [64, 128])
def test_a_release_checkpoint_of_these_names_is_imported(tmp_path: Path, size: int) -> None:
    parts = [key for key in SHAPES if key.endswith(f"@{size}")]
    content = {key.split("@")[0]: {name: torch.zeros(shape) for name, shape in SHAPES[key].items()} for key in parts}
    torch.save(content, tmp_path / "pretrain.pth")
    part, tensors = read_checkpoint(tmp_path / "pretrain.pth")
    assert part == "networks"
    assert {name: list(value.shape) for name, value in tensors.items()} == {
        f"{key.split('@')[0]}.{name}": shape for key in parts for name, shape in SHAPES[key].items()
    }
