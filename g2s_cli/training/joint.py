"""Joint pre-training (paper 3.1 "Joint training", A.2): one set of networks for many photos, in cycles of three steps.

The photos of an update and their random numbers depend on the seed, the phase and the update, not on the number of
processes that share them.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from g2s_cli.config import Schedule
from g2s_cli.errors import G2SError
from g2s_cli.estimators.base import MaskedImages, Observation
from g2s_cli.estimators.feedforward import FactorNets
from g2s_cli.estimators.gan2shape.offsets import EncoderPredictor, PseudoSamples
from g2s_cli.estimators.gan2shape.prior import prior_loss
from g2s_cli.estimators.gan2shape.step1 import albedo_loss
from g2s_cli.estimators.gan2shape.step2 import GanPrior, offset_loss, photo_sample, project_samples, pseudo_sampler
from g2s_cli.estimators.gan2shape.step3 import shape_loss
from g2s_cli.estimators.optimize import Fit, new_adam
from g2s_cli.estimators.reconstruction import PhotoGeometry
from g2s_cli.files import RESUME_REMEDY, atomic_write
from g2s_cli.seeding import seeded_generator
from g2s_cli.training.distributed import Group
from g2s_cli.training.trainer import Trainer, descend

# The loss of a photo, given its index and a generator, in terms that add up.
PhotoLoss = Callable[[int, torch.Generator], Iterator[Tensor]]


@dataclass(frozen=True)
class Subject:
    """A photo of the set.

    Attributes:
        target: the photo; its mask is where losses count.
        object_mask: the object's.
        prior_depth: the depth that D begins with.
        inversion_psnr_db: of the GAN's image of the latent, for the report.
    """

    observation: Observation
    object_mask: Float[Tensor, "h w"]
    prior_depth: Float[Tensor, "h w"]
    inversion_psnr_db: float = math.nan


@dataclass(frozen=True)
class SampleStore:
    """The projected samples of a cycle, one file of bytes for each photo."""

    folder: Path

    def path(self, cycle: int, photo: int) -> Path:
        """The file of a photo."""
        return self.folder / f"cycle-{cycle}" / f"{photo:05}.npy"

    def write(self, cycle: int, photo: int, samples: MaskedImages) -> None:
        """Keep a photo's samples. Raises G2SError if the disk refuses."""
        channels = torch.cat(((samples.image + 1) / 2, samples.mask), dim=1)
        with atomic_write(self.path(cycle, photo), RESUME_REMEDY) as temporary, temporary.open("wb") as file:
            np.save(file, (channels * 255).round().to(torch.uint8).cpu().numpy())

    def draw(self, cycle: int, photo: int, count: int, rng: torch.Generator, device: torch.device) -> MaskedImages:
        """A random batch of a photo's samples. Raises G2SError if the file is missing."""
        path = self.path(cycle, photo)
        if not path.is_file():
            raise G2SError(f"{path} is missing.", f"Delete {self.folder.parent} and train again.")
        stored = np.load(path, mmap_mode="r")
        index = torch.randint(len(stored), (count,), generator=rng)
        channels = torch.from_numpy(stored[index.numpy()]).to(device).float() / 255
        image, mask = channels[:, :3] * 2 - 1, channels[:, 3:]
        return MaskedImages(image * mask, mask)

    def drop(self, cycle: int) -> None:
        """Delete the samples of a cycle."""
        shutil.rmtree(self.path(cycle, 0).parent, ignore_errors=True)


@dataclass(frozen=True)
class Batches:
    """Which photos an update has: `size` of `photos`, over all processes."""

    photos: int
    size: int
    seed: int

    def share(self, phase: str, update: int, group: Group) -> list[tuple[int, int]]:
        """This process's slots of an update's batch, each with its photo."""
        rng = seeded_generator(self.seed, phase, update, "photos")
        order = torch.randperm(self.photos, generator=rng).tolist()
        return [(slot, order[slot]) for slot in group.share(self.size)]

    def mean(self, loss: PhotoLoss, phase: str, update: int, group: Group) -> Iterator[Tensor]:
        """This process's terms of the mean loss of an update's photos."""
        for slot, photo in self.share(phase, update, group):
            for term in loss(photo, seeded_generator(self.seed, phase, update, slot)):
                yield term / self.size


