"""g2s: one photo in, a relightable 3D shape out, by way of a pretrained 2D GAN.

from g2s_cli import reconstruct
result = reconstruct("face.png", category="synface")
result.save("out/")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from g2s_cli.mesh.export import MeshOptions
    from g2s_cli.photo.align import CropOptions
    from g2s_cli.pipeline import reconstruct, relight, rotate
    from g2s_cli.result.read import read_result
    from g2s_cli.result.schema import Result
    from g2s_cli.weights.registry import Sources

__version__ = "0.1.0"
__all__ = [
    "CropOptions",
    "Detail",
    "Result",
    "Sources",
    "__version__",
    "read_result",
    "reconstruct",
    "relight",
    "rotate",
]

_PLACES = {
    "reconstruct": "pipeline",
    "relight": "pipeline",
    "rotate": "pipeline",
    "Result": "result.folder",
    "read_result": "result.folder",
    "Detail": "mesh.export",
    "CropOptions": "photo.align",
    "Sources": "weights.registry",
}


def __getattr__(name: str) -> Any:
    """Load what needs torch only when it is asked for, so that `g2s --help` is quick."""
    if name in _PLACES:
        return getattr(import_module(f"g2s_cli.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """What completion offers, loaded or not."""
    return __all__
