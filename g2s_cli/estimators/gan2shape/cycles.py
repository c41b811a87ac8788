"""The paper's method for one photo (3.1, "Iterative self-refinement"): cycles of steps 1 to 3 on new networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from g2s_cli.config import Ellipsoid, Schedule, Stage
from g2s_cli.estimators.base import DepthEstimate, MaskedImages, Observation
from g2s_cli.estimators.feedforward import FactorNets, estimate_of
from g2s_cli.estimators.gan2shape.offsets import EncoderPredictor
from g2s_cli.estimators.gan2shape.prior import ellipsoid, prior_loss
from g2s_cli.estimators.gan2shape.step1 import albedo_loss
from g2s_cli.estimators.gan2shape.step2 import GanPrior, offset_loss, photo_sample, project_samples, pseudo_sampler
from g2s_cli.estimators.gan2shape.step3 import shape_loss
from g2s_cli.estimators.optimize import Fit, minimise
from g2s_cli.estimators.reconstruction import PhotoGeometry
from g2s_cli.geometry.render import render_shape
from g2s_cli.progress import Progress

# New networks of each photo: D, A, V, L, and E.
Networks = Callable[[], tuple[FactorNets, EncoderPredictor]]


@dataclass(frozen=True)
class GAN2Shape:
    """Shape from the GAN's projected samples of a photo.

    Attributes:
        networks: makes the networks that a photo begins with: the category's jointly trained ones, or untrained ones.
        gan: what is taken from the GAN.
        schedule: iterations, samples and rates (paper tables 9 to 12).
        shape: of the weak prior.
        seed: of all random draws.
    """

    networks: Networks
    gan: GanPrior
    schedule: Schedule
    shape: Ellipsoid
    seed: int

    def estimate(self, observation: Observation, progress: Progress) -> DepthEstimate:
        """All cycles for one photo; `encoder` is the trained E."""
        nets, predictor = self.networks()
        rng = torch.Generator().manual_seed(self.seed)
        if self.schedule.prior:
            mask = observation.mask if observation.inner_mask is None else observation.inner_mask
            depth = ellipsoid(mask, self.shape)
            fit = self._fit(self.schedule.prior)
            minimise(lambda: [prior_loss(nets, observation, depth)], nets.parameters("depth"), fit, "prior", progress)
        for number, stage in enumerate(self.schedule.stages):
            symmetric, own = self.schedule.symmetric(number), nets.mean_depth is not None
            # Networks with a mean depth are averaged with their mirror image; the authors' are pulled towards it.
            nets = replace(nets, symmetric=symmetric and own)
            self._step1(nets, observation, stage, progress)
            if stage.shape and self.schedule.samples:  # or there is no use for step 2
                samples = self._step2(nets, predictor, observation, stage, rng, progress)
                self._step3(nets, observation, samples, stage, rng, progress, symmetric=symmetric and not own)
            progress.picture("shape", render_shape(nets.factors_of(observation.image), nets.camera))
        estimate = estimate_of(nets.factors_of(observation.image), nets.camera)
        return replace(estimate, encoder=predictor.encoder.state_dict())

    def _step1(self, nets: FactorNets, observation: Observation, stage: Stage, progress: Progress) -> None:
        photo = PhotoGeometry.predicted(nets, observation, symmetric=False)

        def loss() -> list[Tensor]:
            return [albedo_loss(nets, photo, observation, self.gan.perceptual)]

        minimise(loss, nets.parameters("albedo"), self._fit(stage.albedo), "step 1: albedo", progress)

    def _step2(
        self,
        nets: FactorNets,
        predictor: EncoderPredictor,
        observation: Observation,
        stage: Stage,
        rng: torch.Generator,
        progress: Progress,
    ) -> MaskedImages:
        """Train E until the GAN follows pseudo samples, then collect projected samples."""
        generator, schedule = self.gan.generator, self.schedule
        photo = photo_sample(nets, observation, generator)
        draw = pseudo_sampler(nets, observation, self.gan, schedule.batch, rng)

        def loss() -> Iterator[Tensor]:
            return offset_loss(predictor, draw(), photo, observation, self.gan)

        minimise(loss, predictor.encoder.parameters(), self._fit(stage.project), "step 2: project", progress)
        return project_samples(predictor, draw, photo, observation, generator, schedule.samples)

    def _step3(
        self,
        nets: FactorNets,
        observation: Observation,
        samples: MaskedImages,
        stage: Stage,
        rng: torch.Generator,
        progress: Progress,
        *,
        symmetric: bool,
    ) -> None:
        def loss() -> list[Tensor]:
            index = torch.randint(len(samples.image), (self.schedule.batch,), generator=rng, device=rng.device)
            batch = samples.pick(index.to(samples.image.device))
            return [shape_loss(nets, observation, batch, self.gan.perceptual, symmetric=symmetric)]

        every = nets.parameters("depth", "albedo", "view", "light")
        minimise(loss, every, self._fit(stage.shape), "step 3: shape", progress)

    def _fit(self, iterations: int) -> Fit:
        return Fit(iterations, self.schedule.rate, self.schedule.decay)
