"""A contact sheet: pictures of one size in rows, as one picture."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image


def contact_sheet(tiles: Sequence[Image.Image], columns: int) -> Image.Image:
    """Tiles in rows of `columns`, from the upper left; what the last row lacks is white."""
    width, height = tiles[0].size
    sheet = Image.new("RGB", (columns * width, -(-len(tiles) // columns) * height), "white")
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        sheet.paste(tile, (column * width, row * height))
    return sheet
