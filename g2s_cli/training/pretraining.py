"""Many photos → a category of one's own: invert them, train networks on all jointly, write them down, say how good.

    photos ─ method.inversion ─▶ subjects ─ method.pretrain ─▶ networks ─ zoo.entry ─▶ a category

Everything lies in one folder and can be gone on with: inversions and samples in files of their own, networks and
optimiser in a checkpoint.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from g2s_cli import __version__
from g2s_cli.batch import find_photos
from g2s_cli.config import Category, Part, Pretraining, Symmetry
from g2s_cli.errors import UsageError
from g2s_cli.estimators.feedforward import FactorNets
from g2s_cli.estimators.feedforward import fresh_nets
from g2s_cli.estimators.gan2shape.cycles import factors_of
from g2s_cli.estimators.gan2shape.offset_encoder import OffsetEncoder
from g2s_cli.estimators.gan2shape.offsets import EncoderPredictor
from g2s_cli.estimators.gan2shape.steps import Target
from g2s_cli.evaluation.benchmark import evaluate_factors, nan_to_none
from g2s_cli.evaluation.ground_truth import DepthPair, find_pairs, read_ground_truth
from g2s_cli.evaluation.report import mean_baselines, nan_mean
from g2s_cli.files import RESUME_REMEDY, atomic_write, sha256_of_input
from g2s_cli.gan.inversion import InversionSettings, invert
from g2s_cli.geometry.metrics import psnr
from g2s_cli.geometry.render import render
from g2s_cli.loading import Loaded, Machine, Plan, Weights, encoder_predictor, load
from g2s_cli.photo.align import CropOptions
from g2s_cli.photo.load import open_photo
from g2s_cli.progress import Progress, SilentProgress
from g2s_cli.run_folder import is_resumable, lock_folder, open_run_folder
from g2s_cli.training.distributed import Group
from g2s_cli.training.joint import Subject, modules_of, pretrain
from g2s_cli.training.joint_run import Rhythm, Trained, drawn_from
from g2s_cli.weights.categories import load_category
from g2s_cli.weights.new_category import add_category, check_name_is_free
from g2s_cli.weights.registry import Sources
from g2s_cli.weights.tensors import load_tensors, write_weights

TOGETHER = 16  # photos inverted at once; always the same ones, so that a run taken up again finds the same latents
VERB = "g2s pretrain"
REPORT, LOSSES = "report.json", "losses.csv"


@dataclass(frozen=True)
class Collection:
    """Photos to train on. pairs: each with its true depth, where there is one; it is used in the report alone."""

    photos: list[Path]
    pairs: list[DepthPair]
    notes: list[str]

    @classmethod
    def of(cls, folder: Path, limit: int | None) -> Collection:
        """The photos of a folder, or of its image/ if it has a depth/ beside that. Raises UsageError."""
        if (folder / "depth").is_dir():
            pairs = find_pairs(folder)[:limit]
            return cls([pair.photo for pair in pairs], pairs, [])
        photos, notes = find_photos([folder])
        return cls(photos[:limit], [], notes)


@dataclass(frozen=True)
class Order:
    """What is asked of a run: the photos, the schedule after all overrides, and the new category's name."""

    collection: Collection
    plan: Plan
    widths: tuple[int, int]
    photos_a_step: int
    name: str
    folder: Path

    @classmethod
    def of(
        cls,
        collection: Collection,
        folder: Path,
        *,
        name: str,
        category: str = "synface",
        iterations: int | None = None,
        cycles: int | None = None,
        symmetry: Symmetry | None = None,
        photos_a_step: int = 1,
        sources: Sources | None = None,
        seed: int = 0,
    ) -> Order:
        """An order from what `g2s pretrain` takes. Fetches the files that are not here. Raises G2SError."""
        config = load_category(category)
        joint = schedule_of(config)
        effort = joint.effort if iterations is None else joint.effort.at_most(iterations)
        effort = replace(effort, stages=effort.stages[:cycles], symmetry=symmetry or effort.symmetry)
        if photos_a_step > len(collection.photos):
            what = f"There are {len(collection.photos)} photos, and {photos_a_step} to be taken a step."
            raise UsageError(what, "Name a folder with more, or take fewer: --photos-a-step.")
        order = cls(
            collection,
            Plan(
                config,
                "pretrain",
                effort,
                iterations,
                effort.symmetry,
                None,
                seed,
                Weights.of(config, effort, sources or Sources.from_environment()),
                CropOptions(align=not collection.pairs),  # the true depth lies where the photo has it
            ),
            (joint.width, joint.encoder_width),
            photos_a_step,
            name,
            folder,
        )
        check_name_is_free(name, order.words)
        return order

    @property
    def words(self) -> str:
        """Where the new category's files come from."""
        return f"pretrain, {self.folder.resolve()}"

    def settings(self) -> dict[str, Any]:
        """What the networks depend on beside the machine."""
        digest = hashlib.sha256()
        for photo in self.collection.photos:
            digest.update(photo.name.encode())
            digest.update(bytes.fromhex(sha256_of_input(photo)))
        return {
            "category": self.plan.category.name,
            "weights": self.plan.weights.hashes(),
            "photos": digest.hexdigest(),
            "photos_a_step": self.photos_a_step,
            "seed": self.plan.seed,
            "align": self.plan.crop_options.align,
            "schedule": asdict(self.plan.effort),
            "widths": list(self.widths),
        }


