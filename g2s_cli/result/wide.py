"""A result in a wider frame of its photo: the whole head, or the whole person, around the tight crop."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate, max_pool2d

from g2s_cli.geometry.camera import Camera
from g2s_cli.geometry.placement import Placement
from g2s_cli.geometry.resample import center_slice, resize_area
from g2s_cli.mesh.extend import Wide, extend_factors
from g2s_cli.mesh.options import Extent
from g2s_cli.photo.crop import crop_photo
from g2s_cli.photo.decode import read_image
from g2s_cli.result.schema import Result, original_path
from g2s_cli.segmentation.gan_features import spread_maxima

MAX_SPAN: dict[Extent, float] = {"head": 2.0, "person": 4.0}  # of the wide frame, in sides of the tight crop
SIZE_PX, MAX_SIZE_PX = 2048, 3072  # of the wide crop, a side: textures of default size show no more than the first
MARGIN = 1.04  # of the frame around the object


def widen(result: Result, extent: Extent | None = None, size_px: int | None = None) -> Result:
    """The result in a frame around the whole head or person, as large as the matte and the photo need.

    Its depth is the method's in the tight crop and continues over the matte (`mesh.extend`). Results without a matte,
    and those that are wide already, are returned as they are.

    Args:
        extent: by default that of the result's report, else "head".
        size_px: the most pixels a side that are of use, such as those of the texture.

    Raises:
        ImageError: the photo in the result cannot be read.
    """
    extent = extent or result.extent
    if result.matte is None or extent == "crop":
        return result
    picture = read_image(original_path(Path(), result.report), [], result.original)
    photo, kept = picture.colours, center_slice(len(result.aligned), result.frame_share)
    decoded = result.placement.scale(1 / picture.reduction)
    tight = decoded.subsquare(kept.start / len(result.aligned), result.frame_share)
    camera = _frame(result, photo, tight, min(MAX_SPAN[extent], result.matte.span / result.frame_share))
    placement = _placement(tight, result.camera, camera)
    most = min(max(size_px or SIZE_PX, SIZE_PX), MAX_SIZE_PX)
    size = min(round(len(result.center_crop) * camera.size / result.camera.size), most)
    with ThreadPoolExecutor(1) as pool:
        aligned = pool.submit(crop_photo, photo, placement, size)  # takes as long as the rest
        mirrored = _matte(result, camera, camera.size)
        domain = _component(mirrored >= 0.5, result.camera.size)
        outline = _matte(result, camera, size) * _inside(photo.size, placement, size)
        # Other people in the photo are no part of the object.
        outline = outline * interpolate(max_pool2d(domain.float()[None, None], 3, 1, 1), size=(size, size))[0, 0]
        factors, support = extend_factors(result.factors, result.mask, result.camera, Wide(camera, domain))
    return replace(
        result,
        aligned=np.array(aligned.result()),
        placement=placement.scale(float(picture.reduction)),
        mask=resize_area(outline[None], camera.size)[0],
        factors=factors,
        camera=camera,
        frame_share=1.0,
        matte=None,
        outline=outline,
        support=support,
    )


def photo_on_white(result: Result) -> UInt8[np.ndarray, "m m 3"]:
    """The photo in the frame of a result's depth map, white beyond its edges. Raises ImageError as `widen`."""
    crop, share = result.center_crop, result.frame_share
    size = read_image(original_path(Path(), result.report), [], result.original).size
    inside = _inside(size, result.placement.subsquare((1 - share) / 2, share), len(crop))[..., None].numpy()
    return (crop * inside + 255 * (1 - inside)).round().astype(np.uint8)


def _frame(result: Result, photo: Image.Image, tight: Placement, max_span: float) -> Camera:
    """The camera of the smallest frame around the tight crop that holds the object, within a largest span."""
    widest = _camera_of_span(result.camera, max_span)
    inside = _inside(photo.size, _placement(tight, result.camera, widest), widest.size) > 0.5
    domain = _component((_matte(result, widest, widest.size) >= 0.5) & inside, result.camera.size)
    rows, columns = domain.nonzero().T
    reach = (torch.cat((rows, columns)).float() - widest.centre).abs().max().item() if len(rows) else 0.0
    return _camera_of_span(result.camera, min(max_span, MARGIN * 2 * reach / result.camera.size))


def _camera_of_span(camera: Camera, span: float) -> Camera:
    return camera.widen(max(0, round(camera.size * (span - 1) / 2)))


def _placement(tight: Placement, camera: Camera, wide: Camera) -> Placement:
    return replace(tight, side=tight.side * wide.size / camera.size)


def _matte(result: Result, wide: Camera, size: int) -> Float[Tensor, "n n"]:
    """The result's matte in a frame, mirrored beyond the photo's edges, at a size."""
    assert result.matte is not None
    alpha = Image.fromarray(result.matte.alpha)
    share = wide.size / result.camera.size * result.frame_share / result.matte.span
    start, stop = ((1 + sign * share) / 2 * alpha.width for sign in (-1, 1))
    crop = alpha.resize((size, size), Image.Resampling.BILINEAR, box=(max(start, 0), max(start, 0), stop, stop))
    return torch.from_numpy(np.array(crop)).float() / 255


def _inside(photo_size: tuple[int, int], placement: Placement, size: int) -> Float[Tensor, "n n"]:
    """1 inside the photo, 0 beyond its edges, which are one pixel of the crop wide."""
    index = torch.arange(size, dtype=torch.float32)
    inside = torch.ones(size, size)
    for (right, below, origin), length in zip(placement.matrix(size).tolist(), photo_size, strict=True):
        # In the photo's pixels, whose centres are whole numbers.
        place = origin + right * index + below * index[:, None]
        distance = torch.minimum(place + 0.5, length - 0.5 - place)
        inside = torch.minimum(inside, (distance / math.hypot(right, below) + 0.5).clamp(0, 1))
    return inside


def _component(mask: Bool[Tensor, "h h"], seed_size: int) -> Bool[Tensor, "h h"]:
    """The part of a mask that is connected with it in the middle square of `seed_size` pixels."""
    middle = center_slice(len(mask), seed_size / len(mask))
    inside = mask.float()[None, None]
    seeds = torch.zeros_like(inside)
    seeds[..., middle, middle] = inside[..., middle, middle]
    return spread_maxima(seeds, inside)[0, 0] > 0
