"""Pairs of image and depth in a file, and batches that hold some of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from g2s_cli.errors import UsageError
from g2s_cli.geometry.rasterizer import VIEW_FAR, has_surface
from g2s_cli.training.pair_file import PairFile, encode_pair_depth, pair_type

SIZE = 16


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Five pairs: a square at a depth that rises with their number."""
    pairs = np.zeros(5, pair_type(SIZE))
    pairs["mask"][:, 4:12, 4:12] = True
    pairs["image"] = 200 * pairs["mask"][..., None]
    for number, depth in enumerate(np.linspace(0.95, 1.05, 5)):
        pairs["depth"][number] = encode_pair_depth(np.where(pairs["mask"][number], depth, VIEW_FAR))
    np.save(tmp_path / "pairs.npy", pairs)
    return tmp_path / "pairs.npy"


def test_what_was_written_is_read(path: Path) -> None:
    pairs = PairFile.open(path, SIZE).pick(np.arange(5))
    inside = pairs.mask[:, 0] > 0
    assert torch.equal(has_surface(pairs.depth), inside)
    assert (pairs.depth[~inside] == VIEW_FAR).all()
    torch.testing.assert_close(pairs.depth[:, 8, 8], torch.linspace(0.95, 1.05, 5), atol=4e-6, rtol=0)
    torch.testing.assert_close(pairs.image[:, 0], (200 / 127.5 - 1) * pairs.mask[:, 0])


def test_draws_depend_on_the_generator_alone(path: Path) -> None:
    file = PairFile.open(path, SIZE)
    draws = [file.draw(8, torch.Generator().manual_seed(seed)).depth for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_other_files_are_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"pairs\.npy has no pairs of 32 px"):
        PairFile.open(path, 32)
    other, empty = tmp_path / "other.npy", tmp_path / "empty.npy"
    np.save(other, np.zeros(3))
    np.save(empty, np.zeros(0, pair_type(SIZE)))
    for wrong in (other, empty):
        with pytest.raises(UsageError, match=f"{wrong.name} has no pairs"):
            PairFile.open(wrong, SIZE)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UsageError, match=r"pairs\.npy cannot be read as pairs"):
        PairFile.open(path, SIZE)
