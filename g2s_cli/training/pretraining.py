"""`g2s pretrain`: photos → inversions → networks trained on all of them jointly → a category and a report.

The run's folder holds everything that a killed run resumes: a file for each batch of inverted photos, a file of
projected samples for each photo, and the checkpoint of the networks.
"""

from __future__ import annotations

import csv
import json
import math
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from g2s_cli import __version__
from g2s_cli.config import Part
from g2s_cli.errors import UsageError
from g2s_cli.estimators.base import Observation
from g2s_cli.estimators.feedforward import fresh_nets
from g2s_cli.estimators.gan2shape.offset_encoder import OffsetEncoder
from g2s_cli.estimators.gan2shape.prior import ellipsoid
from g2s_cli.evaluation.benchmark import evaluate_factors, nan_to_none
from g2s_cli.evaluation.ground_truth import read_ground_truth
from g2s_cli.evaluation.report import mean_baselines, nan_mean
from g2s_cli.files import RESUME_REMEDY, atomic_write
from g2s_cli.gan.inversion import InversionSettings, invert
from g2s_cli.geometry.metrics import psnr
from g2s_cli.geometry.render import render
from g2s_cli.loading import Loaded, encoder_predictor, load
from g2s_cli.machine import Machine
from g2s_cli.photo.load import open_photo
from g2s_cli.progress import Progress, SilentProgress
from g2s_cli.run_folder import is_resumable, lock_folder, open_run_folder
from g2s_cli.seeding import seeded_weights
from g2s_cli.training.distributed import Group
from g2s_cli.training.joint import Batches, JointTraining, SampleStore, Subject
from g2s_cli.training.pretrain_config import PretrainConfig
from g2s_cli.training.trainer import CHECKPOINT, Trainer
from g2s_cli.weights.new_category import add_category
from g2s_cli.weights.tensors import load_tensors, write_weights

INVERSION_BATCH = 16  # photos inverted at once; always the same ones, so that a resumed run finds the same latents
VERB = "g2s pretrain"
REPORT, LOSSES, SAMPLES = "report.json", "losses.csv", "samples"


def run(
    config: PretrainConfig, machine: Machine, group: Group, progress: Progress, save_every_s: float = 300.0
) -> dict[str, Any]:
    """Pre-train, or resume an earlier run of the folder. Every process of a group calls this.

    Returns:
        The report, in the first process.

    Raises:
        UsageError: the folder is of another run or in use, or the processes have different perceptual distances.
        ImageError: a photo cannot be used. The folder is not created then.
    """
    loaded = load(config.plan, machine)
    distance = loaded.prior.perceptual.name
    if len(differing := sorted(set(group.all_gather(distance)))) > 1:
        what = f"The processes of this run have different perceptual distances: {', '.join(differing)}."
        raise UsageError(what, "Install g2s with the same extras everywhere.")
    settings = config.settings() | {"perceptual": distance}
    with ExitStack() as stack:
        resumed = group.is_main and is_resumable(config.folder, settings, VERB)
        if resumed:
            stack.enter_context(lock_folder(config.folder, VERB))
        category, crop_options = loaded.category, config.plan.options.crop
        photos = [
            open_photo(path, category.image_size, category.face_template, crop_options).image
            for path in config.collection.photos
        ]
        if group.is_main and not resumed:
            stack.enter_context(open_run_folder(config.folder, settings, VERB))
        group.barrier()
        if group.is_main:
            progress.note(f"The perceptual distance is {distance}.")
            if category.mask_rule and loaded.parsing is None:
                missing = f"The parsing network of {category.name} is not here (g2s weights pull {category.name})"
                progress.note(f"{missing}: the masks are those of the GAN's own features.")
        subjects = _invert(photos, config, loaded, group, progress)
        del photos  # which hold memory for hours
        training = _joint_training(config, loaded, subjects)
        path = config.folder / CHECKPOINT
        trainer = Trainer(training.modules, path, group, progress, save_every_s=save_every_s)
        training.run(trainer)
        if not group.is_main:
            return {}
        report = {"g2s": __version__, "settings": settings} | _report(config, loaded, training, trainer)
        _write_losses(trainer, config.folder / LOSSES)
        files, card = _write_parts(config, training), _card(config, report)
        report["entry"] = str(add_category(config.plan.category, config.name, files, config.source, card))
        with atomic_write(config.folder / REPORT, RESUME_REMEDY) as temporary:
            temporary.write_text(json.dumps(report, indent=2) + "\n")
        return report


