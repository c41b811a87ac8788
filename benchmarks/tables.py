"""The paper's tables 1 to 3 on data with known depth.

    python benchmarks/tables.py DATA --table 1 --limit 20
    python benchmarks/tables.py DATA --table 2 --limit 2 --iterations 50
    python benchmarks/tables.py DATA --table 3 --embedder arcface.onnx

DATA has image/NAME_image.png beside depth/NAME_depth.png. Every row that reconstructs goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import math
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from identity import DiscriminatorEmbedder, Embedder, OnnxEmbedder, angles_deg
from machine import describe
from rich.table import Table
from supervised import BATCH, marks, read_lessons, taught, width_of_depth_net

from g2s_cli import __version__
from g2s_cli.config import Category, Ellipsoid, Preset
from g2s_cli.console import output
from g2s_cli.errors import G2SError
from g2s_cli.evaluation.benchmark import evaluate
from g2s_cli.evaluation.ground_truth import DepthPair, find_pairs
from g2s_cli.evaluation.report import baseline_metrics
from g2s_cli.loading import Plan, load_gan
from g2s_cli.machine import Machine
from g2s_cli.options import ReconstructOptions
from g2s_cli.photo.align import CropOptions
from g2s_cli.pipeline import Pipeline
from g2s_cli.progress import Progress
from g2s_cli.result.pictures import rotate
from g2s_cli.result.schema import Result
from g2s_cli.weights.categories import load_category

Variant = Callable[[Plan], Plan]

TITLES = {
    1: "Table 1: shape from one photo",
    2: "Table 2: what the starting shape changes",
    3: "Table 3: how much of the person stays when the photo is turned",
}
# Figures of a table and how they are written; each is a mean over photos with its standard error.
COLUMNS = {"side_e2": "SIDE x 10⁻²", "mad_deg": "MAD, degrees", "coverage": "coverage", "seconds": "seconds a photo"}
TURNING = {"mean_deg": "mean angle, degrees", "most_deg": "largest angle, degrees"}
TURNS = np.radians(np.linspace(-20, 20, 20)).tolist()  # the paper's twenty poses


@dataclass(frozen=True)
class Line:
    """A row. values: figure by figure, one a photo. note: what it says beside them, or why there are none."""

    name: str
    values: Mapping[str, Sequence[float]]
    note: str = ""

    @classmethod
    def of(cls, name: str, scores: Sequence[Mapping[str, float]], note: str = "") -> Line:
        """From each photo's figures; NaN is left out, and the photos that have it are counted in the note."""
        values = {key: [one[key] for one in scores if not math.isnan(one[key])] for key in scores[0]}
        missed = sum(any(map(math.isnan, one.values())) for one in scores)
        told = [note, f"{missed} of {len(scores)} photos missed"] if missed else [note]
        return cls(name, values, "; ".join(filter(None, told)))


@dataclass(frozen=True)
class Run:
    """What all rows of a table share.

    words: of which a row's name must have one; none for all rows. iterations: the most of each step of fitting a photo.
    inversion: the most updates of the search for its latent. Neither shortens the fit to the starting shape, which is
    what table 2 is about. out: where rows are kept.
    """

    config: Category
    pairs: Sequence[DepthPair]
    machine: Machine
    out: Path
    words: Sequence[str] = ()
    iterations: int | None = None
    inversion: int | None = None
    seed: int = 0

    def wants(self, name: str) -> bool:
        return not self.words or any(word in name for word in self.words)

    def plan(self, preset: str) -> Plan:
        """A preset, shortened as asked; photos are not aligned, because the truth lies where the photo has it."""
        crop = CropOptions(align=False)
        plan = Plan.of(ReconstructOptions(self.config.name, preset, seed=self.seed, crop=crop))
        return replace(plan, preset=shortened(plan.preset, self.iterations, self.inversion))

    def result(self, plan: Plan, photos: Sequence[Path], progress: Progress) -> Iterator[Result | Exception]:
        return Pipeline.of(plan, self.machine).each(photos, progress)

    def line(self, name: str, plan: Plan, progress: Progress) -> Line:
        """The row of a plan: every photo reconstructed and scored, or read from an earlier run."""
        output.info(name)
        settings = {"g2s_version": __version__} | plan.facts | {"ellipsoid": asdict(plan.category.ellipsoid)}
        settings |= {"offset_depth": plan.category.offset_depth}
        folder = self.out / re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")

        def execute(photos: Sequence[Path]) -> Iterator[tuple[int, Result | Exception]]:
            return enumerate(self.result(plan, photos, progress))

        rows = list(evaluate(self.pairs, plan.category, folder, execute, settings))
        return Line.of(name, [{key: getattr(row, key) for key in COLUMNS} for row in rows], steps(plan.preset))


