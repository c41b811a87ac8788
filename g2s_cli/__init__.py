"""g2s: one photo in, a relightable 3D shape out, by way of a pretrained 2D GAN.

from g2s_cli import reconstruct
made = reconstruct("face.png", category="synface")
made.save("out/")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from g2s_cli.pipeline import reconstruct, relight, rotate
    from g2s_cli.result import Reconstruction, read_result

__version__ = "0.1.0"
__all__ = ["Reconstruction", "__version__", "read_result", "reconstruct", "relight", "rotate"]


def __getattr__(name: str) -> Any:
    """Load what needs torch only when it is asked for, so that `g2s --help` is quick."""
    if name in {"reconstruct", "relight", "rotate"}:
        from g2s_cli import pipeline  # noqa: PLC0415

        return getattr(pipeline, name)
    if name in {"Reconstruction", "read_result"}:
        from g2s_cli import result  # noqa: PLC0415

        return getattr(result, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
