"""Learning the morphable model of `g2s_cli.estimators.morphable` by expectation and maximisation (EM).

A round fits the model's coefficients to each object, estimates their posterior covariances by Laplace's approximation,
and makes the model the likeliest under both. The first rounds learn from a GAN's random objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from g2s_cli.estimators import morphable
from g2s_cli.estimators.base import MaskedImages
from g2s_cli.estimators.morphable import (
    FLOW_DEVIATION,
    FLOW_WEIGHT,
    LIFT,
    PIXEL_WEIGHT,
    USUAL_SPECULAR,
    Coefficients,
    Correspondences,
    deform,
    fit_coefficients,
    highlights,
    initial_coefficients,
    log_shading,
    point_normals,
    residuals,
    sample_at_pixels,
    specular_strength,
    views_of,
)
from g2s_cli.estimators.morphable_model import (
    MorphableModel,
    has_albedo,
    quantize_albedo_basis,
    read_morphable_model,
    smooth_modes,
)
from g2s_cli.geometry.camera import Camera, canonical_to_view, project_points, unproject_points
from g2s_cli.progress import Progress
from g2s_cli.seeding import seeded_generator
from g2s_cli.training.factor_analysis import factor_analysis, shrunk_variance
from g2s_cli.training.feedforward import TrainedNetworks
from g2s_cli.training.latent_editing import LatentEditor, ObjectSampler
from g2s_cli.training.trainer import Losses, Trainer

CHUNK = 50  # random objects at once
ITERATIONS, DECAY = 60, 0.943  # of a fit that continues from the round before; the first is as long as a photo's
ALBEDO_COMPONENTS = 12
MEAN_STEP = 1.5  # overrelaxation of the mean shape
STRIDE = 2  # pixels, of the grid that curvature is measured on
DELTA = 0.05  # of finite differences, in standard deviations
MIN_VARIANCE = 1e-4  # of shape coefficients
MIN_MATTE = 0.5  # share of a point's brightness that is no highlight, at the least


@dataclass(frozen=True)
class Observations:
    """What a model is learnt from.

    Attributes:
        parts: correspondences of all objects, in parts that are fitted at once.
        modes: smooth modes of shape (`smooth_modes`).
    """

    parts: Sequence[Correspondences]
    modes: Float[Tensor, "h w 3 m"]
    camera: Camera

    @classmethod
    def of(cls, parts: Sequence[Correspondences], camera: Camera) -> Observations:
        """With the usual smooth modes."""
        return cls(parts, smooth_modes(camera).to(parts[0].views.device), camera)

    def pairs(self, coeffs: Coefficients) -> Iterator[tuple[Correspondences, Coefficients]]:
        """The parts with their coefficients."""
        counts = [len(part.views) for part in self.parts]
        split = zip(*(each.split(counts) for each in vars(coeffs).values()), strict=True)
        return ((part, Coefficients(*each)) for part, each in zip(self.parts, split, strict=True))

    def initial(self, model: MorphableModel) -> Coefficients:
        """Coefficients of the mean shape in the networks' views and lights."""
        return concatenate(initial_coefficients(model, part) for part in self.parts)

    def fit(self, model: MorphableModel, coeffs: Coefficients, iterations: int, decay: float) -> Coefficients:
        """Coefficients fitted to all objects."""
        pairs = self.pairs(coeffs)
        return concatenate(fit_coefficients(model, part, self.camera, some, iterations, decay) for part, some in pairs)

    def covariance(self, model: MorphableModel, coeffs: Coefficients) -> Float[Tensor, "k k"]:
        """The sum of the posterior covariances of all objects' shape coefficients."""
        pairs = self.pairs(coeffs)
        return torch.stack([covariances(model, part, self.camera, some).sum(dim=0) for part, some in pairs]).sum(dim=0)


