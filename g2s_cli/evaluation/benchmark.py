"""How good the shapes are on data with known depth (paper 4.1): photo by photo, resumable, beside trivial answers.

The truth is used for scoring alone. Prediction and truth are compared at the working size inside both masks, each
eroded by one pixel. A photo whose masks have no pixel in common was missed: its errors are NaN, null in files, and
it is counted apart.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

from g2s_cli.errors import G2SError
from g2s_cli.estimators.gan2shape.cycles import camera_of
from g2s_cli.evaluation.ground_truth import DepthPair, GroundTruth, read_ground_truth
from g2s_cli.files import RESUME_REMEDY, atomic_write, convert_write_errors, sha256_of_input
from g2s_cli.geometry.camera import Camera
from g2s_cli.geometry.factors import Factors
from g2s_cli.geometry.metrics import coverage, eroded, mad_deg, side
from g2s_cli.geometry.rasterizer import VIEW_FAR
from g2s_cli.geometry.render import photo_depth, render
from g2s_cli.mesh.extract import to_bytes
from g2s_cli.result.contact_sheet import contact_sheet
from g2s_cli.result.schema import Result
from g2s_cli.result.surface import render_on_white
from g2s_cli.run_folder import open_run_folder
from g2s_cli.weights.catalog import Category

VERB = "g2s evaluate"
ROWS, TABLE, SUMMARY, WORST = "rows.jsonl", "images.csv", "summary.json", "worst.png"
FIGURES = ("side_e2", "mad_deg", "coverage", "inversion_psnr_db", "seconds")
WORST_COUNT = 8
TILE_PX = 128
NEAR_SHOWN, FAR_SHOWN = 0.93, 1.07  # scene units
ERROR_SPAN = 0.02  # scene units of depth error that the sheet paints in full colour


@dataclass(frozen=True)
class ImageMetrics:
    """One photo's score.

    side_e2: SIDE in hundredths. mad_deg: degrees. coverage: the share of the true mask seen. inputs_sha256: of photo
    and depth image, whose names alone do not tell two data sets apart.
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
        """Whether no pixel of the object was found, so that there is nothing to score."""
        return math.isnan(self.side_e2)


@dataclass(frozen=True)
class Baseline:
    """What an answer that does not look at the photo scores, on average; None where no truth is large enough."""

    name: str
    side_e2: float | None
    mad_deg: float | None


def depth_metrics(depth: Tensor, mask: Tensor, truth: GroundTruth, camera: Camera) -> dict[str, float]:
    """SIDE, MAD and coverage of a depth map (h w) and its mask; SIDE and MAD are NaN where no pixel counts."""
    both = eroded(mask[None]) & eroded(truth.mask[None])
    return {
        "side_e2": 100 * side(depth[None], truth.depth[None], both).item(),
        "mad_deg": mad_deg(depth[None], truth.depth[None], both, camera).item(),
        "coverage": coverage(mask[None], truth.mask[None]).item(),
    }


def evaluate_factors(
    factors: Factors, mask: Float[Tensor, "h w"], camera: Camera, truth: GroundTruth
) -> tuple[Float[Tensor, "h w"], dict[str, float]]:
    """The depth that factors have inside a photo's mask, NaN where nothing is seen, and its score."""
    depth = photo_depth(render(factors, camera), factors, mask, camera)
    return depth, depth_metrics(depth.nan_to_num(VIEW_FAR), ~depth.isnan(), truth, camera)


def evaluate(
    pairs: Sequence[DepthPair],
    category: Category,
    folder: Path,
    run: Callable[[Sequence[Path]], Iterator[Result | Exception]],
    settings: Mapping[str, object],
) -> Iterator[ImageMetrics]:
    """Score photos one after the other. Those that `folder` has a row of already are not run again.

    run: makes the reconstructions of photos, in their order; the first that is none is raised. settings: what a row
    depends on beside its photo and depth, g2s's version too; a folder that was begun with other ones, or that another
    process is at work in, is refused with a UsageError. A sheet's worth of pictures is kept of every photo, so that the
    worst can be shown at the end. Raises ImageError for a file that cannot be read, G2SError if the disk refuses.
    """
    with open_run_folder(folder, settings, VERB):
        digests = {pair: _sha256_of_both(pair) for pair in pairs}
        rows = _resumed(folder)
        done = {
            pair: row for pair in pairs if (row := rows.get(pair.photo.name)) and row.inputs_sha256 == digests[pair]
        }
        results = run([pair.photo for pair in pairs if pair not in done])
        for pair in pairs:
            row = done.get(pair)
            if row is None:
                result = next(results)
                if isinstance(result, Exception):
                    raise result
                row = _kept(result, pair, digests[pair], category, folder)
            yield row


