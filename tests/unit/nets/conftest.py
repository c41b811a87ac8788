"""The textbook StyleGAN2 of benchmarks/, and a small one with made-up weights."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

TEXTBOOK = Path(__file__).parents[3] / "benchmarks" / "textbook_stylegan2.py"
WIDTHS = [7, 5, 3]  # at 4, 8 and 16 pixels
LATENT = 6
DEPTH = 3


def made_up_state(net: nn.Module) -> dict[str, Tensor]:
    """Its state with every parameter and noise drawn; blur filters are left."""
    rng = torch.Generator().manual_seed(3)
    state = net.state_dict()
    return {
        name: value if name.endswith("kernel") else torch.randn(value.shape, generator=rng)
        for name, value in state.items()
    }


@pytest.fixture(scope="session")
def textbook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("textbook_stylegan2", TEXTBOOK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def generator_state(textbook: ModuleType) -> dict[str, Tensor]:
    state = made_up_state(textbook.Generator(WIDTHS, LATENT, DEPTH))
    return {name: 100 * value if name.startswith("style.") else value for name, value in state.items()}


@pytest.fixture(scope="session")
def discriminator_state(textbook: ModuleType) -> dict[str, Tensor]:
    return made_up_state(textbook.Discriminator(WIDTHS))
