"""What the networks are trained on: how badly they explain faces, and how badly they read our own renderings."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, smooth_l1_loss

from g2s_cli.config import LightRanges
from g2s_cli.estimators.base import MaskedImages
from g2s_cli.estimators.factor_codes import light_from_code, view_from_code
from g2s_cli.estimators.feedforward import Canonical, FactorNets, render_batch
from g2s_cli.estimators.reconstruction import SMOOTHNESS_WEIGHT
from g2s_cli.gan.losses import l1, masked_gradients
from g2s_cli.geometry.camera import Camera
from g2s_cli.geometry.normals import depth_to_normals, smoothness_loss
from g2s_cli.geometry.shading import diffuse_shading, shade
from g2s_cli.geometry.warp import forward_grid, grid_sample, hflip, warp

# Standard deviations of the views of lessons, in network units (see `prior.view_from_code`): 8°, 20°, 4°, 0.006 scene
# units to the side and upwards. Wider than the GAN's own, which V does not know yet.
LESSON_VIEWS = (8 / 60, 20 / 60, 4 / 60, 0.06, 0.06, 0.0)
WIDEST_VIEW = 0.95
LESSON_AMBIENT, LESSON_DIFFUSE = (-0.5, 0.4), (-0.3, 0.6)  # ranges, in network units
VIEW_WEIGHT, VIEW_TURN = 1.0, 0.05  # of the lesson's loss, and where it turns from a square to a line
LIGHT_WEIGHT, LIGHT_TURN = 0.3, 0.1
COARSE_PX = 4

Terms = dict[str, Float[Tensor, ""]]


def explanation(
    canonical: Canonical,
    view: Float[Tensor, "b 6"],
    light: Float[Tensor, "b 4"],
    faces: MaskedImages,
    camera: Camera,
    coarse: float,
) -> Terms:
    """How badly the factors explain faces, where those are and the relief is seen; the terms add up.

    Pixels, their differences to the right and downwards, and, with weight `coarse`, means of squares of 4 px, which see
    what lies a little beside its place. Smoothness of relief and shading as in Eq. 3.
    """
    seen = render_batch(canonical, view, light, camera)
    mask = faces.mask * seen.valid.unsqueeze(1)
    apart = seen.image - faces.image
    across, down = masked_gradients(apart, mask)
    return {
        "pixels": l1(seen.image, faces.image, mask),
        "slopes": across.mean() + down.mean(),
        "coarse": coarse * avg_pool2d(apart * mask, COARSE_PX).abs().mean(),
        "smoothness": SMOOTHNESS_WEIGHT * (smoothness_loss(canonical.depth) + smoothness_loss(seen.diffuse)),
    }


def canonical_of(nets: FactorNets, faces: MaskedImages, views: int) -> Canonical:
    """What the networks say of each face by its first view, for every view. faces: `views` of each in a row."""
    own = nets.canonical(faces.image[::views])
    return Canonical(*(maps.repeat_interleave(views, dim=0) for maps in (own.depth, own.albedo)))


@dataclass(frozen=True)
class Lesson:
    """Our own renderings, with the view and light that each was made with, in network units."""

    image: Float[Tensor, "b 3 h w"]
    view: Float[Tensor, "b 6"]
    light: Float[Tensor, "b 4"]


@torch.no_grad()
def lesson(
    canonical: Canonical,
    view: Float[Tensor, "b 6"],
    mask: Float[Tensor, "b 1 h w"],
    camera: Camera,
    lights: LightRanges,
    rng: torch.Generator,
) -> Lesson:
    """The faces as the networks now see them, under random views and lights.

    view, mask: of the faces that they were seen in (see `canonical_mask`).
    """
    return lesson_of(canonical, mask_to_canonical(canonical, view, mask, camera), camera, lights, rng)


def mask_to_canonical(
    canonical: Canonical, view: Float[Tensor, "b 6"], mask: Float[Tensor, "b 1 h w"], camera: Camera
) -> Float[Tensor, "b 1 h w"]:
    """What of canonical objects lies in the masks of pictures of them, or in the other half's place."""
    own = grid_sample(mask, forward_grid(canonical.depth, view, camera))
    return torch.maximum(own, hflip(own))


def lesson_of(
    canonical: Canonical, mask: Float[Tensor, "b 1 h w"], camera: Camera, lights: LightRanges, rng: torch.Generator
) -> Lesson:
    """Canonical objects under random views and lights. mask: of the objects."""
    view, light = _random_codes(len(mask), lights, rng, mask.device)
    return Lesson(photographed(canonical, mask, view, light, camera), view, light)


def photographed(
    canonical: Canonical,
    mask: Float[Tensor, "b 1 h w"],
    view: Float[Tensor, "b 6"],
    light: Float[Tensor, "b 4"],
    camera: Camera,
) -> Float[Tensor, "b 3 h w"]:
    """Pictures of canonical objects, 0 where there are none. mask: of the objects. view, light: in network units."""
    lit = light_from_code(light)
    texture = shade(canonical.albedo, diffuse_shading(depth_to_normals(canonical.depth, camera), lit), lit)
    seen, _ = warp(torch.cat((texture, mask), dim=1), canonical.depth, view_from_code(view), camera)
    return seen[:, :3].clamp(-1, 1) * (seen[:, 3:] > 0.5)


def misreading(nets: FactorNets, asked: Lesson) -> Terms:
    """How far from the truth is what V and L say of a lesson."""
    view = smooth_l1_loss(nets.view_code(asked.image), asked.view, beta=VIEW_TURN)
    light = smooth_l1_loss(nets.light_code(asked.image), asked.light, beta=LIGHT_TURN)
    return {"view": VIEW_WEIGHT * view, "light": LIGHT_WEIGHT * light}


def _random_codes(
    count: int, lights: LightRanges, rng: torch.Generator, device: torch.device
) -> tuple[Float[Tensor, "b 6"], Float[Tensor, "b 4"]]:
    view = torch.randn(count, 6, generator=rng) * torch.tensor(LESSON_VIEWS)
    low, high = torch.tensor([LESSON_AMBIENT, LESSON_DIFFUSE, lights.x, lights.y]).unbind(dim=1)
    light = low + (high - low) * torch.rand(count, 4, generator=rng)
    return view.clamp(-WIDEST_VIEW, WIDEST_VIEW).to(device), light.to(device)