def _sha256_of_both(pair: DepthPair) -> str:
    """One SHA-256 of a photo and its depth image."""
    digest = hashlib.sha256()
    for path in (pair.photo, pair.depth):
        digest.update(bytes.fromhex(sha256_of_input(path)))
    return digest.hexdigest()


def _kept(result: Result, pair: DepthPair, digest: str, category: Category, folder: Path) -> ImageMetrics:
    """A photo's row, written to the folder with its pictures."""
    truth = read_ground_truth(pair.depth, category.frame_share, category.working_size)
    facts = {"inversion_psnr_db": result.report["inversion_psnr_db"], "seconds": result.report["seconds"]["total"]}
    depth, figures = evaluate_factors(result.factors, result.mask, result.camera, truth)
    row = ImageMetrics(pair.photo.name, **figures, **facts, inputs_sha256=digest)
    strip = _strip(result, depth, truth)
    with atomic_write(folder / "pictures" / f"{pair.photo.stem}.png", RESUME_REMEDY) as temporary:
        strip.save(temporary, "PNG")
    with convert_write_errors(folder / ROWS, RESUME_REMEDY), (folder / ROWS).open("a") as file:
        file.write(_line_of(row))
    return row


def _line_of(row: ImageMetrics) -> str:
    return json.dumps(nan_to_none(asdict(row))) + "\n"


