"""Joint pre-training (paper 3.1 "Joint training", A.2): one set of networks for many photos, in cycles of three steps.

Whatever is random at a step is drawn from its own seed: of the run, the phase, the step, and the photo's slot in it. A
step's photos are the same however many processes share them, and nothing runs on from one step to the next but the
networks and their optimiser: with those saved, a run that was killed ends as if it never had been.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from g2s_cli.config import Category, Preset, halves_alike
from g2s_cli.estimators.feedforward import FactorNets
from g2s_cli.estimators.gan2shape.cycles import Guides
from g2s_cli.estimators.gan2shape.prior import prior_loss
from g2s_cli.estimators.gan2shape.prior import ellipsoid
from g2s_cli.estimators.albedo import albedo_loss
from g2s_cli.estimators.base import MaskedImages
from g2s_cli.estimators.gan2shape.offsets import EncoderPredictor
from g2s_cli.estimators.gan2shape.step2 import offset_loss, pseudo_sampler
from g2s_cli.estimators.gan2shape.step3 import shape_loss
from g2s_cli.estimators.gan2shape.steps import Observation, photo_sample, project_samples, held_fixed
from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.progress import Progress
from g2s_cli.training.distributed import Group
from g2s_cli.training.joint_run import Rhythm, Run, Trained


@dataclass(frozen=True)
class Subject:
    """A photo of the set. object_mask: where it is, core: what the weak prior stands on; the target's
    mask is where losses count."""

    observation: Observation
    object_mask: Float[Tensor, "h w"]
    inner_mask: Float[Tensor, "h w"]


def pretrain(
    nets: FactorNets,
    offset_predictor: EncoderPredictor,
    generator: Generator,
    subjects: Sequence[Subject],
    category: Category,
    effort: Preset,
    guides: Guides,
    rhythm: Rhythm,
    folder: Path,
    group: Group,
    progress: Progress,
) -> Trained:
    """All cycles for all photos. Changes the networks it is given. Goes on where the checkpoint in `folder` says."""
    run = Run(modules_of(nets, offset_predictor), len(subjects), effort, rhythm, folder, group, progress)
    shapes = [ellipsoid(subject.inner_mask, category.ellipsoid) for subject in subjects]

    def prior(photo: int, _rng: torch.Generator) -> Iterator[Tensor]:
        yield prior_loss(nets, subjects[photo].observation, shapes[photo])

    def albedo(photo: int, _rng: torch.Generator, *, flips: bool) -> Iterator[Tensor]:
        observation = subjects[photo].observation
        yield albedo_loss(nets, observation, held_fixed(nets, observation, symmetric=flips), guides.perceptual)

    def project(photo: int, rng: torch.Generator) -> Iterator[Tensor]:
        observation = subjects[photo].observation
        own = photo_sample(nets, observation, generator)
        asked = pseudo_sampler(nets, observation, guides.views, guides.lights, effort.batch, rng)()
        return offset_loss(offset_predictor, generator, asked, own, observation, guides.distance)

    def gather(photo: int, rng: torch.Generator, count: int) -> MaskedImages:
        observation = subjects[photo].observation
        own = photo_sample(nets, observation, generator)
        pseudo = pseudo_sampler(nets, observation, guides.views, guides.lights, effort.batch, rng)
        return project_samples(offset_predictor, generator, pseudo, own, observation, count, guides.segmenter)

    def shape(photo: int, rng: torch.Generator, *, cycle: str, flips: bool) -> Iterator[Tensor]:
        observation = subjects[photo].observation
        some = run.samples(cycle, photo, effort.batch, rng, observation.image.device)
        yield shape_loss(nets, observation, some, guides.perceptual, symmetric=flips)

    run.phase("prior", nets.parameters("depth"), effort.prior, prior)
    for number, stage in enumerate(effort.stages):
        cycle = f"cycle {number + 1}"
        flips = halves_alike(effort.symmetry, number)
        first = partial(albedo, flips=flips and number > 0)  # as the authors have it
        run.phase(f"{cycle}, albedo", nets.parameters("albedo"), stage.albedo, first)
        run.phase(f"{cycle}, project", offset_predictor.encoder.parameters(), stage.project, project)
        run.project_samples(cycle, gather)
        everything = nets.parameters("depth", "albedo", "view", "light")
        run.phase(f"{cycle}, shape", everything, stage.shape, partial(shape, cycle=cycle, flips=flips))
        run.drop_samples(cycle)
    return run.trained


def modules_of(nets: FactorNets, offset_predictor: EncoderPredictor) -> dict[str, nn.Module]:
    """The networks under the names of their files: netD, netA, netV, netL, netEnc."""
    return {
        "netD": nets.depth,
        "netA": nets.albedo,
        "netV": nets.view,
        "netL": nets.light,
        "netEnc": offset_predictor.encoder,
    }
