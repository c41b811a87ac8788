"""Relit and rotated objects, pasted back into the whole photo.

Other light adds its change of the crop to the photo, which keeps its detail; a turned object replaces the photo, whose
detail would stay behind as a second outline. Pixels beyond both stay bit for bit. What the photo shows of the object
keeps the photo's own pixels; the rest is rendered, or inpainted from its surroundings.
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
from g2s_cli.geometry.rasterizer import VIEW_FAR, rasterize
from g2s_cli.geometry.render import render, render_depth_with_margin
from g2s_cli.geometry.resample import inpaint
from g2s_cli.geometry.warp import grid_sample, normalize_pixels, points_to_grid
from g2s_cli.mesh.extract import transform_mesh
from g2s_cli.mesh.options import MeshOptions
from g2s_cli.mesh.render import rasterize_mesh
from g2s_cli.mesh.silhouette import refine_mask
from g2s_cli.photo.decode import read_image
from g2s_cli.result.pictures import Renderer, check_pairs, check_strengths, check_turns, relight_each, rotate_each
from g2s_cli.result.schema import Result, original_path
from g2s_cli.result.surface import extend_colours, soft_mask, textured_mesh
from g2s_cli.result.wide import MAX_SIZE_PX, widen

BLEND_SHARE = 1 / 16  # of the crop's side: width of the blend at edges beyond which the photo goes on
MAX_GAIN = 4.0  # by which a light may multiply or divide a pixel
MIN_BRIGHTNESS = 0.05  # of shading or images in a quotient
OCCLUSION_TOLERANCE = 0.01  # scene units: a point farther than this behind the visible surface is hidden
NECK_START, NECK_END = 0.8, 1.4  # rows of the tight crop, in its sides, between which a turned head's body stays
FADE_SHARE = 0.1  # of the turn, below which the photo's own pixels take over
MIN_SCALE, FULL_SCALE = 0.1, 0.4  # areas of the photo in a pixel of a turned head between which its pixels are used
EMPTY_ALPHA = 0.02  # of a matte, below which a pixel is background
MAX_RENDERED_PX = 1024  # a side, of the mesh that says where pixels move
DILATION_PX = 1  # of the object mask, canonical pixels
BAND_ROWS = 256  # rows of the photo changed at once; all of a large photo's would not fit into memory
EPSILON = 1e-6
TINT_PX = 8  # resolution of the colour correction of the GAN's images

Photo = UInt8[np.ndarray, "h w 3"]


def relight(
    result: Result,
    lights: Sequence[tuple[float, float]],
    *,
    strength: float | None = None,
    ambient: float | None = None,
    renderer: Renderer = "mesh",
    device: str = "auto",
) -> Iterator[Photo]:
    """The photo with its object under other lights, one photo at a time.

    Args:
        result: The result.
        lights: Positions (x, y) in the whole photo, not in the turned crop: x to the right, y up, (0, 0) at the camera.
        strength, ambient: As for `pictures.relight`.
        renderer: "mesh" multiplies the photo by the ratio of the new shading to the old one; "gan" by that of the
            brightness of the GAN's images.
        device: Device of the GAN.

    Raises:
        ImageError: The result's photo cannot be read.
        UsageError, WeightsError: As `pictures.relight`.
    """
    check_pairs(lights, "light")
    check_strengths(strength, ambient)
    if renderer == "mesh":
        result = widen(result, "person", MAX_SIZE_PX)
    canvas = Canvas.of(result)
    lights = [result.placement.direction_to_crop(x, y) for x, y in lights]
    relit: Iterator[Float[Tensor, "h w"]]
    if renderer == "mesh":
        shading = render(result.factors, result.camera).shading
        variants = (result.factors.relight(x, y, strength=strength, ambient=ambient) for x, y in lights)
        relit = (render(factors, result.camera).shading for factors in variants)
    else:
        shading = _brightness(result.inverted)
        images = relight_each(result, lights, strength=strength, ambient=ambient, renderer=renderer, device=device)
        relit = map(_brightness, images)
    colours = canvas.crop
    # At the photo's resolution: the background stays unlit.
    if result.outline is None:
        known = (soft_mask(result, result.factors) > 0.5).float()
        mask = refine_mask(result.mask, canvas.crop * 2 - 1)
    else:
        known, mask = (result.mask > 0.5).float(), result.outline
        colours = extend_colours(canvas.crop, mask)  # no gain for the background's share of a mixed pixel
    for new_shading in relit:
        gain = new_shading.clamp(min=MIN_BRIGHTNESS) / shading.clamp(min=MIN_BRIGHTNESS)
        gain = gain.clamp(1 / MAX_GAIN, MAX_GAIN)
        yield canvas.add(colours * canvas.enlarge(inpaint(gain[None] - 1, known)) * mask)


def rotate(
    result: Result, turns: Sequence[tuple[float, float]], *, renderer: Renderer = "mesh", device: str = "auto"
) -> Iterator[Photo]:
    """The photo with its object turned, one photo at a time.

    The turn is about the crop's axes: a head that leans in the photo turns about its own neck. Background that the
    object uncovers is inpainted smoothly; its texture is not continued.

    Args:
        result: The result.
        turns: Angles (yaw, pitch), as for `pictures.rotate`.
        renderer: "mesh" moves the photo's pixels with the surface, and renders what the photo did not show; "gan"
            pastes the GAN's image in the photo's colours.
        device: Device of the GAN.

    Raises:
        ImageError, UsageError, WeightsError: As `relight`.
    """
    check_turns(turns)
    if renderer == "mesh" and (wide := widen(result, "person", MAX_SIZE_PX)).outline is not None:
        yield from _rotate_wide(wide, wide.outline, turns)
        return
    canvas = Canvas.of(result)
    mask = soft_mask(result, result.factors)
    background = canvas.inpaint_object(mask)
    gan_images: Iterator[Float[Tensor, "3 h w"] | None] = repeat(None, len(turns))
    if renderer != "mesh":
        gan_images = rotate_each(result, turns, renderer=renderer, device=device)
    for (yaw, pitch), image in zip(turns, gan_images, strict=True):
        factors = result.factors.rotate(yaw, pitch)
        turned = _move_pixels(canvas, result, factors) if image is None else _match_colours(canvas, result, image)
        turned_mask = soft_mask(result, factors)
        uncovered = canvas.enlarge(_dilate((mask > 0.5) & (turned_mask < 0.5)))
        alpha = canvas.enlarge(turned_mask[None])
        weight = torch.maximum(uncovered, alpha)
        yield canvas.paste(torch.lerp(background, turned, alpha / weight.clamp(min=EPSILON)), weight)


def _rotate_wide(
    result: Result, outline: Float[Tensor, "m m"], turns: Sequence[tuple[float, float]]
) -> Iterator[Photo]:
    """As `rotate`, with the mesh of a result in a wide frame: the head and hair turn over a filled background."""
    canvas = Canvas.of(result)
    mesh, texture = textured_mesh(result, MeshOptions())
    camera = result.camera.resize(min(len(outline), MAX_RENDERED_PX))
    _, z_buffer = rasterize(*transform_mesh(mesh, result.factors.view), camera)
    photo_depth = max_pool2d(z_buffer.nan_to_num(posinf=camera.far).float(), 3, 1, 1)
    colours = extend_colours(canvas.crop, outline)
    hole = _dilate(result.mask > EMPTY_ALPHA)
    background = canvas.enlarge(inpaint(canvas.shrink(result.camera.size), 1 - hole[0]))
    hole = canvas.enlarge(hole)
    for yaw, pitch in turns:
        turned_view = result.factors.rotate(yaw, pitch).view
        neck = _Neck(result, turned_view)
        fragments = rasterize_mesh(mesh, texture.lit.shape[-1], result.factors.view, camera, neck.turn)
        rendered = canvas.enlarge(fragments.sample_texture(texture.lit).image / 2 + 0.5)
        points = canonical_to_view(fragments.points[None], result.factors.view[None], camera)
        nearest = grid_sample(photo_depth[None], points_to_grid(points, camera), padding_mode="border")[0, 0]
        visible = fragments.hit & (points[0, ..., 2] < nearest + OCCLUSION_TOLERANCE)
        # Inpainted, so that interpolation at the outline does not mix in positions of the background.
        places = (project_points(points[0], camera).permute(2, 0, 1) + 0.5) / camera.size
        grid = canvas.enlarge(inpaint(places, fragments.hit.float())).permute(1, 2, 0)[None] * 2 - 1
        moved = _sample_sharply(torch.cat((colours, outline[None])), grid)
        shown = visible * ((_magnification(places * camera.size) - MIN_SCALE) / (FULL_SCALE - MIN_SCALE)).clamp(0, 1)
        weight = canvas.enlarge(avg_pool2d(shown[None], 3, 1, 1, count_include_pad=False))
        alpha = canvas.enlarge(fragments.alpha[0]) * torch.lerp(torch.ones_like(weight), moved[3:], weight)
        turned = torch.lerp(rendered, moved[:3], weight)
        rows = (torch.arange(canvas.crop.shape[-1]) + 0.5) * result.camera.size / canvas.crop.shape[-1]
        moves = (neck.share(rows) / FADE_SHARE).clamp(max=1)[:, None]
        weight = torch.maximum(hole, alpha)
        yield canvas.paste(torch.lerp(background, turned, alpha / weight.clamp(min=EPSILON)), weight * moves)


@dataclass(frozen=True)
class _Neck:
    """A turn of a head on its shoulders, which stay: the photo goes on beyond the frame."""

    result: Result
    turned: Float[Tensor, 6]  # the head's view

    def turn(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Points of the photo's view, moved."""
        camera, view = self.result.camera, self.result.factors.view[None].to(points)
        share = self.share(project_points(points, camera)[:, 1:] + 0.5)
        canonical = view_to_canonical(points[None, None], view, camera)
        moved = canonical_to_view(canonical, self.turned[None].to(points), camera)[0, 0]
        return torch.lerp(points, moved, share.square() * (3 - 2 * share))

    def share(self, row: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """1 at the head, falling to 0 at the shoulders. row: in pixels of the camera, from the frame's upper edge."""
        crop = self.result.photo.shape[-1]
        row = (row - (self.result.camera.size - crop) / 2) / crop
        return ((NECK_END - row) / (NECK_END - NECK_START)).clamp(0, 1)


@dataclass(frozen=True)
class Canvas:
    """A photo and the centre crop in it, at the photo's own resolution.

    photo: the upright photo, halved above 67 megapixels. crop: the centre crop, in [0, 1]. placement: position of the
    crop in the photo.
    """

    photo: Photo
    crop: Float[Tensor, "3 m m"]
    placement: Placement

    @classmethod
    def of(cls, result: Result) -> Canvas:
        """The canvas of a result. Raises ImageError if its photo cannot be read, or is not the one of the report."""
        sha256 = result.report.get("photo_sha256")
        if sha256 and hashlib.sha256(result.original).hexdigest() != sha256:
            raise ImageError("The photo in the result's folder is not the one it was made from.", "Put that one back.")
        picture = read_image(original_path(Path(), result.report), [], result.original)
        crop, aligned_size = result.center_crop, len(result.aligned)
        start = (aligned_size - len(crop)) // 2 / aligned_size
        placement = result.placement.subsquare(start, len(crop) / aligned_size)
        placement = placement.scale(1 / picture.reduction)
        return cls(np.array(picture.colours), torch.from_numpy(crop).permute(2, 0, 1).float() / 255, placement)

    def enlarge(self, maps: Float[Tensor, "c h h"]) -> Float[Tensor, "c m m"]:
        """Maps of the crop at the crop's resolution."""
        size = self.crop.shape[-1]
        return interpolate(maps[None], size=(size, size), mode="bilinear", align_corners=False)[0]

    def shrink(self, size: int) -> Float[Tensor, "3 s s"]:
        """The crop at a lower resolution."""
        return interpolate(self.crop[None], size=(size, size), mode="area")[0]

    def inpaint_object(self, mask: Float[Tensor, "h w"]) -> Float[Tensor, "3 m m"]:
        """The crop with the object of a mask inpainted."""
        known = 1 - _dilate(mask > 0)[0]
        return self.enlarge(inpaint(self.shrink(len(known)), known))

    def add(self, change: Float[Tensor, "3 m m"]) -> Photo:
        """The photo plus a change of the crop, blended at edges beyond which the photo goes on."""
        return self._composite(change, torch.zeros_like(change[:1]), "bilinear")

    def paste(self, image: Float[Tensor, "3 m m"], weight: Float[Tensor, "1 m m"]) -> Photo:
        """The photo with an image of the crop in its place, as far as its weight says; blended as `add`."""
        return self._composite(image * weight, weight, "bicubic")

    def _composite(self, colours: Float[Tensor, "3 m m"], alpha: Float[Tensor, "1 m m"], interpolation: str) -> Photo:
        """Colours, which are multiplied by their alpha, over the photo."""
        height, width, _ = self.photo.shape
        corners = self.placement.to_photo(np.array(((0.0, 0), (1, 0), (0, 1), (1, 1))))
        left, top = np.floor(corners.min(axis=0)).clip(0).astype(int)
        right, bottom = np.minimum(np.ceil(corners.max(axis=0)) + 1, (width, height)).astype(int)
        layer, photo = (torch.cat((colours, alpha)) * self._blend_weight())[None], self.photo.copy()
        for first in range(top, bottom, BAND_ROWS):
            band = photo[first : min(first + BAND_ROWS, bottom), left:right]
            rows, columns = np.indices(band.shape[:2], dtype=float)
            shares = self.placement.to_crop(np.stack((columns + left, rows + first), axis=-1))
            # Without aligned corners the grid's -1 and 1 are the crop's edges.
            grid = torch.from_numpy(shares * 2 - 1).float()[None]
            sampled = functional.grid_sample(layer, grid, mode=interpolation, align_corners=False)[0]
            warped = sampled.permute(1, 2, 0).numpy()
            band[:] = (band * (1 - warped[..., 3:]) + warped[..., :3] * 255).round().clip(0, 255)
        return photo

    def _blend_weight(self) -> Float[Tensor, "m m"]:
        """1 inside, falling to 0 at those edges of the crop that lie inside the photo."""
        size, (height, width) = self.crop.shape[-1], self.photo.shape[:2]
        ramp = ((torch.arange(size) + 0.5) / size / BLEND_SHARE).clamp(max=1)
        ones = torch.ones(size)
        left, top, right, bottom = (
            1 < x + 0.5 < width - 1 and 1 < y + 0.5 < height - 1
            for x, y in self.placement.to_photo(np.array(((0, 0.5), (0.5, 0), (1, 0.5), (0.5, 1))))
        )
        across = (ramp if left else ones) * (ramp.flip(0) if right else ones)
        down = (ramp if top else ones) * (ramp.flip(0) if bottom else ones)
        return down[:, None] * across


def _move_pixels(canvas: Canvas, result: Result, factors: Factors) -> Float[Tensor, "3 m m"]:
    """The object in the view of `factors`: the photo's pixels where the photo shows the surface, else the rendering."""
    camera = result.camera
    depth = render_depth_with_margin(factors.depth[None], factors.view[None], camera)
    points = view_to_canonical(unproject_points(depth, camera), factors.view[None], camera)
    photo_points = canonical_to_view(points, result.factors.view[None], camera)
    pixels = project_points(photo_points, camera)
    photo_depth = render(result.factors, camera).depth[None, None]
    nearest = grid_sample(photo_depth, normalize_pixels(pixels, camera), padding_mode="border")[0, 0]
    on_surface = depth[0] < VIEW_FAR
    in_frame = ((pixels >= 0) & (pixels <= camera.size - 1)).all(dim=-1)[0]
    visible = on_surface & in_frame & (photo_points[0, ..., 2] < nearest + OCCLUSION_TOLERANCE)
    # Inpainted, so that interpolation at the outline does not mix in positions of the background.
    shares = inpaint((pixels[0].permute(2, 0, 1) + 0.5) / camera.size, on_surface.float())
    grid = canvas.enlarge(shares).permute(1, 2, 0)[None] * 2 - 1
    moved = _sample_sharply(canvas.crop, grid)
    weight = canvas.enlarge(avg_pool2d(visible.float()[None], 3, 1, 1, count_include_pad=False))
    rendered = canvas.enlarge(render(factors, camera).image / 2 + 0.5)
    return moved * weight + rendered * (1 - weight)


def _magnification(places: Float[Tensor, "2 h w"]) -> Float[Tensor, "h w"]:
    """The photo's area that each pixel shows, in pixels: small where the photo sees the surface at a grazing angle."""
    (x_down, x_right), (y_down, y_right) = (torch.gradient(one) for one in places)
    return (x_right * y_down - x_down * y_right).abs()


def _sample_sharply(maps: Float[Tensor, "c m m"], grid: Float[Tensor, "1 m m 2"]) -> Float[Tensor, "c m m"]:
    """Maps in [0, 1] at the places of a grid; bilinear interpolation would blur a small photo."""
    sampled = functional.grid_sample(maps[None], grid, mode="bicubic", padding_mode="border", align_corners=False)[0]
    return sampled.clamp(0, 1)


def _match_colours(canvas: Canvas, result: Result, image: Float[Tensor, "3 h w"]) -> Float[Tensor, "3 m m"]:
    """An image of the GAN, plus the low-pass difference between the photo and G(w)."""
    inverted = interpolate(result.inverted[None] / 2 + 0.5, size=(TINT_PX, TINT_PX), mode="area")[0]
    return canvas.enlarge(image / 2 + 0.5) + canvas.enlarge(canvas.shrink(TINT_PX) - inverted)


def _dilate(mask: Bool[Tensor, "h w"]) -> Float[Tensor, "1 h w"]:
    """A mask and its neighbouring pixels, in which the photo shows some of the object, too."""
    return max_pool2d(mask.float()[None], 2 * DILATION_PX + 1, 1, DILATION_PX)


def _brightness(image: Float[Tensor, "3 h w"]) -> Float[Tensor, "h w"]:
    """Mean of the channels, from 0 to 1, blurred over detail that differs between two images of a GAN."""
    return avg_pool2d((image / 2 + 0.5).mean(dim=0)[None], 5, 1, 2, count_include_pad=False)[0]
