"""How a category's objects differ from the mean object, in shape and in look: what `method.morphing` fits.

A morphable model (Blanz and Vetter, SIGGRAPH 1999) of a relief, learnt without a label from random objects of the GAN's
(recipes/synface/shapes.py) and from photos (recipes/synface/refining.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int8
from torch import Tensor
from torch.nn.functional import one_hot

from g2s_cli.geometry.camera import Camera
from g2s_cli.geometry.shading import slants_seen

REACH = 10 / 64  # of the smooth modes' kernel, a Gaussian, in shares of the picture's side
AMPLITUDES = (1 / 64, 1 / 64, 1.5 / 64)  # standard deviations of the modes together: to the side, up and down, in depth
FINE_REACH, FINE = 4 / 64, 0.5  # of moves that one object alone has, beside the factors; their share of AMPLITUDES
PARTS = ("mean", "detail", "factors", "albedo", "looks", "look_steps", "variance", "lights", "bias")
STEPS = 127  # of a factor of looks on either side of 0, as it is kept
ANYTHING = 100.0  # variance of logarithms of which nothing is known
FARTHEST_YAW, STEEPEST_LIGHT = 0.8, 1.0  # of the pictures that a bias is learnt from: radians, and a slant
LEAST_SHARE = 0.05  # of a mode's amplitude in the strongest's: the others are left out


@dataclass(frozen=True)
class MorphableModel:
    """How objects differ from the mean object.

    mean, factors: moves of the mean relief's points in scene units, the former of all objects, the latter's amounts
    with a standard deviation of 1. albedo, looks: the mean and factors of the reflectance's logarithm. variance: of
    what they leave of pictures' logarithms as `morphing.observe` takes them. lights: mean and standard deviations of
    (ambient, diffuse, l_x, l_y). bias: what factors' amounts seem to be by `circumstances` alone.
    """

    mean: Float[Tensor, "h w 3"]
    shape_basis: Float[Tensor, "h w 3 k"]
    albedo: Float[Tensor, "3 h w"]
    albedo_basis: Float[Tensor, "3 h w l"]
    variance: Float[Tensor, "3 h w"]
    lights: Float[Tensor, "2 4"]
    bias: Float[Tensor, "4 k"]


def smooth_modes(camera: Camera, reach: float = REACH, least: float = LEAST_SHARE) -> Float[Tensor, "h w 3 k"]:
    """Symmetric moves of points that vary as a Gaussian process does: products of cosines, the slower the stronger.

    Scene units. To the side they are odd in the column, else even. reach: of the process's kernel, in shares of the
    side. least: modes with a smaller share of the strongest's amplitude are left out.
    """
    size = camera.size
    ticks = (torch.arange(size) + 0.5) / size
    modes = []
    for axis, amplitude in enumerate(AMPLITUDES):
        waves = []
        for high in range(size):
            for wide in range(size):
                turns = (high / 2, wide + (0.5 if axis == 0 else 0.0))  # waves a side
                share = math.exp(-((math.pi * reach) ** 2) * (turns[0] ** 2 + turns[1] ** 2))
                if share < least:
                    break
                across = 2 * math.pi * turns[1] * (ticks - 0.5)
                rows = (2 * math.pi * turns[0] * ticks).cos()
                waves.append(share * rows[:, None] * (across.sin() if axis == 0 else across.cos()))
        along = torch.stack(waves, dim=-1)
        along = along * (amplitude * size / camera.focal / along.square().sum(dim=-1).mean().sqrt())
        modes.append(one_hot(torch.tensor(axis), 3).to(along)[:, None] * along[:, :, None])
    return torch.cat(modes, dim=-1)


def read_morphable_model(tensors: Mapping[str, Tensor], camera: Camera, device: torch.device) -> MorphableModel:
    """The model that a category's networks come with. Raises KeyError without it, RuntimeError for one of another size.

    shape.mean and shape.factors are in `smooth_modes`; shape.detail is what the mean has beside them; shape.looks are
    those of the points that have a reflectance, as `in_steps` has them; the others are `ShapeModel`'s, in any
    precision. Points without a reflectance have been seen of no object: nothing is expected of what they show. Beside
    the factors an object may have moves of a shorter reach of its own, of which none is likelier than another; the bias
    is of those, too.
    """
    modes, fine = smooth_modes(camera).to(device), FINE * smooth_modes(camera, FINE_REACH).to(device)
    part = {name: tensors[f"shape.{name}"].to(device).float() for name in PARTS}
    if any(part[name].shape != (3, *modes.shape[:2]) for name in ("albedo", "variance")):
        raise RuntimeError(f"a model of shape that is not for {camera.size} px")
    seen = has_albedo(part["albedo"])
    albedo_basis = modes.new_zeros(*part["albedo"].shape, len(part["look_steps"]))
    albedo_basis[:, seen] = part["looks"] * part["look_steps"]
    shape_basis = torch.cat((modes @ part["factors"], fine), dim=-1)
    if part["bias"].shape != (4, shape_basis.shape[-1]):
        raise RuntimeError("a model of shape with another one's bias")
    return MorphableModel(
        mean=modes @ part["mean"] + part["detail"],
        shape_basis=shape_basis,
        albedo=part["albedo"],
        albedo_basis=albedo_basis,
        variance=torch.where(seen, part["variance"], ANYTHING),
        lights=part["lights"],
        bias=part["bias"],
    )


def nuisance(views: Float[Tensor, "b 6"], lights: Float[Tensor, "b 4"]) -> Float[Tensor, "b 4"]:
    """What symmetric shapes seem to depend on, though they do not: 1, y², x² and x y, alike in a mirror image.

    y: the yaw, in radians. x: the slant of the light to the side, as the camera sees it. Both as far as such things are
    seen in pictures that a bias is learnt from: beyond they count as there. Pitch and the light's height, which are
    alike in a mirror, too, tell nothing more (docs/experiments/nuisance-debiasing.md).
    """
    yaw = views[:, 1].clamp(-FARTHEST_YAW, FARTHEST_YAW)
    slant = slants_seen(lights, views)[:, 0].clamp(-STEEPEST_LIGHT, STEEPEST_LIGHT)
    return torch.stack((torch.ones_like(yaw), yaw.square(), slant.square(), yaw * slant), dim=1)


def has_albedo(albedo: Float[Tensor, "3 h w"]) -> Bool[Tensor, "h w"]:
    """Which points have been seen of an object."""
    return (albedo != 0).any(dim=0)


def quantize_albedo_basis(albedo_basis: Float[Tensor, "3 p l"]) -> tuple[Int8[Tensor, "3 p l"], Float[Tensor, l]]:
    """Factors of looks in a byte a number, and how large each factor's steps are."""
    steps = albedo_basis.abs().amax(dim=(0, 1)).clamp(min=torch.finfo(albedo_basis.dtype).tiny) / STEPS
    return (albedo_basis / steps).round().to(torch.int8), steps
