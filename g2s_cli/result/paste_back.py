"""Relit and turned objects inside the photo that they came from: `pictures.relight` and `rotate`, pasted back.

The change is worked out on the aligned crop, and the change alone is carried back: where there is none, the photo stays
bit for bit what it was. What the photo shows keeps the photo's own pixels, under another light or in another place;
only what it does not show is painted, from the factors or from what lies around.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d

from g2s_cli.errors import ImageError
from g2s_cli.geometry.camera import canonical_to_view, project_points, unproject_points, view_to_canonical
from g2s_cli.geometry.factors import Factors
from g2s_cli.geometry.placement import Placement
from g2s_cli.geometry.rasterizer import VIEW_FAR
from g2s_cli.geometry.render import render, render_depth_with_margin
from g2s_cli.geometry.resample import inpaint
from g2s_cli.geometry.warp import grid_sample, normalize_pixels
from g2s_cli.mesh.silhouette import refine_mask
from g2s_cli.photo.decode import read_upright
from g2s_cli.result import pictures
from g2s_cli.result.schema import Result, original_path
from g2s_cli.result.surface import soft_mask

RAMP_SHARE = 1 / 16  # of the crop: over this a change dies away before an edge beyond which the photo goes on
STRONGEST = 4.0  # by what a light may multiply or divide a pixel
DARKEST = 0.05  # shading or brightness below which a ratio says nothing
BEHIND = 0.01  # scene units: a point that lies so far behind the surface that the photo saw there is hidden in it
WIDER_PX = 1  # by how many pixels of the maps the object is taken to be wider than its mask
BAND_PX = 256  # rows of the photo that are changed at once: all of a large photo's would not fit into memory
TINT_PX = 8  # at what size the colours of the GAN's picture are brought to the photo's


def relight(
    result: Result, lights: Sequence[tuple[float, float]], *, by: pictures.Renderer = "mesh", device: str = "auto"
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """The photo with its object under other lights, each (x, y) as the whole photo shows it, however the crop lies.

    As for `pictures.relight`, but to the right and up in the photo, not in the crop. The photo's pixels are multiplied
    by how much brighter the shading becomes (mesh), or the GAN's picture (gan).
    """
    pictures.check_shown(lights, "light", None)
    inside = Inside.of(result)
    lights = [result.placement.direction_to_crop(x, y) for x, y in lights]
    new: Iterator[Float[Tensor, "h w"]]
    if by == "mesh":
        own = render(result.factors, result.camera).shading
        new = (render(result.factors.relight(x, y), result.camera).shading for x, y in lights)
    else:
        own = _brightness(result.inverted)
        new = map(_brightness, pictures.relight_each(result, lights, by=by, device=device))
    core = (soft_mask(result, result.factors) > 0.5).float()
    where = refine_mask(result.mask, inside.crop * 2 - 1)  # to the photo's own outline: no light on what is behind it
    for shading in new:
        gain = (shading.clamp(min=DARKEST) / own.clamp(min=DARKEST)).clamp(1 / STRONGEST, STRONGEST)
        more = inside.grown(inpaint(gain[None] - 1, core))
        yield inside.changed(inside.crop * more * where)


def rotate(
    result: Result, turns: Sequence[tuple[float, float]], *, by: pictures.Renderer = "mesh", device: str = "auto"
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """The photo with its object turned, each turn as `pictures.rotate` has it: about the crop's axes.

    So a head that leans in the photo turns about its own neck. The photo's pixels move to where the shape carries them;
    what the photo did not show of the object has the rendering's colours (mesh). Or the GAN's picture is pasted, in the
    photo's colours (gan). Background that the object uncovers is painted smoothly from around it: its texture is not
    continued.
    """
    pictures.check_turns(turns, None)
    inside = Inside.of(result)
    own = soft_mask(result, result.factors)
    around = inside.around(own)
    painted = pictures.rotate_each(result, turns, by=by, device=device) if by == "gan" else repeat(None, len(turns))
    for (yaw, pitch), picture in zip(turns, painted, strict=True):
        variant = result.factors.rotate(yaw, pitch)
        shown = _moved(inside, result, variant) if picture is None else _tinted(inside, result, picture)
        covered = soft_mask(result, variant)
        hole = inside.grown(_wider((own > 0.5) & (covered < 0.5)))
        scene = inside.crop * (1 - hole) + around * hole
        mask = inside.grown(covered[None])
        yield inside.changed(scene * (1 - mask) + shown * mask - inside.crop)


@dataclass(frozen=True)
class Inside:
    """The part of a photo that the relief covers, and the way back into the photo.

    photo: upright. crop: that part at its own resolution, from 0 to 1. placement: where it lies in the photo.
    """

    photo: UInt8[np.ndarray, "h w 3"]
    crop: Float[Tensor, "3 m m"]
    placement: Placement

    @classmethod
    def of(cls, result: Result) -> Inside:
        """Of a result. Raises ImageError if its photo cannot be read any more, or is another one."""
        stated = result.report.get("photo_sha256")
        if stated and hashlib.sha256(result.original).hexdigest() != stated:
            raise ImageError("The photo in the result's folder is not the one it was made from.", "Put that one back.")
        name = original_path(Path(), result.report)  # for messages
        photo = np.array(read_upright(name, [], result.original))
        kept, whole = result.center_crop, len(result.aligned)
        placement = result.placement.subsquare((whole - len(kept)) // 2 / whole, len(kept) / whole)
        return cls(photo, torch.from_numpy(kept).permute(2, 0, 1).float() / 255, placement)

    def grown(self, maps: Float[Tensor, "c h h"]) -> Float[Tensor, "c m m"]:
        """Maps over the crop at the crop's resolution."""
        size = self.crop.shape[-1]
        return interpolate(maps[None], size=(size, size), mode="bilinear", align_corners=False)[0]

    def shrunk(self, size: int) -> Float[Tensor, "3 s s"]:
        """The crop at a lower resolution."""
        return interpolate(self.crop[None], size=(size, size), mode="area")[0]

    def around(self, mask: Float[Tensor, "h w"]) -> Float[Tensor, "3 m m"]:
        """What lies around a mask, continued smoothly to where it is."""
        kept = 1 - _wider(mask > 0)[0]
        return self.grown(inpaint(self.shrunk(len(kept)), kept))

    def changed(self, change: Float[Tensor, "3 m m"]) -> UInt8[np.ndarray, "h w 3"]:
        """The photo with a change of the crop, which dies away towards edges where the photo goes on."""
        height, width, _ = self.photo.shape
        corners = self.placement.to_photo(np.array(((0.0, 0), (1, 0), (0, 1), (1, 1))))
        left, top = np.floor(corners.min(axis=0)).clip(0).astype(int)
        right, bottom = np.minimum(np.ceil(corners.max(axis=0)) + 1, (width, height)).astype(int)
        change, photo = (change * self._ramp())[None], self.photo.copy()
        for first in range(top, bottom, BAND_PX):
            part = photo[first : min(first + BAND_PX, bottom), left:right]
            rows, columns = np.indices(part.shape[:2], dtype=float)
            shares = self.placement.to_crop(np.stack((columns + left, rows + first), axis=-1))
            # grid_sample without aligned corners counts from -1 to 1 over the crop, edge to edge.
            grid = torch.from_numpy(shares * 2 - 1).float()[None]
            carried = functional.grid_sample(change, grid, align_corners=False)[0].permute(1, 2, 0).numpy()
            part[:] = (part + carried * 255).round().clip(0, 255)
        return photo

    def _ramp(self) -> Float[Tensor, "m m"]:
        """1 inside, 0 at those edges of the crop that lie in the photo."""
        size, (height, width) = self.crop.shape[-1], self.photo.shape[:2]
        rising = ((torch.arange(size) + 0.5) / size / RAMP_SHARE).clamp(max=1)
        whole = torch.ones(size)
        left, top, right, bottom = (
            1 < x + 0.5 < width - 1 and 1 < y + 0.5 < height - 1
            for x, y in self.placement.to_photo(np.array(((0, 0.5), (0.5, 0), (1, 0.5), (0.5, 1))))
        )
        across = (rising if left else whole) * (rising.flip(0) if right else whole)
        down = (rising if top else whole) * (rising.flip(0) if bottom else whole)
        return down[:, None] * across


