"""Light: Lambert shading in the canonical frame (paper A.2.1), and the user's way of naming a light.

A light is four numbers: ambient k_s, diffuse k_d, l_x, l_y, with direction l = (l_x, l_y, 1) / |.|. The
authors' normals point away from the viewer (see `scene.surface`) and so does l: n·l is right, but l is the
direction the light *travels*, so l_x > 0 is a light on the photo's left. People say it the other way round:
(x, y) is where the light stands as seen in the photo, x to the right, y up, (0, 0) at the camera. Here the photo is the
aligned crop; in a whole photo that the crop lies turned in, `scene.placement` turns (x, y) as well.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from g2s_cli.geometry.camera import rotation

# The steepest slant a light is reported or set at: beyond it (x, y) = direction / depth has no finite value.
LEAST_DEPTH = 1e-2
# How narrow highlights are. Skin's is about 10 to 30; which of these matters little (docs/experiments/specular.md).
SHININESS = 18.0


def direction(light: Float[Tensor, "b 4"]) -> Float[Tensor, "b 3"]:
    """Unit direction l of each light, in the frame of the normals."""
    slant = _slanted(light)
    return slant / slant.norm(dim=1, keepdim=True)


def diffuse_shading(normal: Float[Tensor, "b h w 3"], light: Float[Tensor, "b 4"]) -> Float[Tensor, "b h w"]:
    """max(0, n·l): the part of the shading that shows the shape."""
    return torch.einsum("bhwi,bi->bhw", normal, direction(light)).clamp(min=0)


def specular_shading(
    normal: Float[Tensor, "b h w 3"], light: Float[Tensor, "b 4"], view: Float[Tensor, "b 6"]
) -> Float[Tensor, "b h w"]:
    """max(0, n·h) to the power of SHININESS, h halfway between light and viewer (Blinn 1977). Not in the paper.

    view: where the viewer stands, who is taken to be far away.
    """
    halfway = direction(light) + rotation(view)[:, 2]
    halfway = halfway / halfway.norm(dim=1, keepdim=True)
    return torch.einsum("bhwi,bi->bhw", normal, halfway).clamp(min=0) ** SHININESS


def shade(
    albedo: Float[Tensor, "b 3 h w"], diffuse: Float[Tensor, "b h w"], light: Float[Tensor, "b 4"]
) -> Float[Tensor, "b 3 h w"]:
    """The lit texture (k_s + k_d max(0, n·l)) · a (A.2.1), all images in [-1, 1]."""
    return lit(albedo, shading_of(diffuse, light))


def shading_of(diffuse: Float[Tensor, "b h w"], light: Float[Tensor, "b 4"]) -> Float[Tensor, "b 1 h w"]:
    """k_s + k_d max(0, n·l): what reflectance is multiplied by."""
    ambient, strength = light[:, 0, None, None], light[:, 1, None, None]
    return (ambient + strength * diffuse).unsqueeze(1)


def lit(albedo: Float[Tensor, "*b 3 h w"], shading: Float[Tensor, "*c h w"]) -> Float[Tensor, "*b 3 h w"]:
    """Albedo under a shading, both sides in [-1, 1] where the shading is at most 1."""
    return (albedo / 2 + 0.5) * shading * 2 - 1


def delit(image: Float[Tensor, "*b 3 h w"], shading: Float[Tensor, "*c h w"]) -> Float[Tensor, "*b 3 h w"]:
    """The albedo that a shading makes such an image of: the inverse of `lit`."""
    return (image / 2 + 0.5) / shading * 2 - 1


def light_from_user(x: float, y: float, ambient: float, diffuse: float, view: Float[Tensor, 6]) -> Float[Tensor, 4]:
    """The canonical light for one that stands at (x, y) as seen in the photo, on an object seen from `view`.

    A light that would shine from behind the canonical relief is brought back to its horizon.
    """
    travel = rotation(view[None])[0].T @ view.new_tensor((-x, y, 1.0))
    depth = travel[2].clamp(min=LEAST_DEPTH)
    return torch.stack((view.new_tensor(ambient), view.new_tensor(diffuse), travel[0] / depth, travel[1] / depth))


def user_from_light(light: Float[Tensor, 4], view: Float[Tensor, 6]) -> tuple[float, float]:
    """Where a canonical light stands as seen in the photo: the inverse of `light_from_user`."""
    x, y = slants_seen(light[None], view[None])[0]
    return (-x).item(), y.item()


def slants_seen(light: Float[Tensor, "b 4"], view: Float[Tensor, "b 6"]) -> Float[Tensor, "b 2"]:
    """How far canonical lights travel to the right and downwards while they go a unit away from the camera."""
    travel = torch.einsum("bij,bj->bi", rotation(view), _slanted(light))
    return travel[:, :2] / travel[:, 2:].clamp(min=LEAST_DEPTH)


def _slanted(light: Float[Tensor, "b 4"]) -> Float[Tensor, "b 3"]:
    """(l_x, l_y, 1) of each light."""
    return torch.cat((light[:, 2:], torch.ones_like(light[:, :1])), dim=1)
