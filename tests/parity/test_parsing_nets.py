"""The parsing networks take the authors' names and shapes, and compute what theirs do.

Weights and pictures are filled by formula, at the authors' widths, so that only names, shapes and outputs are stored:
those of the authors' own code, every fourth pixel both ways.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from g2s_cli.segmentation.parsing_net import parsing_net

DATA = Path(__file__).parents[1] / "data"
SHAPES: dict[str, dict[str, list[int]]] = json.loads((DATA / "parsing_nets_manifest.json").read_text())
SIZES = {"bisenet": 64, "pspnet": 57}
EVERY = 4


def scattered(count: int, seed: int) -> Tensor:
    """Numbers in [-1, 1) without a pattern, of whole-number arithmetic: the same on every machine."""
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


def formula_state(key: str) -> dict[str, Tensor]:
    return {name: formula_tensor(name, shape) for name, shape in SHAPES[key].items()}


def formula_image(size: int) -> Tensor:
    return scattered(3 * size * size, 0).view(1, 3, size, size)


@pytest.fixture(scope="module", params=list(SIZES))
def key(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def asked(key: str) -> Callable[[Tensor], Tensor]:
    return parsing_net(formula_state(key))


@torch.no_grad()
def test_logits(key: str, asked: Callable[[Tensor], Tensor]) -> None:
    with np.load(DATA / "parsing_nets_outputs.npz") as arrays:
        golden = torch.from_numpy(arrays[key])
    ours = asked(formula_image(SIZES[key]))[0, :, ::EVERY, ::EVERY]
    assert golden.std() > 0.05
    assert len(golden.argmax(dim=0).unique()) > 2
    torch.testing.assert_close(ours, golden, rtol=0, atol=1e-4 * golden.abs().max().item())
