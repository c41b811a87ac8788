"""The report of an evaluation: means over photos, baselines, and a sheet of the worst photos."""

from __future__ import annotations

import csv
import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw

from g2s_cli.config import Category
from g2s_cli.estimators.feedforward import camera_of
from g2s_cli.evaluation.benchmark import ImageMetrics, depth_metrics, panel_path
from g2s_cli.evaluation.ground_truth import DepthPair, read_ground_truth
from g2s_cli.files import RESUME_REMEDY, atomic_write
from g2s_cli.result.contact_sheet import contact_sheet

TABLE, SUMMARY, WORST = "images.csv", "summary.json", "worst.png"
METRICS = ("side_e2", "mad_deg", "coverage", "inversion_psnr_db", "seconds")
WORST_COUNT = 8


@dataclass(frozen=True)
class Baseline:
    """Mean metrics of a prediction that does not depend on the photo; None if no true mask is large enough."""

    name: str
    side_e2: float | None
    mad_deg: float | None


def baseline_metrics(pairs: Sequence[DepthPair], category: Category) -> dict[str, list[dict[str, float]]]:
    """`depth_metrics` of every photo for two baselines: a flat depth, and the mean true depth of the other photos."""
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


def mean_baselines(pairs: Sequence[DepthPair], category: Category) -> list[Baseline]:
    """The means of `baseline_metrics`."""
    return [
        Baseline(name, nan_mean(row["side_e2"] for row in rows), nan_mean(row["mad_deg"] for row in rows))
        for name, rows in baseline_metrics(pairs, category).items()
    ]


def nan_mean(values: Iterable[float]) -> float | None:
    """The mean of the values that are not NaN; None if there are none."""
    numbers = [value for value in values if not math.isnan(value)]
    return statistics.mean(numbers) if numbers else None


def summarize(rows: Sequence[ImageMetrics]) -> dict[str, dict[str, float | None]]:
    """Mean, standard deviation and standard error of every metric, without the photos where it is NaN."""
    summary = {}
    for name in METRICS:
        values = [value for row in rows if not math.isnan(value := getattr(row, name))]
        deviation = statistics.stdev(values) if len(values) > 1 else 0.0
        summary[name] = {
            "mean": nan_mean(values),
            "deviation": deviation if values else None,
            "standard_error": deviation / len(values) ** 0.5 if values else None,
        }
    return summary


def write_report(
    rows: Sequence[ImageMetrics], baselines: Sequence[Baseline], folder: Path, settings: Mapping[str, object]
) -> dict[str, Any]:
    """Write images.csv, summary.json and worst.png into the folder of an evaluation.

    Returns:
        The contents of summary.json.

    Raises:
        G2SError: The disk refuses.
    """
    worst = sorted(rows, key=lambda row: -math.inf if row.missed else -row.side_e2)[:WORST_COUNT]
    with atomic_write(folder / TABLE, RESUME_REMEDY) as path, path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(asdict(rows[0])))
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    summary = {
        "settings": settings,
        "images": len(rows),
        "missed": [row.image for row in rows if row.missed],
        "figures": summarize(rows),
        "baselines": [asdict(baseline) for baseline in baselines],
        "worst": [row.image for row in worst],
    }
    with atomic_write(folder / SUMMARY, RESUME_REMEDY) as path:
        path.write_text(json.dumps(summary, indent=2) + "\n")
    sheet = contact_sheet([_labelled_panel(row, folder) for row in worst], columns=1)
    with atomic_write(folder / WORST, RESUME_REMEDY) as path:
        sheet.save(path, "PNG")
    return summary


def _labelled_panel(row: ImageMetrics, folder: Path) -> Image.Image:
    with Image.open(panel_path(folder, row.image)) as file:
        panel = file.convert("RGB")
    errors = "missed" if row.missed else f"SIDE {row.side_e2:.2f}  MAD {row.mad_deg:.1f}"
    ImageDraw.Draw(panel).text((4, 4), f"{row.image}  {errors}", "black")
    return panel
