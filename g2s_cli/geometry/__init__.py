"""geometry."""

from typing import Literal

Rasterizer = Literal["torch", "pytorch3d"]
RASTERIZER_VARIABLE = "G2S_RASTERIZER"  # of the environment, so that worker processes inherit it
