"""g2s: one photo in, a relightable 3D shape out, by way of a pretrained 2D GAN.

from g2s_cli import load
pipeline = load("portrait")
result = pipeline("face.png")
result.save("out/")
"""

from __future__ import annotations

from importlib import import_module
from time import perf_counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from g2s_cli.mesh.options import MeshOptions
    from g2s_cli.options import ReconstructOptions
    from g2s_cli.photo.align import CropOptions
    from g2s_cli.pipeline import Pipeline, load, reconstruct
    from g2s_cli.result.pictures import relight, rotate
    from g2s_cli.result.read import read_result
    from g2s_cli.result.schema import Result
    from g2s_cli.weights.registry import Sources

__version__ = "0.1.0"
STARTED_S = perf_counter()  # of the process, as far as it can know
__all__ = [
    "CropOptions",
    "MeshOptions",
    "Pipeline",
    "ReconstructOptions",
    "Result",
    "Sources",
    "__version__",
    "load",
    "read_result",
    "reconstruct",
    "relight",
    "rotate",
]

_MODULES = {
    "CropOptions": "photo.align",
    "MeshOptions": "mesh.export",
    "Pipeline": "pipeline",
    "ReconstructOptions": "options",
    "Result": "result.schema",
    "Sources": "weights.registry",
    "load": "pipeline",
    "read_result": "result.read",
    "reconstruct": "pipeline",
    "relight": "result.pictures",
    "rotate": "result.pictures",
}


def __getattr__(name: str) -> Any:
    """Import what needs torch only when it is asked for, so that `g2s --help` is quick."""
    if name in _MODULES:
        return getattr(import_module(f"g2s_cli.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """What completion offers, imported or not."""
    return __all__
