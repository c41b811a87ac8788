"""Images in [-1, 1]: conversion from and to 8 bits, compositing."""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor


def to_uint8(image: Float[Tensor, "3 h w"]) -> UInt8[ndarray, "h w 3"]:
    """Convert an image in [-1, 1] to 8-bit RGB."""
    return image.clamp(-1, 1).add_(1).mul_(127.5).round_().byte().permute(1, 2, 0).cpu().numpy()


def from_uint8(picture: UInt8[ndarray, "n n 3"]) -> Float[Tensor, "3 n n"]:
    """Convert 8-bit RGB to an image in [-1, 1]."""
    return torch.from_numpy(picture).permute(2, 0, 1).float().div_(127.5).sub_(1)


def composite_on_white(image: Float[Tensor, "3 h w"], mask: Float[Tensor, "h w"]) -> Float[Tensor, "3 h w"]:
    """Composite an image over white; the mask is its alpha."""
    return image * mask + (1 - mask)