def shortened(preset: Preset, iterations: int | None, inversion: int | None) -> Preset:
    """At most so many iterations a step, with the samples that they can draw, and of the inversion."""
    if inversion is not None:
        short = preset.at_most(inversion)
        preset = replace(preset, inversion_iterations=short.inversion_iterations, candidates=short.candidates)
    if iterations is None:
        return preset
    first, *others = preset.at_most(iterations).estimators
    if (whole := preset.schedule) and first.schedule:
        samples = min(whole.samples, iterations * whole.batch)
        schedule = replace(first.schedule, batch=whole.batch, samples=samples, prior=whole.prior)
        first = replace(first, schedule=schedule)
    return replace(preset, estimators=(first, *others))


def steps(preset: Preset) -> str:
    """A preset's iterations: inversion, prior, steps 1/2/3 of each cycle, and what each other estimator has."""
    parts = [f"inversion {preset.inversion_iterations}"]
    if schedule := preset.schedule:
        parts += [f"prior {schedule.prior}"] if schedule.prior else []
        parts += ["steps " + ", ".join(f"{one.albedo}/{one.project}/{one.shape}" for one in schedule.stages)]
    for one in preset.estimators[1:]:
        parts.append(f"{one.name} {one.weight}" + (f" ({one.iterations})" if one.iterations else ""))
    return ", ".join(parts)


def ablations(presets: Mapping[str, Preset]) -> dict[str, tuple[str, Variant]]:
    """Rows of table 1 that reconstruct: name → preset and what is changed of its plan.

    The paper's "w/o regularize" is an offset that does not pass the mapping network; λ₁ is the weight of the other,
    weaker regulariser (3.2).
    """
    changes: dict[str, Variant] = {
        "without symmetry": lambda plan: replace(plan, preset=plan.preset.with_symmetry("off")),
        "offset not by the mapping network": lambda plan: replace(
            plan, category=replace(plan.category, offset_depth=0)
        ),
        "offset for free (λ₁ = 0)": free_offset,
    }
    rows: dict[str, tuple[str, Variant]] = {}
    for name in [preset for preset in ("instant", "fast", "paper") if preset in presets]:
        rows[name] = (name, lambda plan: plan)
        for what, change in changes.items():
            if what == "without symmetry" or presets[name].schedule:
                rows[f"{name}, {what}"] = (name, change)
    return rows


def no_mapping(plan: Plan) -> Plan:
    """The plan with latent offsets that E predicts directly."""
    return replace(plan, category=replace(plan.category, offset_depth=0))


def free_offset(plan: Plan) -> Plan:
    """The plan without a cost of latent offsets in step 2."""
    first, *others = plan.preset.estimators
    if first.schedule is None:
        return plan
    first = replace(first, schedule=replace(first.schedule, offset_weight=0.0))
    return replace(plan, preset=replace(plan.preset, estimators=(first, *others)))