@dataclass(frozen=True)
class EMState:
    """The model's parameters, and the coefficients of all objects.

    Attributes:
        mean: of shape, in smooth modes.
        detail: of the mean shape, beside the modes.
        shape_basis: in smooth modes.
        variance: of log albedo, that the basis leaves.
        lights: mean and standard deviation.
    """

    mean: Float[Tensor, m]
    detail: Float[Tensor, "h w 3"]
    shape_basis: Float[Tensor, "m k"]
    albedo: Float[Tensor, "3 h w"]
    albedo_basis: Float[Tensor, "3 h w l"]
    variance: Float[Tensor, "3 h w"]
    lights: Float[Tensor, "2 4"]
    coeffs: Coefficients

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], camera: Camera, device: torch.device) -> EMState:
        """The parameters in a file of networks, with coefficients of no objects. Raises KeyError without a model."""
        model = read_morphable_model(tensors, camera, device)
        part = {name: tensors[f"shape.{name}"].to(device).float() for name in ("mean", "detail", "factors")}
        return cls(
            mean=part["mean"],
            detail=part["detail"],
            shape_basis=part["factors"],
            albedo=model.albedo,
            albedo_basis=model.albedo_basis,
            variance=model.variance,
            lights=model.lights,
            coeffs=_no_coefficients(part["factors"], model.albedo_basis),
        )

    def model(self, modes: Float[Tensor, "h w 3 m"]) -> MorphableModel:
        """The model, without fine modes."""
        shape = modes @ self.mean + self.detail, modes @ self.shape_basis
        return MorphableModel(*shape, self.albedo, self.albedo_basis, self.variance, self.lights)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The parameters as `read_morphable_model` reads them."""
        albedo_basis, steps = quantize_albedo_basis(self.albedo_basis[:, has_albedo(self.albedo.half())])
        maps = {"detail": self.detail, "albedo": self.albedo, "variance": self.variance}
        tensors = {name: tensor.half() for name, tensor in maps.items()}
        tensors |= {"mean": self.mean, "factors": self.shape_basis, "lights": self.lights}
        tensors |= {"looks": albedo_basis, "look_steps": steps}
        return {f"shape.{name}": tensor.contiguous().cpu() for name, tensor in tensors.items()}


class EMTraining:
    """EM in rounds, whose state a checkpoint can hold."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.state: EMState | None = None

    @property
    def result(self) -> EMState:
        """The state after the rounds."""
        if self.state is None:
            raise ValueError("no round is done")
        return self.state

    def state_dict(self) -> dict[str, Any]:
        """The state as tensors."""
        return vars(self.state) | {"coeffs": vars(self.state.coeffs)} if self.state else {}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Restore `state_dict`."""
        if state:
            coeffs = Coefficients(**{name: tensor.to(self.device) for name, tensor in state["coeffs"].items()})
            parts = {name: tensor.to(self.device) for name, tensor in state.items() if name != "coeffs"}
            self.state = EMState(**parts, coeffs=coeffs)

    def run(
        self,
        trainer: Trainer,
        rounds: int,
        observe: Callable[[], Observations],
        initialize: Callable[[Observations], EMState],
        em_round: Callable[[EMState, Observations, int], tuple[EMState, float]],
    ) -> EMState:
        """Do the rounds that are not done yet.

        Args:
            observe: makes the observations, which no checkpoint holds.
            initialize: the state before the first round.
            em_round: the state after a round, and a value to show.
        """
        if trainer.updates_of("rounds") < rounds:
            observations = observe()
            if not trainer.updates_of("rounds"):
                self.state = initialize(observations)

            def step(update: int) -> Losses:
                self.state, value = em_round(self.result, observations, update)
                return {"residual": value}

            trainer.phase("rounds", rounds, step)
        return self.result


def random_objects(
    sampler: ObjectSampler, editor: LatentEditor, seed: int, count: int
) -> Iterator[tuple[MaskedImages, Float[Tensor, "b d"]]]:
    """Random objects and their latents, in chunks; every other chunk has a wider range of views than the GAN's own."""
    for start in range(0, count, CHUNK):
        rng = seeded_generator(seed, "objects", start)
        latents = sampler.latents(min(CHUNK, count - start), rng)
        if start // CHUNK % 2:
            latents = editor.wide_views(latents, rng)
        yield sampler.objects(latents), latents


def observe_random_objects(
    trained: TrainedNetworks, editor: LatentEditor, seed: int, count: int, progress: Progress
) -> Observations:
    """Correspondences of a GAN's random objects."""
    progress.begin("correspondences", count)
    parts: list[Correspondences] = []
    for objects, latents in random_objects(trained.sampler, editor, seed, count):
        parts.append(trained.correspond(objects, latents))
        progress.advance(sum(len(part.views) for part in parts), parts[-1].weights.mean().item())
    return Observations.of(parts, trained.nets.camera)


