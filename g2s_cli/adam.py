"""Adam for the few tensors of an inversion or a fit.

`torch.optim` imports torch's compiler with its first optimiser, which takes longer than the fit of a photo.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

EPSILON = 1e-8


class Adam:
    """Adam (Kingma and Ba, ICLR 2015), as `torch.optim.Adam` computes it.

    Args:
        rates: learning rates of leaf tensors that require gradients.
        betas: decay of the means of gradients and of their squares.
    """

    def __init__(self, rates: Mapping[Tensor, float], betas: tuple[float, float] = (0.9, 0.999)) -> None:
        self.parameters, self.rates, self.betas, self.steps = list(rates), list(rates.values()), betas, 0
        self._means = [torch.zeros_like(parameter) for parameter in self.parameters]
        self._squares = [torch.zeros_like(parameter) for parameter in self.parameters]

    @torch.no_grad()
    def step(self, loss: Tensor, factor: float = 1.0) -> None:
        """Change the parameters along the gradients of a loss. factor: of the learning rates."""
        gradients = torch.autograd.grad(loss, self.parameters)
        self.steps += 1
        bias, square_bias = (1 - beta**self.steps for beta in self.betas)
        state = zip(self.parameters, gradients, self._means, self._squares, self.rates, strict=True)
        for parameter, gradient, mean, square, rate in state:
            mean.lerp_(gradient, 1 - self.betas[0])
            square.mul_(self.betas[1]).addcmul_(gradient, gradient, value=1 - self.betas[1])
            deviation = (square.sqrt() / square_bias**0.5).add_(EPSILON)
            parameter.addcdiv_(mean, deviation, value=-rate * factor / bias)