def schedule_of(category: Category) -> Pretraining:
    """A category's joint schedule. Raises UsageError if it states none."""
    if category.pretraining is None:
        raise UsageError(
            f"{category.name} states no schedule of joint training.",
            f"Copy the [pretrain] table of another category into {category.folder / 'model.toml'}.",
        )
    return category.pretraining


def run(
    order: Order, machine: Machine, group: Group, progress: Progress, save_every_s: float = 300.0
) -> dict[str, Any]:
    """All of it, or what an earlier run has left; the report. Every process of a group runs this.

    Raises UsageError if the folder holds something else, if another process is at work there, or if a group's processes
    have different perceptual distances, and ImageError for photos that cannot be used, before there is a folder.
    """
    loaded = load(order.plan, machine)
    distance = loaded.guides.perceptual.name
    if len(differing := sorted(set(group.said_by_all(distance)))) > 1:
        what = f"The processes of this run have different perceptual distances: {', '.join(differing)}."
        raise UsageError(what, "Install g2s with the same extras everywhere.")
    settings = order.settings() | {"perceptual": distance}
    with ExitStack() as held:
        begun = group.leads and is_resumable(order.folder, settings, VERB)
        if begun:
            held.enter_context(lock_folder(order.folder, VERB))
        category, crop_options = loaded.category, order.plan.crop_options
        photos = [
            open_photo(path, category.image_size, category.align, crop_options).image
            for path in order.collection.photos
        ]
        if group.leads and not begun:
            held.enter_context(open_run_folder(order.folder, settings, VERB))
        group.wait()
        if group.leads:
            progress.note(f"The perceptual distance is {distance}.")
            if category.mask and loaded.parsing is None:
                missed = f"The parsing network of {category.name} is not here (g2s weights pull {category.name})"
                progress.note(f"{missed}: the masks are those of the GAN's own features.")
        subjects, psnrs_db = _inverted(photos, order, loaded, group, progress)
        del photos  # hundreds of them, for hours
        report = _trained(order, loaded, subjects, psnrs_db, group, progress, save_every_s)
        if not group.leads:
            return {}
        report = {"g2s": __version__, "settings": settings} | report
        with atomic_write(order.folder / REPORT, RESUME_REMEDY) as temporary:
            temporary.write_text(json.dumps(report, indent=2) + "\n")
        return report


def _trained(
    order: Order,
    loaded: Loaded,
    subjects: Sequence[Subject],
    psnrs_db: Sequence[float],
    group: Group,
    progress: Progress,
    save_every_s: float,
) -> dict[str, Any]:
    """The networks trained on photos that are inverted, and written as a category; what is reported of it."""
    nets, offset_predictor = _untrained(order, loaded)
    segmenter = loaded.gan.segmenter if order.plan.effort.masked and loaded.parsing is None else None
    guides = replace(loaded.guides, segmenter=segmenter)
    rhythm = Rhythm(order.plan.seed, order.photos_a_step, save_every_s)
    trained = pretrain(
        nets,
        offset_predictor,
        loaded.gan.generator,
        subjects,
        loaded.category,
        order.plan.effort,
        guides,
        rhythm,
        order.folder,
        group,
        progress,
    )
    if not group.leads:
        return {}
    report = _report(order, loaded, nets, subjects, psnrs_db, trained)
    _write_losses(trained, order.folder / LOSSES)
    files = _write_parts(order, nets, offset_predictor, subjects)
    report["entry"] = str(add_category(order.plan.category, order.name, files, order.words, _card(order, report)))
    return report