@torch.no_grad()
def initial_state(observations: Observations, seed: int) -> EMState:
    """All smooth modes as the shape basis, and an albedo basis of the objects' albedo on the mean shape."""
    parts, modes, camera = observations.parts, observations.modes, observations.camera
    values, weights = [], torch.cat([part.weights for part in parts])
    for part in parts:
        normal = point_normals(unproject_points(part.template[None], camera)).expand(len(part.views), -1, -1, -1)
        specular = part.lights.new_full((len(part.views),), USUAL_SPECULAR)
        log_image = sample_at_pixels(part.log_image, part.pixels, camera)
        values.append(log_albedo(log_image, normal, part.lights, part.views, specular))
    rng = seeded_generator(seed, "albedo basis")
    albedo, albedo_basis, variance = factor_analysis(torch.cat(values), weights, ALBEDO_COMPONENTS, rng)
    lights = torch.cat([part.lights for part in parts])
    count = modes.shape[-1]
    shape_basis = torch.eye(count, device=modes.device)
    state = EMState(
        mean=modes.new_zeros(count),
        detail=torch.zeros_like(modes[..., 0]),
        shape_basis=shape_basis,
        albedo=albedo,
        albedo_basis=albedo_basis,
        variance=variance,
        lights=torch.stack((lights.mean(dim=0), lights.std(dim=0))),
        coeffs=_no_coefficients(shape_basis, albedo_basis),
    )
    return replace(state, coeffs=observations.initial(state.model(modes)))


def em_round(state: EMState, observations: Observations, number: int) -> tuple[EMState, float]:
    """Fit coefficients, then update the shape basis and the mean albedo; returns the variance that was left, too."""
    model = state.model(observations.modes)
    coeffs = observations.fit(model, state.coeffs, *fit_schedule(number))
    state = update_shape(state, coeffs, observations.covariance(model, coeffs))
    albedo, _, residual = update_albedo(state, observations)
    return replace(state, albedo=albedo), residual


def fit_schedule(number: int) -> tuple[int, float]:
    """Iterations and learning-rate decay of a round's fit."""
    return (ITERATIONS, DECAY) if number else (morphable.ITERATIONS, morphable.DECAY)


def update_shape(state: EMState, coeffs: Coefficients, covariance: Float[Tensor, "k k"]) -> EMState:
    """The likeliest mean shape and shape basis. covariance: sum of the coefficients' posterior covariances."""
    mean = coeffs.shape.mean(dim=0)
    centred = coeffs.shape - mean
    variance, axes = torch.linalg.eigh((centred.T @ centred + covariance) / len(centred))
    std = variance.clamp(min=MIN_VARIANCE).sqrt()
    return replace(
        state,
        mean=state.mean + MEAN_STEP * (state.shape_basis @ mean),
        shape_basis=state.shape_basis @ (axes * std),
        coeffs=replace(coeffs, shape=(centred @ axes) / std),
    )


