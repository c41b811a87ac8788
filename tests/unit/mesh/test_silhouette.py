"""A coarse mask on a sharp photo finds the photo's outline."""

from __future__ import annotations

import torch
from torch.nn.functional import interpolate

from g2s_cli.mesh.silhouette import refine_mask

SIZE, COARSE = 256, 64


def scene() -> tuple[torch.Tensor, torch.Tensor]:
    """A reddish disc off the middle on a bluish ground, both with a gradient and noise; and where it is."""
    row, column = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    disc = (row - 133) ** 2 + (column - 117) ** 2 < 81**2
    noise = 0.05 * torch.randn(3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    colours = torch.where(
        disc, torch.tensor((0.4, -0.2, -0.3))[:, None, None], torch.tensor((-0.3, 0.0, 0.4))[:, None, None]
    )
    return (colours + 0.2 * (row / SIZE - 0.5) + noise).clamp(-1, 1), disc


def overlap(mask: torch.Tensor, disc: torch.Tensor) -> float:
    found = mask >= 0.5
    return ((found & disc).sum() / (found | disc).sum()).item()


def test_the_edge_moves_to_where_the_photo_has_it() -> None:
    photo, disc = scene()
    # As a network would give it: hard, at few pixels, and one of them off to the side.
    coarse = (interpolate(disc.float()[None, None], size=(COARSE, COARSE), mode="area")[0, 0] > 0.5).float().roll(1, 1)
    staircase = interpolate(coarse[None, None], size=(SIZE, SIZE), mode="nearest")[0, 0]
    fine = refine_mask(coarse, photo)
    assert fine.shape == (SIZE, SIZE)
    assert 0 <= fine.min() < fine.max() <= 1
    assert overlap(staircase, disc) < 0.965
    assert overlap(fine, disc) > 0.985


def test_where_the_photo_says_nothing_the_mask_stays_about_where_it_was() -> None:
    _, disc = scene()
    coarse = interpolate(disc.float()[None, None], size=(COARSE, COARSE), mode="area")[0, 0]
    assert overlap(refine_mask(coarse, torch.zeros(3, SIZE, SIZE)), disc) > 0.95


def test_a_photo_of_the_mask_s_own_size_has_nothing_to_add() -> None:
    coarse = torch.rand(COARSE, COARSE)
    assert refine_mask(coarse, torch.zeros(3, COARSE, COARSE)) is coarse
