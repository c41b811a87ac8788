"""Evaluate photos with known depth one by one into a resumable folder (paper, section 4.1).

The ground truth is used for the metrics alone. Prediction and truth are compared at the working size inside both masks,
each eroded by one pixel. A photo whose masks do not overlap is missed: its errors are NaN (null in files).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from g2s_cli.config import Category
from g2s_cli.errors import G2SError
from g2s_cli.evaluation.ground_truth import DepthPair, GroundTruth, read_ground_truth
from g2s_cli.executors.execution import Executor
from g2s_cli.files import RESUME_REMEDY, atomic_write, convert_write_errors, sha256_of_input
from g2s_cli.geometry.camera import Camera
from g2s_cli.geometry.factors import Factors
from g2s_cli.geometry.image import to_uint8
from g2s_cli.geometry.metrics import coverage, erode, mad_deg, side_error
from g2s_cli.geometry.rasterizer import VIEW_FAR
from g2s_cli.geometry.render import photo_depth, render
from g2s_cli.result.contact_sheet import contact_sheet
from g2s_cli.result.schema import Result
from g2s_cli.result.surface import render_on_white
from g2s_cli.run_folder import open_run_folder

VERB = "g2s evaluate"
ROWS = "rows.jsonl"
TILE_PX = 128
# Depth range of the grey tiles, and depth error of the full colours, scene units.
NEAR_SHOWN, FAR_SHOWN, ERROR_SHOWN = 0.93, 1.07, 0.02


@dataclass(frozen=True)
class ImageMetrics:
    """The metrics of one photo.

    side_e2: scale-invariant depth error, in hundredths.
    mad_deg: mean angle deviation of the normals, degrees.
    coverage: share of the true mask that the predicted one covers.
    inputs_sha256: hash of the photo and its depth image, to tell data sets of the same names apart.
    """

    image: str
    side_e2: float
    mad_deg: float
    coverage: float
    inversion_psnr_db: float
    seconds: float
    inputs_sha256: str

    @property
    def missed(self) -> bool:
        """Whether the predicted mask does not overlap the true one."""
        return math.isnan(self.side_e2)


def depth_metrics(
    depth: Float[Tensor, "h w"], mask: Bool[Tensor, "h w"], truth: GroundTruth, camera: Camera
) -> dict[str, float]:
    """SIDE, MAD and coverage of a depth map; SIDE and MAD are NaN if the masks do not overlap."""
    both = erode(mask[None]) & erode(truth.mask[None])
    return {
        "side_e2": 100 * side_error(depth[None], truth.depth[None], both).item(),
        "mad_deg": mad_deg(depth[None], truth.depth[None], both, camera).item(),
        "coverage": coverage(mask[None], truth.mask[None]).item(),
    }


def evaluate_factors(
    factors: Factors, mask: Float[Tensor, "h w"], camera: Camera, truth: GroundTruth
) -> tuple[Float[Tensor, "h w"], dict[str, float]]:
    """The depth map in the photo's view, NaN where no surface is, and its `depth_metrics`."""
    depth = photo_depth(render(factors, camera), factors, mask, camera)
    return depth, depth_metrics(depth.nan_to_num(VIEW_FAR), ~depth.isnan(), truth, camera)


def evaluate(
    pairs: Sequence[DepthPair],
    category: Category,
    folder: Path,
    execute: Executor,
    settings: Mapping[str, object],
) -> Iterator[ImageMetrics]:
    """Evaluate photos, and yield the metrics of each as soon as they are known.

    Photos whose metrics are in `folder` already are not run again, and come first.

    Args:
        pairs: Photos and their depth images.
        category: Their category, for the working size and the centre crop.
        folder: The run folder; it gets metrics and a panel of images for every photo.
        execute: Reconstructs photos.
        settings: What the metrics depend on beside the pair.

    Raises:
        UsageError: The folder is of other settings, or another process works in it.
        ImageError: A file cannot be read.
        G2SError: The disk refuses. The first exception that `execute` yields is raised, too.
    """
    with open_run_folder(folder, settings, VERB):
        hashes = {pair: _sha256_of_pair(pair) for pair in pairs}
        rows = _read_rows(folder)
        pending = []
        for pair in pairs:
            row = rows.get(pair.photo.name)
            if row and row.inputs_sha256 == hashes[pair]:
                yield row
            else:
                pending.append(pair)
        for index, result in execute([pair.photo for pair in pending]) if pending else ():
            if isinstance(result, Exception):
                raise result
            if not isinstance(result, Result):
                raise TypeError("a worker has packed a result that is to be evaluated")
            yield _evaluate_result(result, pending[index], hashes[pending[index]], category, folder)