def _inverted(
    photos: Sequence[Float[Tensor, "3 h w"]], order: Order, loaded: Loaded, group: Group, progress: Progress
) -> tuple[list[Subject], list[float]]:
    """The photos with their latents and masks, and each inversion's PSNR; some at a time, each time into a file."""
    effort, center_crop, device = order.plan.effort, loaded.center_crop, loaded.machine.device
    together = min(TOGETHER, loaded.gan.generator.max_batch)
    chunks = [photos[first : first + together] for first in range(0, len(photos), together)]
    places = [order.folder / "inversions" / f"{number:04}.safetensors" for number in range(len(chunks))]
    mine = group.share(len(chunks))
    progress.begin("invert", sum(len(chunks[number]) for number in mine))
    done = 0
    for number in mine:
        if not places[number].is_file():
            images = torch.stack(list(chunks[number])).to(device)
            settings = InversionSettings(effort.invert, candidates=effort.candidates)
            rng = torch.Generator().manual_seed(order.plan.seed)
            found = invert(images, loaded.gan.generator, loaded.gan.inversion_distance, settings, rng, SilentProgress())
            seen = [loaded.object_in(image, one.latent) for image, one in zip(center_crop(images), found, strict=True)]
            tensors = {
                "latent": torch.stack([one.latent for one in found]),
                "image": center_crop(images),
                "mask": torch.stack([one.mask for one in seen]),
                "core": torch.stack([one.inner_mask for one in seen]),
                "psnr_db": torch.tensor([one.psnr_db for one in found]),
            }
            write_weights(
                {name: tensor.cpu() for name, tensor in tensors.items()}, places[number], remedy=RESUME_REMEDY
            )
        done += len(chunks[number])
        progress.advance(done, 0.0)
    group.wait()
    subjects, psnrs_db = [], []
    for place in places:
        kept = {name: tensor.to(device) for name, tensor in load_tensors(place).items()}
        fields = (kept[name] for name in ("image", "mask", "core", "latent"))
        for image, mask, core, latent in zip(*fields, strict=True):
            counted = mask if effort.masked else torch.ones_like(mask)
            subjects.append(Subject(Target(image * counted, counted, latent, center_crop), mask, core))
        psnrs_db += kept["psnr_db"].tolist()
    return subjects, psnrs_db


def _untrained(order: Order, loaded: Loaded) -> tuple[FactorNets, EncoderPredictor]:
    """Fresh networks, drawn from the run's seed."""
    width, encoder_width = order.widths
    category, machine = loaded.category, loaded.machine
    with drawn_from(order.plan.seed):
        nets = fresh_nets(category, loaded.means, width).to(machine.device, machine.dtype)
        encoder = OffsetEncoder(category.working_size, loaded.gan.generator.latent_size, encoder_width).to(
            machine.device
        )
    return nets, encoder_predictor(category, loaded.gan, encoder, machine)


def _report(
    order: Order,
    loaded: Loaded,
    nets: FactorNets,
    subjects: Sequence[Subject],
    psnrs_db: Sequence[float],
    trained: Trained,
) -> dict[str, Any]:
    """What was done, each phase's losses, and how good the networks alone are on the photos they have seen."""
    pairs, category = order.collection.pairs, loaded.category
    rows = []
    for index, (photo, subject) in enumerate(zip(order.collection.photos, subjects, strict=True)):
        target, mask = subject.target, subject.object_mask
        factors = factors_of(nets, target)
        rebuilt = render(factors, nets.camera).image
        row: dict[str, Any] = {
            "photo": photo.name,
            "inversion_psnr_db": psnrs_db[index],
            "reconstruction_psnr_db": psnr(rebuilt * mask, target.image * mask),
        }
        if pairs:
            truth = read_ground_truth(pairs[index].depth, category.frame_share, category.working_size)
            row |= evaluate_factors(factors.to("cpu"), mask.cpu(), nets.camera, truth)[1]
        rows.append(row)
    figures = {name: nan_mean(row[name] for row in rows) for name in rows[0] if name != "photo"}
    return {
        "torch": torch.__version__,
        "device": str(loaded.machine.device),
        "arithmetic": str(loaded.machine.dtype).removeprefix("torch."),
        "perceptual": loaded.guides.perceptual.name,
        "name": order.name,
        "phases": [_phase_facts(name, trained) for name in trained.seconds],
        "figures": figures,
        "baselines": [asdict(one) for one in mean_baselines(pairs, category)] if pairs else [],
        "missed": [row["photo"] for row in rows if math.isnan(row.get("side_e2", 0.0))],
        "photos": [nan_to_none(row) for row in rows],
    }


