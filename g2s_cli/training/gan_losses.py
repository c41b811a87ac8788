"""Losses of a GAN: non-saturating logistic loss, R1, path lengths (Karras et al. 2020), and reconstruction."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

Network = Callable[[Tensor], Tensor]


def generator_loss(fake_logits: Float[Tensor, "b 1"]) -> Float[Tensor, ""]:
    """Non-saturating logistic loss: small where the discriminator takes generated images for real ones."""
    return softplus(-fake_logits).mean()


def discriminator_loss(fake_logits: Float[Tensor, "b 1"], real_logits: Float[Tensor, "b 1"]) -> Float[Tensor, ""]:
    """Logistic loss: small where the discriminator separates generated images from real ones."""
    return softplus(fake_logits).mean() + softplus(-real_logits).mean()


def r1_penalty(discriminator: Network, real: Float[Tensor, "b 3 s s"]) -> Float[Tensor, ""]:
    """Mean squared norm of the discriminator's gradient at real images (Mescheder et al. 2018)."""
    real = real.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean()


def path_lengths(generator: Network, w: Float[Tensor, "b d"], noise: Float[Tensor, "b 3 s s"]) -> Float[Tensor, b]:
    """‖Jᵀ y‖ of each sample: J is the Jacobian of the generator at w, y the noise divided by √(pixels)."""
    image = generator(w)
    (gradient,) = torch.autograd.grad((image * noise).sum() / math.sqrt(image[0, 0].numel()), w, create_graph=True)
    return gradient.square().sum(dim=1).sqrt()


def latent_loss(predicted: Float[Tensor, "b d"], true: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    """Mean squared error of latents, divided by their variance."""
    return (predicted - true).square().mean() / true.var()


def reconstruction_loss(images: Float[Tensor, "b 3 s s"], targets: Float[Tensor, "b 3 s s"]) -> Float[Tensor, ""]:
    """L1 of pixels and of their differences to the next column and row, which a blurred image lacks."""
    error = images - targets
    return error.abs().mean() + error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
