"""Pictures in rows."""

from __future__ import annotations

import numpy as np
from PIL import Image

from g2s_cli.result.contact_sheet import contact_sheet


def test_rows_are_filled_from_the_upper_left_and_the_rest_is_white() -> None:
    colours = [(10 * number, 0, 0) for number in range(5)]
    sheet = contact_sheet([Image.new("RGB", (4, 2), colour) for colour in colours], columns=3)
    assert sheet.size == (12, 4)
    cells = np.asarray(sheet).reshape(2, 2, 3, 4, 3).swapaxes(1, 2).reshape(6, 8, 3)
    assert [set(map(tuple, cell)) for cell in cells.tolist()] == [{colour} for colour in [*colours, (255, 255, 255)]]
