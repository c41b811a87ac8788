"""Factor analysis of maps with missing values, by expectation and maximisation (Rubin and Thayer 1982)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

ROUNDS = 12
CHUNK = 50  # maps at once
INITIAL_STD = 0.05
RIDGE = 20.0  # of the regression on factors, in maps
CORRELATED_PX = 10  # neighbouring pixels whose errors count as one
# A variance is a mean over maps and this many more of the usual variance: a point that few maps have may vary more.
PRIOR_COUNT = 3
MIN_COUNT, MIN_VARIANCE = 1e-3, 1e-4


@torch.no_grad()
def factor_analysis(
    values: Float[Tensor, "n c h w"], weights: Float[Tensor, "n h w"], count: int, rng: torch.Generator
) -> tuple[Float[Tensor, "c h w"], Float[Tensor, "c h w k"], Float[Tensor, "c h w"]]:
    """The mean, factors and residual variance of maps.

    Args:
        values: the maps.
        weights: 0 where a value is missing.
        count: of factors.
    """
    shape, totals = values.shape[1:], weights.sum(dim=0)
    counts = totals.clamp(min=1)
    mean = (values * weights.unsqueeze(1)).sum(dim=0) / counts
    variance = shrunk_variance(((values - mean).square() * weights.unsqueeze(1)).sum(dim=0), totals)
    basis = INITIAL_STD * torch.randn(mean.numel(), count, generator=rng).to(values.device)
    identity = torch.eye(count, device=values.device)
    weights = weights.unsqueeze(1).expand_as(values).flatten(1)
    for _ in range(ROUNDS):
        centred = (values - mean).flatten(1)
        amounts, products = [], []
        for some, known in zip(centred.split(CHUNK), weights.split(CHUNK), strict=True):
            precision = known / variance.flatten() / CORRELATED_PX
            covariance = torch.linalg.inv((precision.unsqueeze(-1) * basis).mT @ basis + identity)
            amount = torch.einsum("nkl,nl->nk", covariance, (precision * some) @ basis)
            amounts.append(amount)
            products.append(covariance + amount[:, :, None] * amount[:, None])
        amount, product = torch.cat(amounts), torch.cat(products)
        curvature = (weights.T @ product.flatten(1)).view(-1, count, count) + RIDGE * identity
        basis = torch.linalg.solve(curvature, ((weights * centred).T @ amount).unsqueeze(-1))[..., 0]
        residual = centred - amount @ basis.T
        variance = shrunk_variance((residual * weights * residual).sum(dim=0).view(shape), totals)
        mean = mean + (residual * weights).sum(dim=0).view(shape) / counts
    return mean, basis.view(*shape, count), variance


def shrunk_variance(squares: Float[Tensor, "c h w"], counts: Float[Tensor, "h w"]) -> Float[Tensor, "c h w"]:
    """Variances of points, drawn to the usual one, from sums of squares of `counts` maps."""
    usual = squares.sum(dim=(1, 2), keepdim=True) / counts.sum()
    return (squares + PRIOR_COUNT * usual) / counts.clamp(min=MIN_COUNT) + MIN_VARIANCE
