"""Contact sheets."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image


def contact_sheet(tiles: Sequence[Image.Image], columns: int) -> Image.Image:
    """Images of one size in rows of `columns`; missing ones in the last row are white."""
    width, height = tiles[0].size
    sheet = Image.new("RGB", (columns * width, -(-len(tiles) // columns) * height), "white")
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        sheet.paste(tile, (column * width, row * height))
    return sheet
