"""What each mechanism of the default preset is worth: switched off alone, everything else as it is, photo by photo.

    python benchmarks/ablations.py run --synface DATA --scan DATA -o rows.jsonl [--variants fast,instant] [--part 0/2]
    python benchmarks/ablations.py table rows.jsonl [--against fast]

DATA of --synface has image/NAME_image.png beside depth/NAME_depth.png; DATA of --scan has image/NAME.png and
depth/NAME.png with 0 = unknown, else 1 + 64 × (depth in pixels of the photo). Rows are appended: a run that was stopped
goes on. Photos of which no face is found are skipped, and named.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import map_coordinates
from torch import Tensor

from g2s_cli.config import EstimatorConfig, Preset
from g2s_cli.errors import G2SError
from g2s_cli.estimators import morphable
from g2s_cli.evaluation.benchmark import depth_metrics
from g2s_cli.evaluation.ground_truth import GroundTruth, find_pairs, read_ground_truth
from g2s_cli.geometry import render as rendering
from g2s_cli.geometry.rasterizer import VIEW_FAR
from g2s_cli.geometry.warp import identity_grid
from g2s_cli.loading import Plan
from g2s_cli.machine import Machine
from g2s_cli.options import ReconstructOptions
from g2s_cli.photo.align import CropOptions
from g2s_cli.pipeline import Pipeline
from g2s_cli.result.schema import Result

FIRST_PHOTO = 24  # of the synface training images: the first ones chose earlier settings
FIGURES = ("side_e2", "mad_deg", "coverage")
SCAN_CODE = 64  # of a scan's depth image, codes a pixel
HALF_FOV_RAD = math.radians(5)

Patch = tuple[Any, str, Any]  # module, name, replacement


@dataclass(frozen=True)
class Variant:
    """The default preset with something switched off.

    Attributes:
        preset: changes the preset.
        patches: replaced functions and constants.
        result: changes the result before its depth is read.
        mask: whether the object's mask is found; otherwise all of the crop is object.
    """

    name: str
    preset: Callable[[Preset], Preset] = lambda preset: preset
    patches: tuple[Patch, ...] = ()
    result: Callable[[Result], Result] = lambda result: result
    mask: bool = True


def weights(**named: float) -> Callable[[Preset], Preset]:
    """Other fusion weights; an estimator of weight 0 is left out."""

    def change(preset: Preset) -> Preset:
        def keep(one: EstimatorConfig) -> bool:
            return one.name == "feedforward" or named.get(one.name, one.weight) > 0

        kept = tuple(replace(one, weight=named.get(one.name, one.weight)) for one in preset.estimators if keep(one))
        return replace(preset, estimators=kept)

    return change


def no_flow(objects: Any, others: Any) -> Tensor:
    """The flow that leaves every pixel where it is."""
    del others
    size = objects.image.shape[-1]
    return identity_grid(size, objects.image.device).expand(len(objects.image), size, size, 2)


def drop_residual(result: Result) -> Result:
    """A result without its depth residual."""
    return replace(result, factors=replace(result.factors, depth_residual=None))


VARIANTS = (
    Variant("fast"),
    Variant("instant"),
    Variant("shorter inversion", lambda preset: replace(preset, inversion_iterations=100)),
    Variant("longer inversion", lambda preset: replace(preset, candidates=128, inversion_iterations=200)),
    Variant("object mask", mask=False),
    Variant("morphable model", weights(morphable=0.0, depth_net=1.0)),
    Variant("depth network", weights(morphable=1.0, depth_net=0.0)),
    Variant("fusion (feed-forward alone)", weights(morphable=0.0, depth_net=0.0)),
    Variant("optical flow", patches=((morphable, "optical_flow", no_flow), (morphable, "FLOW_WEIGHT", 0.0))),
    Variant("specular", patches=((morphable, "specular_strength", lambda coeffs: 0.0 * coeffs.specular[:, 0]),)),
    Variant("depth residual", result=drop_residual),
    Variant("slope limit", patches=((rendering, "limit_slope", lambda depth, *_: depth),)),
)  # fmt: skip


def pipeline_of(variant: Variant, photo: Path, crop: CropOptions, mask: Path) -> Pipeline:
    """The pipeline of a variant for a photo. mask: a white image, for variants without the object's mask."""
    name = variant.name if variant.name == "instant" else "fast"
    crop = crop if variant.mask else replace(crop, mask=white(photo, mask))
    plan = Plan.of(ReconstructOptions("synface", name, crop=crop))
    return Pipeline.of(replace(plan, preset=variant.preset(plan.preset)), Machine.named("cpu"))


def white(photo: Path, place: Path) -> Path:
    """A white image of a photo's size."""
    with Image.open(photo) as image:
        Image.new("L", image.size, 255).save(place)
    return place


def run_variant(variant: Variant, photo: Path, crop: CropOptions, mask: Path) -> tuple[Result, Tensor]:
    """A photo's result, and its depth: NaN where there is none."""
    with ExitStack() as stack:
        for module, name, value in variant.patches:
            stack.enter_context(mock.patch.object(module, name, value))
        result = variant.result(pipeline_of(variant, photo, crop, mask)(photo))
        rendered = rendering.render(result.factors, result.camera)
        return result, rendering.photo_depth(rendered, result.factors, result.mask, result.camera)


