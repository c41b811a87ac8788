"""Going part of the way back."""

from __future__ import annotations

import pytest
import torch

from g2s_cli.method.fitting import draw_back


@pytest.mark.parametrize(("share", "left"), [(0.0, 3.0), (0.25, 2.5), (1.0, 1.0)])
def test_weights_are_drawn_back_a_share_of_their_way(share: float, left: float) -> None:
    weights = [torch.nn.Parameter(torch.full((2, 2), 3.0)), torch.nn.Parameter(torch.tensor(3.0))]
    draw_back(weights, [torch.ones(2, 2), torch.tensor(1.0)], share)
    assert all((weight == left).all() for weight in weights)