def _invert(
    photos: Sequence[Float[Tensor, "3 h w"]], config: PretrainConfig, loaded: Loaded, group: Group, progress: Progress
) -> list[Subject]:
    """The photos with their latents and masks; a file for each batch of them."""
    size = min(INVERSION_BATCH, loaded.gan.generator.max_batch)
    batches = [photos[first : first + size] for first in range(0, len(photos), size)]
    paths = [config.folder / "inversions" / f"{number:04}.safetensors" for number in range(len(batches))]
    mine = group.share(len(batches))
    progress.begin("invert", sum(len(batches[number]) for number in mine))
    done = 0
    for number in mine:
        if not paths[number].is_file():
            write_weights(_inversions(batches[number], config, loaded), paths[number], remedy=RESUME_REMEDY)
        done += len(batches[number])
        progress.advance(done, 0.0)
    group.barrier()
    subjects = []
    for path in paths:
        saved = {name: tensor.to(loaded.machine.device) for name, tensor in load_tensors(path).items()}
        fields = (saved[name] for name in ("image", "mask", "core", "latent"))
        for (image, mask, core, latent), psnr_db in zip(
            zip(*fields, strict=True), saved["psnr_db"].tolist(), strict=True
        ):
            loss_mask = mask if config.plan.preset.masked else torch.ones_like(mask)
            segmenter = loaded.gan.segmenter if config.plan.preset.masked and loaded.parsing is None else None
            observation = Observation(image * loss_mask, loss_mask, latent, loaded.center_crop, core, segmenter)
            subjects.append(Subject(observation, mask, ellipsoid(core, loaded.category.ellipsoid), psnr_db))
    return subjects


def _inversions(photos: Sequence[Float[Tensor, "3 h w"]], config: PretrainConfig, loaded: Loaded) -> dict[str, Tensor]:
    """The latents, centre crops, masks and PSNRs of a batch of photos."""
    preset, gan = config.plan.preset, loaded.gan
    images = torch.stack(list(photos)).to(loaded.machine.device)
    settings = InversionSettings(preset.inversion_iterations, candidates=preset.candidates)
    rng = torch.Generator().manual_seed(config.plan.options.seed)
    inversions = invert(images, gan.generator, gan.inversion_distance, settings, rng, SilentProgress())
    crops = loaded.center_crop(images)
    masks = [loaded.segment(crop, one.latent) for crop, one in zip(crops, inversions, strict=True)]
    tensors = {
        "latent": torch.stack([one.latent for one in inversions]),
        "image": crops,
        "mask": torch.stack([one.mask for one in masks]),
        "core": torch.stack([one.inner_mask for one in masks]),
        "psnr_db": torch.tensor([one.psnr_db for one in inversions]),
    }
    return {name: tensor.cpu() for name, tensor in tensors.items()}


def _joint_training(config: PretrainConfig, loaded: Loaded, subjects: Sequence[Subject]) -> JointTraining:
    """Untrained networks, initialised from the seed, and what trains them."""
    category, machine, seed = loaded.category, loaded.machine, config.plan.options.seed
    schedule = config.plan.preset.schedule
    if schedule is None:
        raise TypeError("joint training without a schedule")
    width, encoder_width = config.widths
    with seeded_weights(seed):
        nets = fresh_nets(category, loaded.means, width).to(machine.device, machine.dtype)
        encoder = OffsetEncoder(category.working_size, loaded.gan.generator.latent_size, encoder_width)
    predictor = encoder_predictor(category, loaded.gan, encoder.to(machine.device), machine)
    batches = Batches(len(subjects), config.photos_per_step, seed)
    samples = SampleStore(config.folder / SAMPLES)
    return JointTraining(nets, predictor, loaded.prior, schedule, subjects, batches, samples)


