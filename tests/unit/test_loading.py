"""What is read from files before a run."""

from __future__ import annotations

from pathlib import Path

import made_up
import pytest
import torch

from g2s_cli.loading import Machine, Weights, load_gan


@pytest.mark.parametrize("size", [16, 64, 128])
def test_latents_are_found_by_all_the_discriminator_sees(size: int, tmp_path: Path) -> None:
    (tmp_path / "gan.pt").write_bytes(made_up.saved(made_up.gan(size)))
    gan = load_gan(Weights({}, tmp_path / "gan.pt"), Machine(torch.device("cpu"), torch.float32))
    seen = gan.inversion_distance.features(torch.zeros(1, 3, size, size))
    assert [maps.shape[2] for maps in seen] == [size // 2**block for block in range(1, len(seen) + 1)]
    assert seen[-1].shape[2] == 4
