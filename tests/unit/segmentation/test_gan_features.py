"""Where the object is."""

from __future__ import annotations

import torch

from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.segmentation.gan_features import Segmenter, _connected_to_rim, fit_segmenter, largest_piece

OBJECT, BACKGROUND = torch.tensor((1.0, 0.0)), torch.tensor((0.0, 1.0))


def drawn(*rows: str) -> torch.Tensor:
    return torch.tensor([[[letter == "#" for letter in row] for row in rows]])


def test_what_hangs_together_with_the_rim() -> None:
    mask = drawn(
        "#..#...",
        "..#....",
        "...#.#.",
        ".#...#.",
        ".#.....",
        ".##..##",
        ".......",
    )
    wanted = drawn(
        "#..#...",
        "..#....",
        "...#...",
        ".......",
        ".......",
        ".....##",
        ".......",
    )
    assert torch.equal(_connected_to_rim(mask), wanted)


def test_a_spiral_is_followed_to_its_end() -> None:
    mask = drawn(
        "#########",
        "........#",
        "#######.#",
        "#.....#.#",
        "#.###.#.#",
        "#.#...#.#",
        "#.#####.#",
        "#.......#",
        "#########",
    )
    assert torch.equal(_connected_to_rim(mask), mask)


def test_islands_are_no_part_of_the_largest_piece() -> None:
    mask = drawn(
        "##....#",
        "##.....",
        "...###.",
        "..#...#",
        "......#",
        "#....#.",
        ".......",
    )
    wanted = drawn(
        ".......",
        ".......",
        "...###.",
        "..#...#",
        "......#",
        ".....#.",
        ".......",
    )
    assert torch.equal(largest_piece(mask[0]), wanted[0])
    assert not largest_piece(mask[0] & False).any()
    assert largest_piece(~(mask[0] & False)).all()


def test_background_enclosed_by_the_object_is_object() -> None:
    background = drawn(
        "#####",
        "#...#",
        "#.#.#",
        "#...#",
        "#####",
    )
    features = torch.where(background.unsqueeze(1), BACKGROUND.view(1, 2, 1, 1), OBJECT.view(1, 2, 1, 1))
    found = Segmenter(torch.stack((OBJECT, BACKGROUND)), background=1).mask(features)
    assert found[0, 1:-1, 1:-1].all()
    assert found.sum() == 9


def test_brightness_of_features_does_not_matter() -> None:
    features = torch.rand(1, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    segmenter = Segmenter(torch.stack((OBJECT, BACKGROUND)), background=1)
    assert torch.equal(segmenter.mask(features), segmenter.mask(10 * features))


@torch.no_grad()
def test_faces_stand_in_the_middle_before_a_background(
    segmenter: Segmenter, generator: Generator, latents: torch.Tensor
) -> None:
    torch.testing.assert_close(segmenter.centroids.norm(dim=1), torch.ones(4))
    mask = segmenter.mask(generator.forward_features(latents)[1])
    assert mask.shape == (2, 64, 64)
    assert not mask[:, :4, :4].any()  # the upper corners
    assert not mask[:, :4, -4:].any()
    assert mask[:, 24:40, 24:40].all()
    assert 0.3 < mask.float().mean() < 0.9


def test_a_category_has_one_parser_whatever_the_seed(generator: Generator) -> None:
    torch.manual_seed(1)
    one = fit_segmenter(generator, images=4)
    torch.manual_seed(2)
    other = fit_segmenter(generator, images=4)
    assert torch.equal(one.centroids, other.centroids)
    assert one.background == other.background
