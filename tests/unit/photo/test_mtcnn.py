"""The detector's networks: windows in, answers out, published numbers in the published order."""

from __future__ import annotations

import pytest
import torch

from g2s_cli.photo.mtcnn import ColumnsFirst, locating, proposing, refining


def test_one_window_is_one_answer() -> None:
    shapes = [[tuple(answer.shape) for answer in make()(torch.zeros(2, 3, size, size))]
              for make, size in ((proposing, 12), (refining, 24), (locating, 48))]  # fmt: skip
    assert shapes == [[(2, 4, 1, 1), (2, 2, 1, 1)], [(2, 4), (2, 2)], [(2, 4), (2, 10), (2, 2)]]


def test_the_first_network_answers_for_every_window_of_a_picture() -> None:
    torch.manual_seed(0)
    network, picture = proposing(), torch.randn(1, 3, 30, 40)
    moves, face = network(picture)
    assert face.shape == (1, 2, 10, 15)
    alone = network(picture[..., 8:20, 14:26])
    assert torch.allclose(moves[..., 4, 7], alone[0][..., 0, 0], atol=1e-5)
    assert torch.allclose(face[..., 4, 7], alone[1][..., 0, 0], atol=1e-5)


def test_numbers_are_taken_in_their_order_and_turned() -> None:
    network = refining()
    arrays = []
    for parameter in network.parameters():
        orders = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}
        arrays.append(torch.randn(parameter.shape).permute(orders[parameter.ndim]))
    network.take(arrays)
    first, *_, last, _ = network.parameters()
    assert torch.equal(first, arrays[0].permute(3, 2, 0, 1))
    assert torch.equal(last, arrays[-2].T)


def test_numbers_that_do_not_fit_are_refused() -> None:
    arrays = [torch.zeros(parameter.shape) for parameter in refining().parameters()]
    with pytest.raises(ValueError, match="belongs"):
        refining().take([torch.zeros(5, 5, 3, 28), *arrays[1:]])
    with pytest.raises(ValueError):
        refining().take(arrays[:3])


def test_maps_are_flattened_column_by_column() -> None:
    maps = torch.arange(2 * 2 * 3).view(1, 2, 2, 3).float()  # two channels, two rows, three columns
    assert ColumnsFirst()(maps)[0, :4].tolist() == [0, 6, 3, 9]