def _report(config: PretrainConfig, loaded: Loaded, training: JointTraining, trainer: Trainer) -> dict[str, Any]:
    """The machine, the losses of each phase, and how good the networks alone are on the training photos."""
    pairs, category, nets = config.collection.pairs, loaded.category, training.nets
    rows = []
    for index, (photo, subject) in enumerate(zip(config.collection.photos, training.subjects, strict=True)):
        image, mask = subject.observation.image, subject.object_mask
        factors = nets.factors_of(image)
        rendered = render(factors, nets.camera).image
        row: dict[str, Any] = {
            "photo": photo.name,
            "inversion_psnr_db": subject.inversion_psnr_db,
            "reconstruction_psnr_db": psnr(rendered * mask, image * mask),
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
        "perceptual": loaded.prior.perceptual.name,
        "name": config.name,
        "phases": [_phase_facts(name, trainer) for name in trainer.seconds],
        "figures": figures,
        "baselines": [asdict(one) for one in mean_baselines(pairs, category)] if pairs else [],
        "missed": [row["photo"] for row in rows if math.isnan(row.get("side_e2", 0.0))],
        "photos": [nan_to_none(row) for row in rows],
    }


def _phase_facts(name: str, trainer: Trainer) -> dict[str, Any]:
    """A phase's steps and seconds, and the mean loss of the first and of the last tenth of its steps."""
    losses = trainer.losses.get(name, [])
    facts: dict[str, Any] = {"phase": name, "steps": len(losses), "seconds": round(trainer.seconds[name], 2)}
    if losses:
        tenth = max(1, len(losses) // 10)
        facts |= {"first_loss": statistics.mean(losses[:tenth]), "last_loss": statistics.mean(losses[-tenth:])}
    return facts


def _write_losses(trainer: Trainer, path: Path) -> None:
    with atomic_write(path, RESUME_REMEDY) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("phase", "step", "loss"))
        for phase, losses in trainer.losses.items():
            writer.writerows((phase, step, f"{loss:.9g}") for step, loss in enumerate(losses, start=1))


def _write_parts(config: PretrainConfig, training: JointTraining) -> dict[Part, Path]:
    """The new category's files: networks in half precision, statistics of the photos' views and lights, the GAN.

    The network that segmented the photos is among them, if there is one.
    """
    nets = training.nets
    networks = {
        f"{name}.{key}": value.half().cpu()
        for name, module in training.modules.items()
        for key, value in module.state_dict().items()
    }
    # The outputs of V and L are relative to the means that they were trained with, not to those of these photos.
    means = {"mean_view": nets.mean_view.cpu(), "mean_light": nets.mean_light.cpu()}
    with torch.no_grad():
        images = [subject.observation.image[None] for subject in training.subjects]
        views = torch.cat([nets.view_code(image) for image in images]).cpu()
        lights = torch.cat([nets.light_code(image) for image in images]).cpu()
    tensors: dict[Part, dict[str, Tensor]] = {
        "networks": networks | means,
        "views": _statistics(views),
        "lights": _statistics(lights),
    }
    reused: tuple[Part, ...] = ("gan", "parsing", "person")
    written = {part: path for part in reused if (path := config.plan.weights.files.get(part))}
    trained_with = config.plan.weights.hashes()["gan"]
    for part, content in tensors.items():
        written[part] = config.folder / f"{part}.safetensors"
        write_weights(content, written[part], trained_with if part == "networks" else "", RESUME_REMEDY)
    return written


def _statistics(codes: Float[Tensor, "n c"]) -> dict[str, Tensor]:
    """Mean and covariance; of one photo alone the covariance is 0."""
    return {"mean": codes.mean(dim=0), "cov": torch.cov(codes.T, correction=0)}


def _card(config: PretrainConfig, report: dict[str, Any]) -> str:
    """The new category's README.md."""
    values = {name: "" if value is None else f"{value:.3f}" for name, value in report["figures"].items()}
    figures = "\n".join(f"| {name.replace('_', ' ')} | {value} |" for name, value in values.items())
    missed = (
        f"\n{len(report['missed'])} of {len(report['photos'])} photos were missed, and have neither SIDE nor MAD.\n"
    )
    return (
        f"# {config.name}\n\nNetworks trained jointly by g2s {__version__} pretrain on {len(report['photos'])} photos "
        f"with the GAN of {config.plan.category.name}.\n\nThe networks alone, on the photos they were trained on:\n\n"
        f"| | mean |\n|---|---|\n{figures}\n{missed if report['missed'] else ''}"
    )
