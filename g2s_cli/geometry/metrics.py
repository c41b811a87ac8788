"""Errors of depth maps, SIDE, MAD and mask coverage (paper 4.1, after Wu et al. 2020), and PSNR of images."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import max_pool2d, pad

from g2s_cli.geometry.camera import Camera
from g2s_cli.geometry.normals import depth_to_normals

ALMOST_ONE = 1 - 1e-7  # keeps the gradient of the arc cosine finite in float32


def erode(mask: Bool[Tensor, "b h w"]) -> Bool[Tensor, "b h w"]:
    """Erode a mask by 3x3; outside the image is outside the mask."""
    outside = pad((~mask).float().unsqueeze(1), (1, 1, 1, 1), value=1.0)
    return max_pool2d(outside, 3, 1)[:, 0] == 0


def side_error(
    predicted: Float[Tensor, "b h w"], truth: Float[Tensor, "b h w"], mask: Bool[Tensor, "b h w"]
) -> Float[Tensor, b]:
    """SIDE: the standard deviation of the log-depth differences over the mask; NaN where the mask is empty."""
    difference = torch.where(mask, predicted.clamp(min=1e-9).log() - truth.clamp(min=1e-9).log(), 0.0)
    count = mask.sum(dim=(1, 2))
    mean = difference.sum(dim=(1, 2)) / count
    deviation = torch.where(mask, difference - mean[:, None, None], 0.0)
    return (deviation.square().sum(dim=(1, 2)) / count).sqrt()


def mad_deg(
    predicted: Float[Tensor, "b h w"], truth: Float[Tensor, "b h w"], mask: Bool[Tensor, "b h w"], camera: Camera
) -> Float[Tensor, b]:
    """MAD: the mean angle between the normals of two depth maps over the mask, degrees; NaN where the mask is empty.

    As the benchmark has it, on the slightly short normals of `depth_to_normals`: two equal maps of 64 px score about
    5.5°, not 0. Published figures carry the same bias.
    """
    cosine = (depth_to_normals(predicted, camera) * depth_to_normals(truth, camera)).sum(-1)
    angle = torch.rad2deg(torch.acos(cosine.clamp(-ALMOST_ONE, ALMOST_ONE)))
    return torch.where(mask, angle, 0.0).sum(dim=(1, 2)) / mask.sum(dim=(1, 2))


def coverage(predicted: Bool[Tensor, "b h w"], truth: Bool[Tensor, "b h w"]) -> Float[Tensor, b]:
    """The share of the true mask that the predicted one covers."""
    return (predicted & truth).sum(dim=(1, 2)) / truth.sum(dim=(1, 2)).clamp(min=1)


def psnr(a: Float[Tensor, "3 h w"], b: Float[Tensor, "3 h w"]) -> float:
    """Peak signal-to-noise ratio of two images in [-1, 1], dB."""
    error = (a.clamp(-1, 1) - b.clamp(-1, 1)).square().mean().clamp(min=1e-12)
    return (10 * torch.log10(4 / error)).item()