def starts(shape: Ellipsoid) -> dict[str, Ellipsoid]:
    """Rows of table 2: the category's ellipsoid and the paper's variations of it.

    "Asymmetric" has a sphere for its right half: as high as it is wide, and no less deep.
    """
    return {
        "ellipsoid": shape,
        "asymmetric": replace(shape, round_right=True),
        "shifted by 1/6": replace(shape, shift=1 / 6),
        "shifted by 1/4": replace(shape, shift=1 / 4),
        "weak": replace(shape, bulge=0.5),
        "flat": replace(shape, bulge=0.0),
    }


def table_1(run: Run, progress: Progress, renders: Path | None, updates: int) -> Iterator[Line]:
    """A supervised bound, answers that do not look at the photo, and every preset with what it is without its parts."""
    if run.wants("supervised"):
        yield supervised(run, progress, renders, updates)
    for name, scores in baseline_metrics(run.pairs, run.config).items():
        if run.wants(name):
            yield Line.of(name, scores, "does not look at the photo")
    for name, (preset, change) in ablations(run.config.presets).items():
        if run.wants(name):
            yield run.line(name, change(run.plan(preset)), progress)


def supervised(run: Run, progress: Progress, renders: Path | None, updates: int) -> Line:
    """The row of the network that is taught true depth, if there are renders to teach it with."""
    if renders is None:
        return Line("supervised", {}, "not run: needs --renders")
    output.info("supervised")
    pairs = find_pairs(renders)
    width = width_of_depth_net(run.config, run.plan("fast").weights.files.get("networks"))
    net = taught(read_lessons(pairs, run.config), run.config, width, updates, run.machine, run.seed, progress)
    began = time.perf_counter()
    scores = marks(net, run.pairs, run.config, run.machine)
    each = (time.perf_counter() - began) / len(run.pairs)
    note = f"{len(pairs)} renders, {updates} updates of {BATCH}, given the true mask"
    return Line.of("supervised", [score | {"seconds": each} for score in scores], note)


def table_2(run: Run, progress: Progress) -> Iterator[Line]:
    """The preset that starts from nothing trained, from other shapes."""
    plan = run.plan("ellipsoid")
    for name, shape in starts(run.config.ellipsoid).items():
        if run.wants(name):
            yield run.line(name, replace(plan, category=replace(plan.category, ellipsoid=shape)), progress)


def table_3(run: Run, progress: Progress, embedder: Embedder) -> Iterator[Line]:
    """Each preset's photos turned by yaw -20° to 20°, against the same way's picture of the photo as it is."""
    own: list[torch.Tensor] = []
    for preset in [name for name in ("fast", "paper") if name in run.config.presets and run.wants(name)]:
        output.info(preset)
        plan, turned, own = run.plan(preset), [], []
        for result in run.result(plan, [pair.photo for pair in run.pairs], progress):
            if isinstance(result, Exception):
                raise result
            turned.append({by: drift(result, by, embedder, run.machine) for by in ("mesh", "gan")})
            own.append(embedder(result.photo[None].to(run.machine.device))[0])
        by_gan = "the photo's own encoder" if plan.preset.schedule else "latent directions"
        note = steps(plan.preset)
        yield Line.of(f"{preset}, by mesh", [one["mesh"] for one in turned], note)
        yield Line.of(f"{preset}, by gan ({by_gan})", [one["gan"] for one in turned], note)
    if len(run.pairs) > 1 and not run.words:
        yield Line.of("other people's photos", strangers(torch.stack(own)), "for comparison")


def drift(result: Result, by: str, embedder: Embedder, machine: Machine) -> dict[str, float]:
    """How far pictures of the turned object are from the one that is not turned, in degrees."""
    pictures = rotate(result, [(0.0, 0.0), *((yaw, 0.0) for yaw in TURNS)], renderer=by, device=str(machine.device))
    said = embedder(torch.stack(pictures).to(machine.device))
    angles = angles_deg(said[1:], said[0])
    return {"mean_deg": angles.mean().item(), "most_deg": angles.max().item()}


