"""Going part of the way back."""

from __future__ import annotations

import pytest
import torch

from g2s_cli.estimators.optimize import going_back


@pytest.mark.parametrize(("share", "left"), [(0.0, 3.0), (0.25, 2.5), (1.0, 1.0)])
def test_weights_go_back_a_share_of_their_way(share: float, left: float) -> None:
    weights = [torch.nn.Parameter(torch.ones(2, 2)), torch.nn.Parameter(torch.tensor(1.0))]
    with going_back(weights, share), torch.no_grad():
        for weight in weights:
            weight.fill_(3.0)
    assert all((weight == left).all() for weight in weights)
