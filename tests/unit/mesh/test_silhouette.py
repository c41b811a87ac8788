"""Refinement of coarse masks to the edges of a photo."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from g2s_cli.mesh.silhouette import refine_mask

SIZE, COARSE = 256, 64
ROW, COLUMN = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
DISC = (ROW - 133) ** 2 + (COLUMN - 117) ** 2 < 81**2
MASK = interpolate(DISC.float()[None, None], size=(COARSE, COARSE), mode="area")[0, 0]


def iou(mask: Tensor) -> float:
    found = mask >= 0.5
    return ((found & DISC).sum() / (found | DISC).sum()).item()


def test_the_edge_moves_to_the_photos_edge() -> None:
    noise = 0.05 * torch.randn(3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    reddish, bluish = (torch.tensor(colour)[:, None, None] for colour in ((0.4, -0.2, -0.3), (-0.3, 0.0, 0.4)))
    photo = (torch.where(DISC, reddish, bluish) + 0.2 * (ROW / SIZE - 0.5) + noise).clamp(-1, 1)
    coarse = (MASK > 0.5).float().roll(1, 1)  # a hard mask, a pixel off
    refined = refine_mask(coarse, photo)
    assert refined.shape == (SIZE, SIZE)
    assert 0 <= refined.min() < refined.max() <= 1
    assert iou(interpolate(coarse[None, None], size=(SIZE, SIZE), mode="nearest")[0, 0]) < 0.965
    assert iou(refined) > 0.985


def test_a_photo_without_edges_leaves_the_mask_about_where_it_was() -> None:
    assert iou(refine_mask(MASK, torch.zeros(3, SIZE, SIZE))) > 0.95


def test_a_photo_of_the_masks_size_leaves_the_mask() -> None:
    assert refine_mask(MASK, torch.zeros(3, COARSE, COARSE)) is MASK