def nan_to_none(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The same with None for NaN, which JSON does not know."""
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in figures.items()}


def nan_mean(values: Iterable[float]) -> float | None:
    """The mean of those that are not NaN; None if all are."""
    seen = [value for value in values if not math.isnan(value)]
    return statistics.mean(seen) if seen else None


def mean_baselines(pairs: Sequence[DepthPair], category: Category) -> list[Baseline]:
    """What the answers of `trivial_scores` score on average."""
    return [Baseline(name, *(nan_mean(one[key] for one in scores) for key in ("side_e2", "mad_deg")))
            for name, scores in baseline_metrics(pairs, category).items()]  # fmt: skip


def baseline_metrics(pairs: Sequence[DepthPair], category: Category) -> dict[str, list[dict[str, float]]]:
    """Photo by photo: a flat depth, and the mean true depth of all the other photos, if there are any."""
    truths = [read_ground_truth(pair.depth, category.frame_share, category.working_size) for pair in pairs]
    camera = camera_of(category)
    depth, mask = torch.stack([truth.depth for truth in truths]), torch.stack([truth.mask for truth in truths])
    total, count = (depth * mask).sum(dim=0), mask.sum(dim=0)
    flat, mean = [], []
    for truth in truths:
        everywhere = torch.ones_like(truth.mask)
        flat.append(depth_metrics(torch.ones_like(truth.depth), everywhere, truth, camera))
        others = (count - truth.mask.long()).clamp(min=0)
        average = (total - truth.depth * truth.mask) / others.clamp(min=1)
        mean.append(depth_metrics(torch.where(others > 0, average, depth[mask].mean()), everywhere, truth, camera))
    return {"flat depth": flat} | ({"mean depth of the others": mean} if len(truths) > 1 else {})


def summarize(rows: Sequence[ImageMetrics]) -> dict[str, dict[str, float | None]]:
    """Mean, standard deviation and standard error of every figure, of the rows that have it; None if none has."""
    found = {}
    for name in FIGURES:
        values = [value for row in rows if not math.isnan(value := getattr(row, name))]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        found[name] = {
            "mean": nan_mean(values),
            "deviation": spread if values else None,
            "standard_error": spread / len(values) ** 0.5 if values else None,
        }
    return found


def write_report(
    rows: Sequence[ImageMetrics], trivial: Sequence[Baseline], folder: Path, settings: Mapping[str, object]
) -> dict[str, Any]:
    """Write images.csv, summary.json and worst.png; the summary. Raises G2SError if the disk refuses."""
    with (
        atomic_write(folder / TABLE, RESUME_REMEDY) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, list(asdict(rows[0])))
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    summary = {
        "settings": settings,
        "images": len(rows),
        "missed": [row.image for row in rows if row.missed],
        "figures": summarize(rows),
        "baselines": [asdict(one) for one in trivial],
        "worst": [row.image for row in _worst(rows)],
    }
    with atomic_write(folder / SUMMARY, RESUME_REMEDY) as temporary:
        temporary.write_text(json.dumps(summary, indent=2) + "\n")
    sheet = _sheet(_worst(rows), folder)
    with atomic_write(folder / WORST, RESUME_REMEDY) as temporary:
        sheet.save(temporary, "PNG")
    return summary


def _worst(rows: Sequence[ImageMetrics]) -> list[ImageMetrics]:
    """The missed ones first, then those of the largest SIDE."""
    return sorted(rows, key=lambda row: -math.inf if row.missed else -row.side_e2)[:WORST_COUNT]


def _resumed(folder: Path) -> dict[str, ImageMetrics]:
    """Rows of an earlier run, by the photo's name; the last one of each, for it may have been made anew.

    Raises G2SError if they cannot be read, or if the disk refuses.
    """
    place = folder / ROWS
    rows = []
    try:
        lines = place.read_text().splitlines(keepends=True) if place.exists() else []
        for number, line in enumerate(lines, start=1):
            try:
                rows.append(_row_of(json.loads(line)))
            except ValueError:
                # A kill or a full disk leaves half of the last line: that photo was not finished.
                if number < len(lines):
                    raise
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise G2SError(f"{folder} is damaged: {error}.", "Delete it and evaluate again.") from error
    if (whole := "".join(map(_line_of, rows))) != "".join(lines):  # or the next line would go on in that one
        with atomic_write(place, RESUME_REMEDY) as temporary:
            temporary.write_text(whole)
    return {row.image: row for row in rows}


def _row_of(facts: dict[str, Any]) -> ImageMetrics:
    """A row as it was written. Raises TypeError or AttributeError if it is none."""
    figures: dict[str, Any] = {name: math.nan if value is None else value for name, value in facts.items()}
    return ImageMetrics(**figures)


def _strip(result: Result, depth: Tensor, truth: GroundTruth) -> Image.Image:
    """Photo, GAN's version, shape's rendering, depth, true depth, and the error less its mean: red is too far."""
    both = truth.mask & ~depth.isnan()
    error = torch.where(both, depth - truth.depth - (depth - truth.depth)[both].mean(), 0.0) / ERROR_SPAN
    tint = torch.stack((1 - (-error).clamp(0, 1), 1 - error.abs().clamp(0, 1), 1 - error.clamp(0, 1))) * 2 - 1
    grey = [(((FAR_SHOWN - one) / (FAR_SHOWN - NEAR_SHOWN)).clamp(0, 1) * 2 - 1).expand(3, -1, -1)
            for one in (depth.nan_to_num(FAR_SHOWN), torch.where(truth.mask, truth.depth, FAR_SHOWN))]  # fmt: skip
    tiles = [result.photo, result.inverted, render_on_white(result, result.factors), *grey, tint]
    images = [Image.fromarray(to_bytes(tile)).resize((TILE_PX, TILE_PX), Image.Resampling.NEAREST) for tile in tiles]
    return contact_sheet(images, columns=len(images))


def _sheet(rows: Sequence[ImageMetrics], folder: Path) -> Image.Image:
    """The strips of some photos, one below the other, each with its score."""
    strips = []
    for row in rows:
        with Image.open(folder / "pictures" / f"{Path(row.image).stem}.png") as picture_file:
            strip = picture_file.convert("RGB")
        said = "missed" if row.missed else f"SIDE {row.side_e2:.2f}  MAD {row.mad_deg:.1f}"
        ImageDraw.Draw(strip).text((4, 4), f"{row.image}  {said}", "black")
        strips.append(strip)
    return contact_sheet(strips, columns=1)
