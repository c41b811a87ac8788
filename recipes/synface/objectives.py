"""What a GAN is trained with: the non-saturating logistic loss, R1, and path lengths (Karras et al. 2020)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

Network = Callable[[Tensor], Tensor]


def generator_loss(of_made: Float[Tensor, "b 1"]) -> Float[Tensor, ""]:
    """Small where the discriminator takes made pictures for real ones."""
    return softplus(-of_made).mean()


def discriminator_loss(of_made: Float[Tensor, "b 1"], of_real: Float[Tensor, "b 1"]) -> Float[Tensor, ""]:
    """Small where it tells them apart."""
    return softplus(of_made).mean() + softplus(-of_real).mean()


def r1_penalty(discriminator: Network, real: Float[Tensor, "b 3 s s"]) -> Float[Tensor, ""]:
    """Mean squared length of the gradient of D at real pictures (Mescheder et al. 2018)."""
    real = real.detach().requires_grad_()
    (slope,) = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)
    return slope.square().sum(dim=(1, 2, 3)).mean()


def path_lengths(generator: Network, w: Float[Tensor, "b d"], noise: Float[Tensor, "b 3 s s"]) -> Float[Tensor, b]:
    """‖Jᵀ y‖ of each sample, J the Jacobian of G at w, y the noise over √(pixels): how fast the picture changes."""
    image = generator(w)
    (slope,) = torch.autograd.grad((image * noise).sum() / math.sqrt(image[0, 0].numel()), w, create_graph=True)
    return slope.square().sum(dim=1).sqrt()