def scan_truth(path: Path, alignment: dict[str, Any], size: int) -> GroundTruth:
    """True depth of a scan's render in the frame of the crop, its mean at 1 scene unit."""
    matrix, crop_px, fine = np.array(alignment["aligned_to_photo"]), alignment["aligned_px"], 4
    ticks = (np.arange(size * fine) + 0.5) * crop_px / (size * fine) - 0.5
    x, y = np.meshgrid(ticks, ticks)
    pixels = (matrix @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)]))[::-1]
    code = np.asarray(Image.open(path)).astype(float)
    cells = (size, fine, size, fine)
    depth_px = map_coordinates((code - 1) / SCAN_CODE * (code > 0), pixels, order=1).reshape(cells).mean((1, 3))
    mask = (map_coordinates((code > 0) * 1.0, pixels, order=1) > 0.999).reshape(cells).all((1, 3))
    depth = depth_px / math.hypot(matrix[0, 0], matrix[1, 0]) * 2 * math.tan(HALF_FOV_RAD) / crop_px
    depth = np.where(mask, depth - depth[mask].mean() + 1, 1.1)
    return GroundTruth(torch.from_numpy(depth).float(), torch.from_numpy(mask))


@dataclass(frozen=True)
class Job:
    """A photo, how it is cropped, and what tells its true depth from the result."""

    name: str
    photo: Path
    crop: CropOptions
    truth: Callable[[Result], GroundTruth]


def jobs(args: argparse.Namespace) -> Iterator[Job]:
    """The photos of both data sets, in turn."""
    pairs = find_pairs(args.synface)[FIRST_PHOTO : FIRST_PHOTO + args.count]
    found = [
        Job(f"synface/{pair.photo.stem}", pair.photo, CropOptions(align=False),
            lambda result, pair=pair: read_ground_truth(pair.depth, result.frame_share, result.camera.size))
        for pair in pairs
    ]  # fmt: skip
    for number, photo in enumerate(sorted((args.scan / "image").iterdir())):
        depth = args.scan / "depth" / photo.name

        def truth(result: Result, depth: Path = depth) -> GroundTruth:
            return scan_truth(depth, result.report["alignment"], result.camera.size)

        found.insert(2 * number, Job(f"scan/{photo.stem}", photo, CropOptions(), truth))
    part, parts = map(int, args.part.split("/"))
    yield from found[part::parts]


def run(args: argparse.Namespace) -> None:
    """Append the rows that are missing."""
    done = set()
    if args.out.exists():
        done = {(row["photo"], row["variant"]) for row in map(json.loads, args.out.read_text().splitlines())}
    chosen = args.variants.split(",") if args.variants else [variant.name for variant in VARIANTS]
    for job in jobs(args):
        for variant in VARIANTS:
            if variant.name not in chosen or (job.name, variant.name) in done:
                continue
            started = time.perf_counter()
            try:
                result, depth = run_variant(variant, job.photo, job.crop, args.out.with_suffix(f".{args.part[0]}.png"))
            except G2SError as error:
                print(f"{job.name} is skipped: {error}", flush=True)
                break
            metrics = depth_metrics(depth.nan_to_num(VIEW_FAR), ~depth.isnan(), job.truth(result), result.camera)
            row = {"photo": job.name, "variant": variant.name, "seconds": time.perf_counter() - started, **metrics}
            row |= {name: result.report[name] for name in ("inversion_psnr_db", "reconstruction_psnr_db")}
            with args.out.open("a") as file:
                file.write(json.dumps(row) + "\n")


def table(args: argparse.Namespace) -> None:
    """Print the paired differences of all variants to one of them, as Markdown."""
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for path in args.rows:
        for row in map(json.loads, path.read_text().splitlines()):
            rows.setdefault(row["variant"], {})[row["photo"]] = row
    base = rows[args.against]
    print("| without | set | n | SIDE × 10⁻² | MAD, degrees | coverage | seconds |\n|---|---|---|---|---|---|---|")
    for name, found in rows.items():
        for group in ("synface", "scan"):
            both = [photo for photo in found if photo in base and photo.startswith(group)]
            if both:
                cells = [cell([found[photo][key] for photo in both], [base[photo][key] for photo in both],
                              absolute=name == args.against) for key in FIGURES]  # fmt: skip
                seconds = statistics.mean(found[photo]["seconds"] for photo in both)
                print(f"| {name} | {group} | {len(both)} | {' | '.join(cells)} | {seconds:.1f} |")


def cell(values: list[float], base: list[float], *, absolute: bool) -> str:
    """Mean ± standard error of values, or of their differences to the base with their share of it."""
    numbers = values if absolute else [one - other for one, other in zip(values, base, strict=True)]
    mean, error = statistics.mean(numbers), statistics.stdev(numbers) / len(numbers) ** 0.5 if len(numbers) > 1 else 0.0
    if absolute:
        return f"{mean:.4f} ± {error:.4f}"
    return f"{mean:+.4f} ± {error:.4f} ({100 * mean / statistics.mean(base):+.1f} %)"


def main() -> None:
    """Run one of the two verbs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    runner = verbs.add_parser("run")
    runner.add_argument("--synface", type=Path, required=True)
    runner.add_argument("--scan", type=Path, required=True)
    runner.add_argument("--count", type=int, default=44, help="of the synface images")
    runner.add_argument("--part", default="0/1", help="K/N: every N-th photo from the K-th on")
    runner.add_argument("--variants", default="", help="names, comma-separated; all of them if not given")
    runner.add_argument("-o", "--out", type=Path, required=True)
    runner.set_defaults(does=run)
    printer = verbs.add_parser("table")
    printer.add_argument("rows", type=Path, nargs="+")
    printer.add_argument("--against", default="fast")
    printer.set_defaults(does=table)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.does(args)


if __name__ == "__main__":
    main()
