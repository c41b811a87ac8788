"""The parsing networks have the names, shapes and outputs of the authors' code.

Weights and images are computed by formula at the authors' widths, so only names, shapes and outputs are stored, at
every fourth pixel.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from g2s_cli.segmentation.parsing_net import parsing_net

DATA = Path(__file__).parents[1] / "data"
SHAPES: dict[str, dict[str, list[int]]] = json.loads((DATA / "parsing_nets_manifest.json").read_text())
SIZES = {"bisenet": 64, "pspnet": 57}
STRIDE = 4


def scattered(count: int, seed: int) -> Tensor:
    """Pseudo-random numbers in [-1, 1) by integer arithmetic, the same on every machine."""
    bits = np.arange(count, dtype=np.uint32) + np.uint32(seed * 0x9E3779B1 % 2**32)
    for factor in (0x7FEB352D, 0x846CA68B):
        bits = (bits ^ (bits >> np.uint32(16))) * np.uint32(factor)
    return torch.from_numpy((bits ^ (bits >> np.uint32(16))).astype(np.float32) / 2**31 - 1)


def formula_tensor(name: str, shape: list[int]) -> Tensor:
    if not shape:
        return torch.tensor(0)  # num_batches_tracked
    values = scattered(math.prod(shape), len(name)).view(shape)
    if len(shape) > 1:
        return values * math.sqrt(3 / math.prod(shape[1:]))
    return 0.2 * values + (1 if name.endswith(("weight", "running_var")) else 0)


@torch.no_grad()
@pytest.mark.parametrize("name", SIZES)
def test_logits(name: str) -> None:
    with np.load(DATA / "parsing_nets_outputs.npz") as arrays:
        expected = torch.from_numpy(arrays[name])
    net = parsing_net({key: formula_tensor(key, shape) for key, shape in SHAPES[name].items()})
    logits = net(scattered(3 * SIZES[name] ** 2, 0).view(1, 3, SIZES[name], SIZES[name]))[0, :, ::STRIDE, ::STRIDE]
    assert expected.std() > 0.05
    assert len(expected.argmax(dim=0).unique()) > 2
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4 * expected.abs().max().item())
