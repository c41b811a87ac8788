"""The paper's method for one photo (3.1, "Iterative self-refinement"): cycles of steps 1 to 3 on new networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from g2s_cli.config import Ellipsoid, Schedule, Stage
from g2s_cli.estimators.albedo import train_albedo
from g2s_cli.estimators.base import DepthEstimate, MaskedImages, Observation
from g2s_cli.estimators.feedforward import FactorNets, estimate_of
from g2s_cli.estimators.gan2shape.offsets import EncoderPredictor
from g2s_cli.estimators.gan2shape.prior import ellipsoid, fit_prior
from g2s_cli.estimators.gan2shape.step2 import GanPrior, photo_sample, project_samples, pseudo_sampler, train_offsets
from g2s_cli.estimators.gan2shape.step3 import train_shape
from g2s_cli.estimators.optimize import Fit
from g2s_cli.estimators.reconstruction import PhotoGeometry
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
            fit_prior(nets, observation, ellipsoid(mask, self.shape), self._fit(self.schedule.prior), progress)
        for number, stage in enumerate(self.schedule.stages):
            nets = self._with_symmetry(nets, number)
            self._cycle(nets, predictor, observation, stage, number, rng, progress)
        estimate = estimate_of(nets.factors_of(observation.image), nets.camera)
        return replace(estimate, encoder=predictor.encoder.state_dict())

    def _cycle(
        self,
        nets: FactorNets,
        predictor: EncoderPredictor,
        observation: Observation,
        stage: Stage,
        number: int,
        rng: torch.Generator,
        progress: Progress,
    ) -> None:
        """Steps 1 to 3. Without iterations of step 3, or samples for it, there is no step 2."""
        photo = PhotoGeometry.predicted(nets, observation, symmetric=False)
        fit = self._fit(stage.albedo)
        train_albedo(nets, photo, observation, self.gan.perceptual, fit, "step 1: albedo", progress)
        if not (stage.shape and self.schedule.samples):
            return
        samples = self._project(nets, predictor, observation, stage.project, rng, progress)
        # Networks with a template are averaged with their mirror image; the authors' are pulled towards it.
        symmetric = self.schedule.symmetric(number) and nets.mean_depth is None

        def draw() -> MaskedImages:
            index = torch.randint(len(samples.image), (self.schedule.batch,), generator=rng, device=rng.device)
            return samples.pick(index.to(samples.image.device))

        fit = self._fit(stage.shape)
        train_shape(nets, observation, draw, self.gan.perceptual, fit, progress, symmetric=symmetric)

    def _project(
        self,
        nets: FactorNets,
        predictor: EncoderPredictor,
        observation: Observation,
        iterations: int,
        rng: torch.Generator,
        progress: Progress,
    ) -> MaskedImages:
        """Step 2: train E on pseudo samples, then collect projected samples."""
        generator, schedule = self.gan.generator, self.schedule
        photo = photo_sample(nets, observation, generator)
        sampler = pseudo_sampler(nets, observation, self.gan, schedule.batch, rng)
        train_offsets(predictor, sampler, photo, observation, self.gan, self._fit(iterations), progress)
        return project_samples(predictor, sampler, photo, observation, generator, schedule.samples)

    def _with_symmetry(self, nets: FactorNets, number: int) -> FactorNets:
        return replace(nets, symmetric=self.schedule.symmetric(number) and nets.mean_depth is not None)

    def _fit(self, iterations: int) -> Fit:
        return Fit(iterations, self.schedule.rate, self.schedule.decay)
