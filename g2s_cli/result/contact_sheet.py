"""Contact sheets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from PIL import Image, ImageDraw, ImageFont

from g2s_cli.geometry.image import to_uint8
from g2s_cli.geometry.shading import light_from_position
from g2s_cli.mesh.render import render_mesh
from g2s_cli.mesh.texture import relight_texture
from g2s_cli.result.pictures import picture_mesh
from g2s_cli.result.schema import Result
from g2s_cli.result.wide import photo_on_white

TURN_DEG = 25.0
SIDE_LIGHT, SHAPE_LIGHT = 0.8, (-0.4, 0.5)  # positions as for `g2s relight`
SHAPE_STRENGTHS = 0.3, 0.7  # ambient and diffuse light on the shape without its texture
CLAY = 0.3  # albedo of the shape without its texture, in [-1, 1]
COLUMNS = (
    "photo",
    "shape",
    f"yaw -{TURN_DEG:g}°",
    "yaw 0°",
    f"yaw {TURN_DEG:g}°",
    f"light -{SIDE_LIGHT:g},0",
    f"light {SIDE_LIGHT:g},0",
)
LABEL_SHARE = 1 / 12  # height of a label, as a share of a tile's


def contact_sheet(tiles: Sequence[Image.Image], columns: int) -> Image.Image:
    """Images of one size in rows of `columns`; missing ones in the last row are white."""
    width, height = tiles[0].size
    sheet = Image.new("RGB", (columns * width, -(-len(tiles) // columns) * height), "white")
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        sheet.paste(tile, (column * width, row * height))
    return sheet


def result_sheet(results: Iterable[tuple[str, Result]], size: int) -> Image.Image:
    """Results below one another: photo, shape, three sides and two lights, under their names.

    Args:
        results: Names and results.
        size: Pixels a side of a picture.
    """
    rows = [(name, result_tiles(result, size)) for name, result in results]
    label, width = max(12, round(size * LABEL_SHARE)), len(COLUMNS) * size
    sheet = Image.new("RGB", (width, label + len(rows) * (label + size)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(0.75 * label)
    for column, title in enumerate(COLUMNS):
        draw.text((column * size + size / 2, label / 2), title, "black", font, "mm")
    for number, (name, tiles) in enumerate(rows):
        top = label + number * (label + size)
        draw.text((label / 2, top + label / 2), name, "black", font, "lm")
        sheet.paste(contact_sheet(tiles, len(COLUMNS)), (0, top + label))
    return sheet


def result_tiles(result: Result, size: int) -> list[Image.Image]:
    """The pictures of a result that `COLUMNS` names."""
    result, mesh, texture = picture_mesh(result)
    clay = replace(texture, albedo=torch.full_like(texture.albedo, CLAY))
    camera, factors = result.camera.resize(size), result.factors
    turn = math.radians(TURN_DEG)
    neutral = replace(factors, light=light_from_position(*SHAPE_LIGHT, *SHAPE_STRENGTHS, factors.view))
    variants = [(relight_texture(clay, neutral, result.camera), factors.view)]
    variants += [(texture.lit, factors.rotate(yaw, 0.0).view) for yaw in (-turn, 0.0, turn)]
    variants += [
        (relight_texture(texture, factors.relight(x, 0.0), result.camera), factors.view)
        for x in (-SIDE_LIGHT, SIDE_LIGHT)
    ]
    photo = Image.fromarray(photo_on_white(result)).resize((size, size), Image.Resampling.LANCZOS)
    renderings = (render_mesh(mesh, texels, view, camera).on_white for texels, view in variants)
    return [photo, *(Image.fromarray(to_uint8(rendering)) for rendering in renderings)]
