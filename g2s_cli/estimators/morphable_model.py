"""A morphable model of canonical depth (Blanz and Vetter, SIGGRAPH 1999): shape and albedo bases around a template.

It is learnt without labels, from random objects of the GAN and from photos
(docs/decisions/0021-morphable-model-fit.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int8
from torch import Tensor
from torch.nn.functional import one_hot

from g2s_cli.geometry.camera import Camera, unproject_points
from g2s_cli.geometry.sharpen import sharpen_edges

REACH = 10 / 64  # of the smooth modes' Gaussian kernel, in shares of the image's side
AMPLITUDES = (1 / 64, 1 / 64, 1.5 / 64)  # standard deviations of all modes together, along x, y and depth
FINE_REACH, FINE = 4 / 64, 0.5  # of the modes beside the learnt basis; their share of AMPLITUDES
PARTS = ("mean", "detail", "factors", "albedo", "looks", "look_steps", "variance", "lights")  # tensors on disk
INT8_MAX = 127
UNKNOWN = 100.0  # variance of log brightness of points without albedo
LEAST_AMPLITUDE = 0.05  # of a mode, relative to the strongest's; weaker ones are left out


@dataclass(frozen=True)
class MorphableModel:
    """Shape and albedo bases around a template.

    Attributes:
        mean: displacements of the template's points, of all objects, scene units.
        shape_basis: displacements with coefficients of standard deviation 1, scene units.
        albedo, albedo_basis: mean and basis of the log reflectance.
        variance: of log brightness that the model leaves unexplained.
        lights: mean and standard deviations of (ambient, diffuse, l_x, l_y).
    """

    mean: Float[Tensor, "h w 3"]
    shape_basis: Float[Tensor, "h w 3 k"]
    albedo: Float[Tensor, "3 h w"]
    albedo_basis: Float[Tensor, "3 h w l"]
    variance: Float[Tensor, "3 h w"]
    lights: Float[Tensor, "2 4"]


def smooth_modes(camera: Camera, reach: float = REACH, least: float = LEAST_AMPLITUDE) -> Float[Tensor, "h w 3 k"]:
    """Symmetric displacements of a Gaussian process, scene units: products of cosines, the slower the stronger.

    Along x they are odd in the column, else even.

    Args:
        reach: of the process's kernel, in shares of the side.
        least: modes with a smaller share of the strongest's amplitude are left out.
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
    """The model in a category's networks file.

    The basis on disk is in `smooth_modes`; finer modes, all equally likely, are added to it. Points without albedo were
    visible in no object: nothing is expected of their brightness.

    Raises:
        KeyError: the file has no model.
        RuntimeError: the model has another size.
    """
    modes, fine = smooth_modes(camera).to(device), FINE * smooth_modes(camera, FINE_REACH).to(device)
    part = {name: tensors[f"shape.{name}"].to(device).float() for name in PARTS}
    if any(part[name].shape != (3, *modes.shape[:2]) for name in ("albedo", "variance")):
        raise RuntimeError(f"a morphable model that is not for {camera.size} px")
    seen = has_albedo(part["albedo"])
    albedo_basis = modes.new_zeros(*part["albedo"].shape, len(part["look_steps"]))
    albedo_basis[:, seen] = part["looks"] * part["look_steps"]
    return MorphableModel(
        mean=modes @ part["mean"] + part["detail"],
        shape_basis=torch.cat((modes @ part["factors"], fine), dim=-1),
        albedo=part["albedo"],
        albedo_basis=albedo_basis,
        variance=torch.where(seen, part["variance"], UNKNOWN),
        lights=part["lights"],
    )


def has_albedo(albedo: Float[Tensor, "3 h w"]) -> Bool[Tensor, "h w"]:
    """Which points were visible in any object."""
    return (albedo != 0).any(dim=0)


def quantize_albedo_basis(albedo_basis: Float[Tensor, "3 p l"]) -> tuple[Int8[Tensor, "3 p l"], Float[Tensor, l]]:
    """An albedo basis in int8, and the scale of each of its vectors."""
    steps = albedo_basis.abs().amax(dim=(0, 1)).clamp(min=torch.finfo(albedo_basis.dtype).tiny) / INT8_MAX
    return (albedo_basis / steps).round().to(torch.int8), steps


def sharpen_template(
    model: MorphableModel, template: Float[Tensor, "h w"], camera: Camera, below: float
) -> MorphableModel:
    """The model with sharpened depth edges of template and mean displacements, below a share of the image's height."""
    depth = unproject_points(template[None], camera)[..., 2] + model.mean[None, ..., 2]
    change = (sharpen_edges(depth, camera, below) - depth)[0]
    return replace(model, mean=torch.cat((model.mean[..., :2], (model.mean[..., 2] + change).unsqueeze(-1)), dim=-1))