def _moved(inside: Inside, result: Result, variant: Factors) -> Float[Tensor, "3 m m"]:
    """The object from another side, of the photo's own pixels where the photo shows them."""
    camera = result.camera
    depth = render_depth_with_margin(variant.depth[None], variant.view[None], camera)
    points = view_to_canonical(unproject_points(depth, camera), variant.view[None], camera)
    before = canonical_to_view(points, result.factors.view[None], camera)
    pixels = project_points(before, camera)
    seen = grid_sample(
        render(result.factors, camera).depth[None, None], normalize_pixels(pixels, camera), padding_mode="border"
    )[0, 0]
    there = depth[0] < VIEW_FAR
    within = ((pixels >= 0) & (pixels <= camera.size - 1)).all(dim=-1)[0]
    shown = there & within & (before[0, ..., 2] < seen + BEHIND)
    # Between pixels the places go on as inside the object, not to where the background would come from.
    shares = inpaint((pixels[0].permute(2, 0, 1) + 0.5) / camera.size, there.float())
    grid = inside.grown(shares).permute(1, 2, 0)[None] * 2 - 1
    own = functional.grid_sample(inside.crop[None], grid, padding_mode="border", align_corners=False)[0]
    trusted = inside.grown(avg_pool2d(shown.float()[None], 3, 1, 1, count_include_pad=False))
    painted = inside.grown(render(variant, camera).image / 2 + 0.5)
    return own * trusted + painted * (1 - trusted)


def _wider(mask: Bool[Tensor, "h w"]) -> Float[Tensor, "1 h w"]:
    """A mask and what is next to it, where the photo shows some of the object that the mask missed."""
    return max_pool2d(mask.float()[None], 2 * WIDER_PX + 1, 1, WIDER_PX)


def _tinted(inside: Inside, result: Result, image: Float[Tensor, "3 h w"]) -> Float[Tensor, "3 m m"]:
    """A picture of the GAN with the colours that its version of the photo lacks, from place to place."""
    known = interpolate(result.inverted[None] / 2 + 0.5, size=(TINT_PX, TINT_PX), mode="area")[0]
    return inside.grown(image / 2 + 0.5) + inside.grown(inside.shrunk(TINT_PX) - known)


def _brightness(image: Float[Tensor, "3 h w"]) -> Float[Tensor, "h w"]:
    """From 0 to 1, without what is finer than a GAN gets right twice."""
    return avg_pool2d((image / 2 + 0.5).mean(dim=0)[None], 5, 1, 2, count_include_pad=False)[0]