@dataclass(frozen=True)
class JointTraining:
    """The networks of all photos and what trains them; the trainer's state is `modules`."""

    nets: FactorNets
    offset_predictor: EncoderPredictor
    gan: GanPrior
    schedule: Schedule
    subjects: Sequence[Subject]
    batches: Batches
    samples: SampleStore

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The networks by the names in their files."""
        nets = self.nets
        return {
            "netD": nets.depth,
            "netA": nets.albedo,
            "netV": nets.view,
            "netL": nets.light,
            "netEnc": self.offset_predictor.encoder,
        }

    def run(self, trainer: Trainer) -> None:
        """Train D on the prior, then all networks in the cycles of the schedule."""
        nets, schedule = self.nets, self.schedule

        def phase(name: str, parameters: Iterable[nn.Parameter], updates: int, loss: PhotoLoss) -> None:
            optimizer = new_adam(parameters, Fit(updates, schedule.rate, schedule.decay))

            def step(update: int) -> dict[str, float]:
                terms = self.batches.mean(loss, name, update, trainer.group)
                return {"loss": descend(optimizer, terms, trainer.group)}

            trainer.phase(name, updates, step, optimizer=optimizer, images=self.batches.size)

        phase("prior", nets.parameters("depth"), schedule.prior, self.prior_loss)
        for cycle, stage in enumerate(schedule.stages, start=1):
            symmetric, name = schedule.symmetric(cycle - 1), f"cycle {cycle}"
            first = partial(self.albedo_loss, symmetric=symmetric and cycle > 1)  # as in the authors' code
            phase(f"{name}, albedo", nets.parameters("albedo"), stage.albedo, first)
            phase(f"{name}, project", self.offset_predictor.encoder.parameters(), stage.project, self.offset_loss)
            trainer.once(f"{name}, collect", partial(self.project_samples, cycle, trainer))
            every = nets.parameters("depth", "albedo", "view", "light")
            phase(f"{name}, shape", every, stage.shape, partial(self.shape_loss, cycle=cycle, symmetric=symmetric))
            if trainer.group.is_main:
                self.samples.drop(cycle)  # the last update of the phase has synchronised all processes

    def prior_loss(self, photo: int, _rng: torch.Generator) -> Iterator[Tensor]:
        """The prior shape's."""
        subject = self.subjects[photo]
        yield prior_loss(self.nets, subject.observation, subject.prior_depth)

    def albedo_loss(self, photo: int, _rng: torch.Generator, *, symmetric: bool) -> Iterator[Tensor]:
        """Step 1."""
        observation = self.subjects[photo].observation
        geometry = PhotoGeometry.predicted(self.nets, observation, symmetric=symmetric)
        yield albedo_loss(self.nets, geometry, observation, self.gan.perceptual)

    def offset_loss(self, photo: int, rng: torch.Generator) -> Iterator[Tensor]:
        """Step 2."""
        observation = self.subjects[photo].observation
        own = photo_sample(self.nets, observation, self.gan.generator)
        pseudo = self._pseudo_sampler(observation, rng)()
        return offset_loss(self.offset_predictor, pseudo, own, observation, self.gan)

    def shape_loss(self, photo: int, rng: torch.Generator, *, cycle: int, symmetric: bool) -> Iterator[Tensor]:
        """Step 3."""
        observation = self.subjects[photo].observation
        samples = self.samples.draw(cycle, photo, self.schedule.batch, rng, observation.image.device)
        yield shape_loss(self.nets, observation, samples, self.gan.perceptual, symmetric=symmetric)

    def project_samples(self, cycle: int, trainer: Trainer) -> None:
        """Project the samples of a cycle, this process's share of the photos; those on disk are kept.

        The schedule states their number for each photo of a batch. Larger batches therefore have no fewer.
        """
        name, batches = f"cycle {cycle}, collect", self.batches
        count = math.ceil(self.schedule.samples * batches.size / batches.photos)
        mine = trainer.group.share(batches.photos)
        trainer.progress.begin(name, len(mine))
        for done, photo in enumerate(mine, start=1):
            if not self.samples.path(cycle, photo).is_file():
                rng = seeded_generator(batches.seed, name, photo)
                self.samples.write(cycle, photo, self._project(photo, rng, count))
            trainer.progress.advance(done, 0.0)
        trainer.group.barrier()

    def _project(self, photo: int, rng: torch.Generator, count: int) -> MaskedImages:
        observation = self.subjects[photo].observation
        own = photo_sample(self.nets, observation, self.gan.generator)
        pseudo = self._pseudo_sampler(observation, rng)
        return project_samples(self.offset_predictor, pseudo, own, observation, self.gan.generator, count)

    def _pseudo_sampler(self, observation: Observation, rng: torch.Generator) -> Callable[[], PseudoSamples]:
        return pseudo_sampler(self.nets, observation, self.gan, self.schedule.batch, rng)