def _phase_facts(name: str, trained: Trained) -> dict[str, Any]:
    """A phase's steps and seconds, and its loss at both ends: means of a tenth of its steps."""
    losses = trained.losses.get(name, [])
    facts: dict[str, Any] = {"phase": name, "steps": len(losses), "seconds": round(trained.seconds[name], 2)}
    if losses:
        tenth = max(1, len(losses) // 10)
        facts |= {"first_loss": statistics.mean(losses[:tenth]), "last_loss": statistics.mean(losses[-tenth:])}
    return facts


def _write_losses(trained: Trained, path: Path) -> None:
    with atomic_write(path, RESUME_REMEDY) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("phase", "step", "loss"))
        for phase, losses in trained.losses.items():
            writer.writerows((phase, step, f"{loss:.9g}") for step, loss in enumerate(losses, start=1))


def _write_parts(
    order: Order, nets: FactorNets, offset_predictor: EncoderPredictor, subjects: Sequence[Subject]
) -> dict[Part, Path]:
    """The new category's files: the networks in half precision, statistics of the photos' views and lights, the GAN.

    And the network that made the photos' masks, if one did.
    """
    networks = {
        f"{name}.{key}": value.half().cpu()
        for name, module in modules_of(nets, offset_predictor).items()
        for key, value in module.state_dict().items()
    }
    # What V and L say is relative to the statistics that they were trained with, which these photos' replace.
    means = {"mean_view": nets.mean_view.cpu(), "mean_light": nets.mean_light.cpu()}
    with torch.no_grad():
        images = [subject.target.image[None] for subject in subjects]
        views = torch.cat([nets.view_code(image) for image in images]).cpu()
        lights = torch.cat([nets.light_code(image) for image in images]).cpu()
    tensors: dict[Part, dict[str, Tensor]] = {
        "networks": networks | means,
        "views": _statistics(views),
        "lights": _statistics(lights),
    }
    kept: tuple[Part, ...] = ("gan", "parsing")  # the latter where it said what of these photos is the object
    written = {part: path for part in kept if (path := order.plan.weights.files.get(part))}
    trained_with = order.plan.weights.hashes()["gan"]
    for part, content in tensors.items():
        written[part] = order.folder / f"{part}.safetensors"
        write_weights(content, written[part], trained_with if part == "networks" else "", RESUME_REMEDY)
    return written


def _statistics(codes: Float[Tensor, "n c"]) -> dict[str, Tensor]:
    """Mean and covariance; of one photo alone the covariance is 0."""
    return {"mean": codes.mean(dim=0), "cov": torch.cov(codes.T, correction=0)}


def _card(order: Order, report: dict[str, Any]) -> str:
    """The new category's README.md."""
    told = {name: "" if value is None else f"{value:.3f}" for name, value in report["figures"].items()}
    figures = "\n".join(f"| {name.replace('_', ' ')} | {value} |" for name, value in told.items())
    missed = (
        f"\n{len(report['missed'])} of {len(report['photos'])} photos were missed, and have neither SIDE nor MAD.\n"
    )
    return (
        f"# {order.name}\n\nNetworks trained jointly by g2s {__version__} pretrain on {len(report['photos'])} photos "
        f"with the GAN of {order.plan.category.name}.\n\nThe networks alone, on the photos they were trained on:\n\n"
        f"| | mean |\n|---|---|\n{figures}\n{missed if report['missed'] else ''}"
    )