def strangers(own: torch.Tensor) -> list[dict[str, float]]:
    """How far each photo's vector (n d) is from all the others', in degrees."""
    others = [angles_deg(torch.cat((own[:k], own[k + 1 :])), own[k]) for k in range(len(own))]
    return [{"mean_deg": angles.mean().item(), "most_deg": angles.max().item()} for angles in others]


def summary(values: Sequence[float]) -> dict[str, float]:
    """Mean and standard error."""
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.mean(values), "standard_error": spread / len(values) ** 0.5}


def document(lines: Sequence[Line], title: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """A table as data."""
    rows = [
        {"name": line.name, "note": line.note} | {key: summary(values) for key, values in line.values.items() if values}
        for line in lines
    ]
    return {"title": title} | facts | {"rows": rows}


def drawn(result: Mapping[str, Any], columns: Mapping[str, str], caption: str) -> Table:
    """A table for people."""
    table = Table("", *columns.values(), "what was run", title=result["title"], caption=caption, box=None)
    for row in result["rows"]:
        cells = [f"{row[key]['mean']:.3f} ± {row[key]['standard_error']:.3f}" if key in row else "" for key in columns]
        table.add_row(row["name"], *cells, row["note"])
    return table


def asked(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Print the paper's tables on data with known depth.")
    parser.add_argument("data", type=Path, metavar="DATA", help="image/NAME_image.png and depth/NAME_depth.png")
    parser.add_argument("--table", type=int, choices=TITLES, default=1)
    parser.add_argument("--category", default="synface")
    parser.add_argument("--rows", nargs="+", default=[], metavar="WORD", help="rows with one of these in their names")
    parser.add_argument("--limit", type=int, metavar="N", help="the first so many photos")
    parser.add_argument("--iterations", type=int, metavar="K", help="at most so many a step of fitting a photo")
    parser.add_argument("--inversion", type=int, metavar="K", help="at most so many updates of the inversion")
    parser.add_argument("--renders", type=Path, metavar="FOLDER", help="table 1: what the supervised row learns from")
    parser.add_argument("--updates", type=int, default=1500, metavar="N", help="table 1: of the supervised row")
    parser.add_argument("--embedder", type=Path, metavar="FILE.onnx", help="table 3: who is in a picture")
    parser.add_argument("--out", type=Path, default=Path("out/tables"), help="where finished rows are kept")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="the table as data")
    parser.add_argument("--quiet", "-q", action="store_true")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    options = asked(arguments)
    output.set(quiet=options.quiet, verbose=False)
    machine, config = Machine.named(options.device), load_category(options.category)
    pairs = find_pairs(options.data)[: options.limit]
    run = Run(
        config,
        pairs,
        machine,
        options.out / str(options.table),
        options.rows,
        options.iterations,
        options.inversion,
        options.seed,
    )
    facts = {
        "data": str(options.data),
        "photos": len(pairs),
        "category": config.name,
        "seed": options.seed,
        "iterations_at_most": options.iterations,
        "machine": describe(machine.device),
    }
    columns, lines = COLUMNS, []
    with output.progress(brief=True) as progress:
        if options.table == 1:
            lines = list(table_1(run, progress, options.renders, options.updates))
        elif options.table == 2:
            lines = list(table_2(run, progress))
        else:
            columns = TURNING
            discriminator = load_gan(run.plan("fast").weights, machine).discriminator
            embedder = OnnxEmbedder(options.embedder) if options.embedder else DiscriminatorEmbedder(discriminator)
            facts["distance"] = embedder.name
            lines = list(table_3(run, progress, embedder))
    result = document(lines, TITLES[options.table], facts)
    if options.json:
        output.print_json(result)
    else:
        output.print_table(drawn(result, columns, ", ".join(f"{name} {value}" for name, value in facts.items())))


if __name__ == "__main__":
    try:
        main()
    except G2SError as error:
        output.error(str(error))
        sys.exit(error.exit_code)
