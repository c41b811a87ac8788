"""Connectivity of masks, and the segmenter of the GAN's features."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import max_pool2d

from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.segmentation.gan_features import (
    Segmenter,
    connected_to_rim,
    fit_segmenter,
    largest_component,
    spread_maxima,
)

OBJECT, BACKGROUND = torch.tensor((1.0, 0.0)), torch.tensor((0.0, 1.0))


def drawn(text: str) -> torch.Tensor:
    """A mask (1 h w) of rows separated by spaces, # is inside."""
    return torch.tensor([[[letter == "#" for letter in row] for row in text.split()]])


def test_parts_connected_to_the_rim() -> None:
    mask = drawn("#..#... ..#.... ...#.#. .#...#. .#..... .##..## .......")
    connected = drawn("#..#... ..#.... ...#... ....... ....... .....## .......")
    assert torch.equal(connected_to_rim(mask), connected)


def test_a_spiral_is_connected_to_its_end() -> None:
    spiral = drawn("######### ........# #######.# #.....#.# #.###.#.# #.#...#.# #.#####.# #.......# #########")
    assert torch.equal(connected_to_rim(spiral), spiral)


@given(seed=st.integers(0, 1000), share=st.floats(0.2, 0.8))
def test_each_component_takes_its_maximum(seed: int, share: float) -> None:
    rng = torch.Generator().manual_seed(seed)
    inside = (torch.rand(2, 1, 13, 13, generator=rng) < share).float()
    values = torch.rand(2, 1, 13, 13, generator=rng) * inside
    expected = values
    for _ in range(13 * 13):  # pixel by pixel
        expected = max_pool2d(expected, 3, 1, 1) * inside
    assert torch.equal(spread_maxima(values, inside), expected)


def test_the_largest_component_of_a_mask() -> None:
    mask = drawn("##....# ##..... ...###. ..#...# ......# #....#. .......")[0]
    largest = drawn("....... ....... ...###. ..#...# ......# .....#. .......")[0]
    assert torch.equal(largest_component(mask), largest)
    assert not largest_component(mask & False).any()
    assert largest_component(mask | True).all()


def test_background_enclosed_by_the_object_is_object() -> None:
    background = drawn("##### #...# #.#.# #...# #####")
    features = torch.where(background.unsqueeze(1), BACKGROUND.view(1, 2, 1, 1), OBJECT.view(1, 2, 1, 1))
    mask = Segmenter(torch.stack((OBJECT, BACKGROUND)), background=1).mask(features)
    assert mask[0, 1:-1, 1:-1].all()
    assert mask.sum() == 9


def test_the_norm_of_features_does_not_matter() -> None:
    features = torch.rand(1, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    segmenter = Segmenter(torch.stack((OBJECT, BACKGROUND)), background=1)
    assert torch.equal(segmenter.mask(features), segmenter.mask(10 * features))


@torch.no_grad()
def test_faces_are_separated_from_the_background(
    segmenter: Segmenter, generator: Generator, latents: torch.Tensor
) -> None:
    torch.testing.assert_close(segmenter.centroids.norm(dim=1), torch.ones(4))
    mask = segmenter.mask(generator.forward_features(latents)[1])
    assert mask.shape == (2, 64, 64)
    assert not mask[:, :4, :4].any()  # the upper corners
    assert not mask[:, :4, -4:].any()
    assert mask[:, 24:40, 24:40].all()
    assert 0.3 < mask.float().mean() < 0.9


def test_the_segmenter_does_not_depend_on_the_seed(generator: Generator) -> None:
    torch.manual_seed(1)
    one = fit_segmenter(generator, images=4)
    torch.manual_seed(2)
    other = fit_segmenter(generator, images=4)
    assert torch.equal(one.centroids, other.centroids)
    assert one.background == other.background
