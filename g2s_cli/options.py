"""The options of `reconstruct`, shared by the command, the Python API and batches, and of runs. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from g2s_cli.mesh.options import MeshOptions

if TYPE_CHECKING:
    from g2s_cli.photo.align import CropOptions
    from g2s_cli.weights.registry import Sources

Background = Literal["keep", "remove"]
FilmFormat = Literal["gif", "mp4", "webm", "webp"]
Renderer = Literal["mesh", "gan"]
Symmetry = Literal["on", "off", "first-stage"]
DEFAULT_CATEGORY = "portrait"


@dataclass(frozen=True)
class ReconstructOptions:
    """What the user chooses for a reconstruction; the same for every photo of a batch. None is the default named here.

    Attributes:
        category: what the photo shows: a folder of `models/` or of the cache. None: "own" with `gan`, else "portrait".
        preset: which estimators run, and for how many iterations (the category's model.toml).
        iterations: at most this many iterations a step, for a quick try. None: the preset's.
        symmetry: whether the object's left and right half are alike. None: the preset's.
        background: whether the losses cover the pixels behind the object ("keep") or not ("remove"). None: the
            preset's.
        gan: a StyleGAN2 checkpoint to use instead of the category's.
        latent: FILE or FILE:ROW with the photo's latent w, which replaces the inversion. For one photo only.
        seed: of every random draw, 0 to 2^64 - 1. The same seed on the same machine gives the same result.
        crop: where the object lies in the photo, and its mask. None: a face is detected in categories of faces, else
            the centre square is taken.
        sources: where missing weights are fetched from. None: the environment's (`Sources.from_environment`).
        detail: resolution of the meshes and textures that are written, and the solid body.
    """

    category: str | None = None
    preset: str = "fast"
    iterations: int | None = None
    symmetry: Symmetry | None = None
    background: Background | None = None
    gan: Path | None = None
    latent: Path | None = None
    seed: int = 0
    crop: CropOptions | None = None
    sources: Sources | None = None
    detail: MeshOptions = field(default_factory=MeshOptions)

    @property
    def category_name(self) -> str:
        """The category, or its default."""
        return self.category or ("own" if self.gan else DEFAULT_CATEGORY)


@dataclass(frozen=True)
class Execution:
    """Where the photos of a run are reconstructed; it changes no result.

    Attributes:
        device: as --device.
        workers: the most processes, or workers of the cluster. None: one process, or the whole cluster.
        ray: the address of a Ray cluster. None: this machine.
    """

    device: str = "auto"
    workers: int | None = None
    ray: str | None = None