def panel_path(folder: Path, image: str) -> Path:
    """Path of the panel of a photo."""
    return folder / "pictures" / f"{Path(image).stem}.png"


def nan_to_none(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The figures with None for NaN, which JSON does not know."""
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in figures.items()}


def _sha256_of_pair(pair: DepthPair) -> str:
    digest = hashlib.sha256()
    for path in (pair.photo, pair.depth):
        digest.update(bytes.fromhex(sha256_of_input(path)))
    return digest.hexdigest()


def _evaluate_result(
    result: Result, pair: DepthPair, inputs_sha256: str, category: Category, folder: Path
) -> ImageMetrics:
    """The metrics of a result; writes them and its panel."""
    truth = read_ground_truth(pair.depth, category.frame_share, category.working_size)
    depth, metrics = evaluate_factors(result.factors, result.mask, result.camera, truth)
    facts: dict[str, Any] = metrics | {"inversion_psnr_db": result.report["inversion_psnr_db"]}
    row = ImageMetrics(pair.photo.name, **facts, seconds=result.report["seconds"]["total"], inputs_sha256=inputs_sha256)
    panel = _panel(result, depth, truth)
    with atomic_write(panel_path(folder, row.image), RESUME_REMEDY) as temporary:
        panel.save(temporary, "PNG")
    with convert_write_errors(folder / ROWS, RESUME_REMEDY), (folder / ROWS).open("a") as file:
        file.write(_to_line(row))
    return row


def _read_rows(folder: Path) -> dict[str, ImageMetrics]:
    """Metrics of an earlier run by the photo's name, the last ones of each. An incomplete last line is deleted.

    Raises G2SError if they cannot be read, or if the disk refuses.
    """
    path, rows = folder / ROWS, []
    try:
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        for number, line in enumerate(lines, start=1):
            try:
                rows.append(_from_line(line))
            except ValueError:
                # A kill or a full disk leaves half of the last line.
                if number < len(lines):
                    raise
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise G2SError(f"{folder} is damaged: {error}.", "Delete it and evaluate again.") from error
    if (text := "".join(map(_to_line, rows))) != "".join(lines):
        with atomic_write(path, RESUME_REMEDY) as temporary:
            temporary.write_text(text)
    return {row.image: row for row in rows}


def _to_line(row: ImageMetrics) -> str:
    return json.dumps(nan_to_none(asdict(row))) + "\n"


def _from_line(line: str) -> ImageMetrics:
    """Metrics of a line. Raises ValueError, TypeError or AttributeError if it holds none."""
    figures: dict[str, Any] = {name: math.nan if value is None else value for name, value in json.loads(line).items()}
    return ImageMetrics(**figures)


def _panel(result: Result, depth: Float[Tensor, "h w"], truth: GroundTruth) -> Image.Image:
    """Photo, G(w), rendering, depth, true depth, and the depth error less its mean: red is too far, blue too near."""
    both = truth.mask & ~depth.isnan()
    error = torch.where(both, depth - truth.depth - (depth - truth.depth)[both].mean(), 0.0) / ERROR_SHOWN
    tint = torch.stack((1 - (-error).clamp(0, 1), 1 - error.abs().clamp(0, 1), 1 - error.clamp(0, 1))) * 2 - 1
    depths = (depth.nan_to_num(FAR_SHOWN), torch.where(truth.mask, truth.depth, FAR_SHOWN))
    grey = [((FAR_SHOWN - one) / (FAR_SHOWN - NEAR_SHOWN)).clamp(0, 1).expand(3, -1, -1) * 2 - 1 for one in depths]
    tiles = [result.photo, result.inverted, render_on_white(result, result.factors), *grey, tint]
    images = [Image.fromarray(to_uint8(tile)).resize((TILE_PX, TILE_PX), Image.Resampling.NEAREST) for tile in tiles]
    return contact_sheet(images, columns=len(images))
