"""Lambertian shading in the canonical frame (paper A.2.1), and lights by their position in the photo.

Conventions of lights: `geometry.camera`. Here the photo is the aligned crop; `Placement.direction_to_crop` converts a
position in the whole photo.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from g2s_cli.geometry.camera import rotation_matrix

MIN_LIGHT_Z = 1e-2  # least z of a light's direction; below it, its position (x, y) = direction / z is not finite
# The least that an image is divided by: in deep shadow there is more noise than colour.
MIN_SHADING = 0.2
SHININESS = 18.0  # Blinn exponent; skin has about 10 to 30; it matters little (docs/experiments/specular.md)


def light_direction(light: Float[Tensor, "b 4"]) -> Float[Tensor, "b 3"]:
    """Unit direction l of each light, in the frame of the normals."""
    slant = _unnormalized_direction(light)
    return slant / slant.norm(dim=1, keepdim=True)


def diffuse_shading(normal: Float[Tensor, "b h w 3"], light: Float[Tensor, "b 4"]) -> Float[Tensor, "b h w"]:
    """max(0, n·l)."""
    return torch.einsum("bhwi,bi->bhw", normal, light_direction(light)).clamp(min=0)


def specular_shading(
    normal: Float[Tensor, "b h w 3"], light: Float[Tensor, "b 4"], view: Float[Tensor, "b 6"]
) -> Float[Tensor, "b h w"]:
    """max(0, n·h) ^ SHININESS, with h halfway between the light and a far viewer (Blinn 1977). Not in the paper."""
    halfway = light_direction(light) + rotation_matrix(view)[:, 2]
    halfway = halfway / halfway.norm(dim=1, keepdim=True)
    return torch.einsum("bhwi,bi->bhw", normal, halfway).clamp(min=0) ** SHININESS


def lambert_shading(diffuse: Float[Tensor, "b h w"], light: Float[Tensor, "b 4"]) -> Float[Tensor, "b 1 h w"]:
    """k_s + k_d max(0, n·l): the factor on the reflectance. diffuse: max(0, n·l)."""
    ambient, strength = light[:, 0, None, None], light[:, 1, None, None]
    return (ambient + strength * diffuse).unsqueeze(1)


def shade(
    albedo: Float[Tensor, "b 3 h w"], diffuse: Float[Tensor, "b h w"], light: Float[Tensor, "b 4"]
) -> Float[Tensor, "b 3 h w"]:
    """The lit texture (k_s + k_d max(0, n·l)) · a (A.2.1), all images in [-1, 1]."""
    return apply_shading(albedo, lambert_shading(diffuse, light))


def apply_shading(albedo: Float[Tensor, "*b 3 h w"], shading: Float[Tensor, "*c h w"]) -> Float[Tensor, "*b 3 h w"]:
    """Multiply the reflectance by a shading; images in [-1, 1] where the shading is at most 1."""
    return torch.addcmul(shading - 1, albedo, shading)  # (albedo + 1) · shading - 1 in one pass


def remove_shading(image: Float[Tensor, "*b 3 h w"], shading: Float[Tensor, "*c h w"]) -> Float[Tensor, "*b 3 h w"]:
    """The inverse of `apply_shading`."""
    return torch.addcdiv(1 / shading - 1, image, shading)


def light_from_position(x: float, y: float, ambient: float, diffuse: float, view: Float[Tensor, 6]) -> Float[Tensor, 4]:
    """The canonical light at (x, y) in the photo: x right, y up, (0, 0) at the camera.

    A light from behind the canonical surface is moved to its horizon.
    """
    direction = rotation_matrix(view[None])[0].T @ view.new_tensor((-x, y, 1.0))
    z = direction[2].clamp(min=MIN_LIGHT_Z)
    return torch.stack((view.new_tensor(ambient), view.new_tensor(diffuse), direction[0] / z, direction[1] / z))


def position_from_light(light: Float[Tensor, 4], view: Float[Tensor, 6]) -> tuple[float, float]:
    """The inverse of `light_from_position`."""
    x, y = light_slant(light[None], view[None])[0]
    return (-x).item(), y.item()


def light_slant(light: Float[Tensor, "b 4"], view: Float[Tensor, "b 6"]) -> Float[Tensor, "b 2"]:
    """Directions of canonical lights in the photo's frame, (x, y) per unit of z; x right, y down."""
    direction = torch.einsum("bij,bj->bi", rotation_matrix(view), _unnormalized_direction(light))
    return direction[:, :2] / direction[:, 2:].clamp(min=MIN_LIGHT_Z)


def _unnormalized_direction(light: Float[Tensor, "b 4"]) -> Float[Tensor, "b 3"]:
    """(l_x, l_y, 1)."""
    return torch.cat((light[:, 2:], torch.ones_like(light[:, :1])), dim=1)