@torch.no_grad()
def covariances(
    model: MorphableModel, part: Correspondences, camera: Camera, coeffs: Coefficients
) -> Float[Tensor, "b k k"]:
    """Posterior covariances of shape coefficients, marginal over views: the inverse curvature of the log posterior."""
    grid = slice(STRIDE // 2, None, STRIDE)
    sizes = coeffs.shape.shape[1], coeffs.view.shape[1]

    def residuals_at(change: Float[Tensor, k] | float = 0.0) -> tuple[Tensor, Tensor]:
        shape, view = (torch.cat((coeffs.shape, coeffs.view), dim=1) + change).split(sizes, dim=1)
        residual, pixels = residuals(model, part, camera, replace(coeffs, shape=shape, view=view))
        return _without_colour_offset(residual, part)[:, :, grid, grid], pixels[:, grid, grid]

    residual, pixels = residuals_at()
    variance, weights = model.variance[:, grid, grid], part.weights[:, grid, grid]
    appearance = (weights.unsqueeze(1) / variance / (1 + residual.square() / variance).sqrt()).sqrt()
    position = (weights * FLOW_WEIGHT).sqrt().unsqueeze(-1) / (FLOW_DEVIATION * camera.size)
    columns = []
    for change in DELTA * torch.eye(sum(sizes), device=residual.device):
        changed, moved = residuals_at(change)
        pair = ((changed - residual) * appearance).flatten(1), ((moved - pixels) * position).flatten(1)
        columns.append(torch.cat(pair, dim=1) / DELTA)
    jacobian = torch.stack(columns, dim=-1)
    curvature = PIXEL_WEIGHT * STRIDE**2 * jacobian.mT @ jacobian + torch.eye(sum(sizes), device=jacobian.device)
    return torch.linalg.inv(curvature)[:, : sizes[0], : sizes[0]]


@torch.no_grad()
def update_albedo(
    state: EMState, observations: Observations
) -> tuple[Float[Tensor, "3 h w"], Float[Tensor, "3 h w"], float]:
    """The mean log albedo, the variance that is left with it, and the mean variance that was left before.

    Residuals are of lifted logarithms, so a dark albedo goes only part of its way in a round.
    """
    model, total = state.model(observations.modes), torch.zeros_like(state.albedo)
    squares, counts = torch.zeros_like(total), torch.zeros_like(total[0])
    for part, coeffs in observations.pairs(state.coeffs):
        residual = _without_colour_offset(residuals(model, part, observations.camera, coeffs)[0], part)
        weights = part.weights.unsqueeze(1)
        total = total + (residual * weights).sum(dim=0)
        squares = squares + (residual.square() * weights).sum(dim=0)
        counts = counts + part.weights.sum(dim=0)
    albedo = state.albedo + total / counts.clamp(min=1)
    variance = shrunk_variance(squares - total.square() / counts.clamp(min=1), counts)
    return albedo, variance, (squares.sum() / counts.sum() / len(total)).item()


@torch.no_grad()
def refit_albedo_basis(
    state: EMState, observations: Observations, count: int, rng: torch.Generator
) -> tuple[Float[Tensor, "3 h w"], Float[Tensor, "3 h w k"], Float[Tensor, "3 h w"]]:
    """Factor analysis of the objects' log albedo on their fitted shapes: mean, basis and residual variance."""
    model, camera, values = state.model(observations.modes), observations.camera, []
    for part, coeffs in observations.pairs(state.coeffs):
        points, views = deform(model, part, camera, coeffs), views_of(part, coeffs)
        pixels = project_points(canonical_to_view(points, views, camera), camera)
        log_image = sample_at_pixels(part.log_image, pixels, camera)
        albedo = log_albedo(log_image, point_normals(points), coeffs.light, views, specular_strength(coeffs))
        values.append(_without_colour_offset(albedo - model.albedo, part) + model.albedo)
    weights = torch.cat([part.weights for part in observations.parts])
    return factor_analysis(torch.cat(values), weights, count, rng)


def log_albedo(
    log_image: Float[Tensor, "b 3 h w"],
    normal: Float[Tensor, "#b h w 3"],
    lights: Float[Tensor, "b 4"],
    views: Float[Tensor, "b 6"],
    specular: Float[Tensor, b],
) -> Float[Tensor, "b 3 h w"]:
    """Log albedo of points: their lifted log brightness without highlights and shading. The darkest are brightened."""
    brightness = (log_image.exp() - LIFT).clamp(min=LIFT)
    matte = (brightness - highlights(normal, lights, views, specular)).clamp(min=MIN_MATTE * brightness)
    return matte.log() - log_shading(normal, lights)


def _without_colour_offset(residual: Float[Tensor, "b 3 h w"], part: Correspondences) -> Float[Tensor, "b 3 h w"]:
    """Residuals less each image's weighted mean: its colour balance is free."""
    weights = part.weights.unsqueeze(1)
    total = weights.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    return residual - (residual * weights).sum(dim=(2, 3), keepdim=True) / total


def concatenate(parts: Iterable[Coefficients]) -> Coefficients:
    """The coefficients of all parts."""
    columns = zip(*(vars(part).values() for part in parts), strict=True)
    return Coefficients(*(torch.cat(column) for column in columns))


def _no_coefficients(shape_basis: Float[Tensor, "m k"], albedo_basis: Float[Tensor, "3 h w l"]) -> Coefficients:
    sizes = shape_basis.shape[-1], 6, 4, 3, albedo_basis.shape[-1], 1
    return Coefficients(*(shape_basis.new_zeros(0, size) for size in sizes))
