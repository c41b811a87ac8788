"""A worker: loads a category once, and reconstructs photos."""

from __future__ import annotations

import pickle
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from g2s_cli.errors import as_g2s_error, try_call
from g2s_cli.loading import Plan
from g2s_cli.machine import Machine
from g2s_cli.mesh.options import MeshOptions
from g2s_cli.pipeline import INVERSION_BATCH, Pipeline
from g2s_cli.result.schema import Result
from g2s_cli.result.write import ResultFiles, write_result

Reconstruction = Result | ResultFiles | Exception


@dataclass(frozen=True)
class Work:
    """The work of all workers of a run.

    Attributes:
        plan: what is loaded.
        detail: sizes of the meshes, which workers write; they send the files of each result's folder. None: they send
            results.
    """

    plan: Plan
    detail: MeshOptions | None

    @property
    def batch(self) -> int:
        """Photos that a worker gets at once, at most."""
        return 1 if self.plan.preset.schedule else INVERSION_BATCH


@dataclass(frozen=True)
class LoadFailure:
    """The category cannot be loaded, by any worker."""

    error: Exception


class Worker:
    """Reconstructs photos on a device, with a number of threads. The first call loads the category."""

    def __init__(self, work: Work, device: str, threads: int) -> None:
        self.work, self.device = work, device
        self._pipeline: Pipeline | None = None
        torch.set_num_threads(threads)

    def __call__(self, photos: Sequence[Path]) -> Iterator[Reconstruction | LoadFailure]:
        """The reconstructions of photos, in order; all can be pickled."""
        pipeline = try_call(self._load) if self._pipeline is None else self._pipeline
        if isinstance(pipeline, Exception):
            yield LoadFailure(_picklable(pipeline))
            return
        # Of the seconds of loading each of the first photos gets a share, further ones none.
        self._pipeline = replace(pipeline, loaded=replace(pipeline.loaded, seconds=0.0)) if photos else pipeline
        for result in pipeline.each(photos):
            packed = try_call(self._pack, result) if isinstance(result, Result) else result
            yield _picklable(packed) if isinstance(packed, Exception) else packed

    def _load(self) -> Pipeline:
        return Pipeline.of(self.work.plan, Machine.named(self.device))

    def _pack(self, result: Result) -> Result | ResultFiles:
        if self.work.detail is None:
            return result
        with tempfile.TemporaryDirectory(prefix="g2s-") as folder:
            report = write_result(result, Path(folder), detail=self.work.detail)
            return ResultFiles.read(Path(folder), report)


def _picklable(error: Exception) -> Exception:
    """The error with its traceback as a note, which pickle would drop; as a G2SError if it cannot be pickled."""
    trace = "".join(traceback.format_exception(error))
    copy = try_call(lambda: pickle.loads(pickle.dumps(error)))
    portable = error if type(copy) is type(error) else as_g2s_error(error)
    portable.add_note(trace)
    return portable
