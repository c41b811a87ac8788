"""How random faces differ from the mean face, in shape and in look: the model that `g2s_cli.estimators.morphable` fits.

Expectation and maximisation, from smooth modes as likely as each other. Each face is explained by the model as it is;
how far its codes may be wrong is told by the explanation's curvature (Laplace's approximation); and the model becomes
the one that such codes are likeliest under.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from g2s_cli.estimators import morphable as morphing
from g2s_cli.estimators.feedforward import FactorNets
from g2s_cli.estimators.morphable import (
    FLOW_DEVIATION,
    FLOW_WEIGHT,
    LIFT,
    PIXEL_WEIGHT,
    USUAL_SPECULAR,
    Coefficients,
    Correspondences,
    deform,
    find_correspondences,
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
    FINE_REACH,
    MorphableModel,
    has_albedo,
    quantize_albedo_basis,
    read_morphable_model,
    smooth_modes,
)
from g2s_cli.estimators.registration import ShapeTemplate
from g2s_cli.geometry.camera import Camera, canonical_to_view, project_points, unproject_points
from g2s_cli.progress import Progress
from g2s_cli.seeding import seeded_generator
from g2s_cli.training.checkpoint import load_checkpoint, save_checkpoint
from recipes.synface.moving import Moves, Source
from recipes.synface.registering import AT_ONCE, some_faces

FACES = 800
ROUNDS = 12
ITERATIONS, DECAY = 60, 0.943  # of a face's codes, which go on; in the first round `morphing`'s own
LOOKS, LOOK_ROUNDS = 12, 12  # factors of looks, and how often they are estimated
LOOK_RIDGE = 20.0  # of their regression: so many faces' worth of nothing
ALIKE = 10  # pixels that are wrong together
HASTE = 1.5  # how far the mean goes at once, in what codes have in common
EVERY = 2  # pixels: curvature is measured on a grid so wide
NUDGE = 0.05  # standard deviations: of finite differences
LEAST_VARIANCE = 1e-4
MATT_SHARE = 0.5  # of what a point shows, at the least: the usual highlights may be more than all of a dark one
DOUBTED = 3  # so many faces' worth of the usual variance are added to every point's ...
LEAST_SEEN = 1e-3  # ... which have been seen by so many at the least, or variances would not be finite


@dataclass(frozen=True)
class Learnt:
    """The model so far, in smooth modes, and the codes of faces by it.

    detail: of the mean, beside the modes. bias: of a face's own moves, too, which no codes here have.
    """

    done: int
    mean: Float[Tensor, m]
    detail: Float[Tensor, "h w 3"]
    shape_basis: Float[Tensor, "m k"]
    albedo: Float[Tensor, "3 h w"]
    albedo_basis: Float[Tensor, "3 h w l"]
    variance: Float[Tensor, "3 h w"]
    lights: Float[Tensor, "2 4"]
    bias: Float[Tensor, "4 j"]
    coeffs: Coefficients

    def model(self, modes: Float[Tensor, "h w 3 m"]) -> MorphableModel:
        """As it is fitted."""
        shape = modes @ self.mean + self.detail, modes @ self.shape_basis
        bias = self.bias[:, : self.shape_basis.shape[1]]
        return MorphableModel(*shape, self.albedo, self.albedo_basis, self.variance, self.lights, bias)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """As `g2s_cli.estimators.morphable_model.shape_model` reads it."""
        albedo_basis, steps = quantize_albedo_basis(self.albedo_basis[:, has_albedo(self.albedo.half())])
        maps = {"detail": self.detail, "albedo": self.albedo, "variance": self.variance, "bias": self.bias}
        small = {
            "mean": self.mean,
            "factors": self.shape_basis,
            "lights": self.lights,
            "looks": albedo_basis,
            "look_steps": steps,
        }
        halves = {name: tensor.half() for name, tensor in maps.items()}
        return {f"shape.{name}": tensor.contiguous().cpu() for name, tensor in (halves | small).items()}


def learn(
    nets: FactorNets,
    mean: ShapeTemplate,
    moves: Moves,
    source: Source,
    seed: int,
    place: Path,
    progress: Progress,
) -> Learnt:
    """The model of random faces.

    moves: of a gallery as `nets` see it. place: a file that a killed run goes on from, a round at a time; the faces are
    seen anew. Raises G2SError for a damaged one.
    """
    camera, modes = nets.camera, smooth_modes(nets.camera).to(mean.depth.device)
    done = read(place, modes.device) if place.exists() else None
    if done and done.done == ROUNDS:
        return done
    progress.begin("see", FACES)
    parts: list[Correspondences] = []
    layers = source.gan.generator.layers
    for faces, latents in some_faces(source, moves, seed, "shapes", FACES):
        parts.append(find_correspondences(faces, latents, mean, nets, layers, lambda asked: source.show(asked).masked))
        progress.advance(sum(len(part.views) for part in parts), parts[-1].weights.mean().item())
    learnt = done or _first(parts, modes, camera, seed)
    progress.begin("shapes", ROUNDS)
    while learnt.done < ROUNDS:
        learnt, left = one_round(learnt, parts, modes, camera)
        write(learnt, place)
        progress.advance(learnt.done, left)
    return learnt


@torch.no_grad()
def _first(parts: Sequence[Correspondences], modes: Float[Tensor, "h w 3 m"], camera: Camera, seed: int) -> Learnt:
    """Smooth modes as they are, and looks of the faces where flows have them, on the mean face's relief."""
    values, weights = [], torch.cat([part.weights for part in parts])
    for part in parts:
        normal = point_normals(unproject_points(part.relief[None], camera)).expand(len(part.views), -1, -1, -1)
        usual = part.lights.new_full((len(part.views),), USUAL_SPECULAR)
        log_brightness = sample_at_pixels(part.log_brightness, part.found, camera)
        values.append(log_reflectance(log_brightness, normal, part.lights, part.views, usual))
    albedo, albedo_basis, variance = factored(torch.cat(values), weights, LOOKS, seeded_generator(seed, "looks"))
    lights = torch.cat([part.lights for part in parts])
    count = modes.shape[-1]
    mean, shape_basis = modes.new_zeros(count), torch.eye(count, device=modes.device)
    spread = torch.stack((lights.mean(dim=0), lights.std(dim=0)))
    bias = modes.new_zeros(4, count + smooth_modes(camera, FINE_REACH).shape[-1])
    model = MorphableModel(modes @ mean, modes @ shape_basis, albedo, albedo_basis, variance, spread, bias[:, :count])
    coeffs = joined([initial_coefficients(model, part) for part in parts])
    return Learnt(
        0, mean, torch.zeros_like(model.mean), shape_basis, albedo, albedo_basis, variance, spread, bias, coeffs
    )


def one_round(
    learnt: Learnt, parts: Sequence[Correspondences], modes: Float[Tensor, "h w 3 m"], camera: Camera
) -> tuple[Learnt, float]:
    """Codes by the model, and the model by the codes; and the variance that is left of looks."""
    model = learnt.model(modes)
    found: list[Coefficients] = []
    uncertain = torch.zeros_like(learnt.shape_basis[0, :, None] * learnt.shape_basis[0])
    for part, begin in zip(parts, parted(learnt.coeffs, parts), strict=True):
        found.append(fit_coefficients(model, part, camera, begin, *pace(learnt.done)))
        uncertain += covariances(model, part, camera, found[-1]).sum(dim=0)
    learnt = likeliest(replace(learnt, done=learnt.done + 1), joined(found), uncertain)
    albedo, _, left = reflectance(learnt, parts, modes, camera)
    return replace(learnt, albedo=albedo), left


def pace(done: int) -> tuple[int, float]:
    """Updates of codes in a round after so many, and the rate's decay: all the way at first, then on from there."""
    return (ITERATIONS, DECAY) if done else (morphing.ITERATIONS, morphing.DECAY)


def likeliest(learnt: Learnt, coeffs: Coefficients, uncertain: Float[Tensor, "k k"]) -> Learnt:
    """The model under which codes are likeliest that may be wrong by `uncertain`, the sum of their covariances."""
    middle = coeffs.shape.mean(dim=0)
    apart = coeffs.shape - middle
    spread, axes = torch.linalg.eigh((apart.T @ apart + uncertain) / len(apart))
    spread = spread.clamp(min=LEAST_VARIANCE).sqrt()
    return replace(
        learnt,
        mean=learnt.mean + HASTE * (learnt.shape_basis @ middle),
        shape_basis=learnt.shape_basis @ (axes * spread),
        coeffs=replace(coeffs, shape=(apart @ axes) / spread),
    )


@torch.no_grad()
def covariances(
    model: MorphableModel, seen: Correspondences, camera: Camera, coeffs: Coefficients
) -> Float[Tensor, "b k k"]:
    """How far codes of shape may be wrong: the inverse of the explanation's curvature there, views unknown, too."""
    coarse = slice(EVERY // 2, None, EVERY)
    count = coeffs.shape.shape[1] + coeffs.view.shape[1]

    def all_of(change: Float[Tensor, k] | float = 0.0) -> tuple[Tensor, Tensor]:
        numbers = torch.cat((coeffs.shape, coeffs.view), dim=1) + change
        shape, view = numbers.split((coeffs.shape.shape[1], coeffs.view.shape[1]), dim=1)
        left, pixels = residuals(model, seen, camera, replace(coeffs, shape=shape, view=view))
        return _freed_of_colour(left, seen)[:, :, coarse, coarse], pixels[:, coarse, coarse]

    still, there = all_of()
    variance, weights = model.variance[:, coarse, coarse], seen.weights[:, coarse, coarse]
    albedo = (weights.unsqueeze(1) / variance / (1 + still.square() / variance).sqrt()).sqrt()
    lie = (weights * FLOW_WEIGHT).sqrt().unsqueeze(-1) / (FLOW_DEVIATION * camera.size)
    masked_gradients = []
    for nudge in NUDGE * torch.eye(count, device=still.device):
        left, pixels = all_of(nudge)
        pair = ((left - still) * albedo).flatten(1), ((pixels - there) * lie).flatten(1)
        masked_gradients.append(torch.cat(pair, dim=1) / NUDGE)
    slope = torch.stack(masked_gradients, dim=-1)
    curvature = PIXEL_WEIGHT * EVERY**2 * slope.mT @ slope + torch.eye(count, device=slope.device)
    return torch.linalg.inv(curvature)[:, : coeffs.shape.shape[1], : coeffs.shape.shape[1]]


@torch.no_grad()
def reflectance(
    learnt: Learnt, parts: Sequence[Correspondences], modes: Float[Tensor, "h w 3 m"], camera: Camera
) -> tuple[Float[Tensor, "3 h w"], Float[Tensor, "3 h w"], float]:
    """The mean reflectance under the codes, the variance of what that leaves, and the mean of what was left before.

    The variance is the greater the fewer faces have shown a point. What is left is of lifted logarithms, so where it is
    dark reflectance goes a part of its way in a round.
    """
    model, total = learnt.model(modes), torch.zeros_like(learnt.albedo)
    squares, counted = torch.zeros_like(total), torch.zeros_like(total[0])
    for part, coeffs in zip(parts, parted(learnt.coeffs, parts), strict=True):
        left, weights = (
            _freed_of_colour(residuals(model, part, camera, coeffs)[0], part),
            part.weights.unsqueeze(1),
        )
        total, squares = total + (left * weights).sum(dim=0), squares + (left.square() * weights).sum(dim=0)
        counted = counted + part.weights.sum(dim=0)
    albedo = learnt.albedo + total / counted.clamp(min=1)
    varying = squares - total.square() / counted.clamp(min=1)
    return albedo, doubted(varying, counted), (squares.sum() / counted.sum() / len(total)).item()


@torch.no_grad()
def looks_of(
    learnt: Learnt,
    parts: Sequence[Correspondences],
    modes: Float[Tensor, "h w 3 m"],
    camera: Camera,
    count: int,
    rng: torch.Generator,
) -> tuple[Float[Tensor, "3 h w"], Float[Tensor, "3 h w k"], Float[Tensor, "3 h w"]]:
    """The mean reflectance of faces, its factors and the variance they leave of it, where codes have the points."""
    model, values = learnt.model(modes), []
    for part, coeffs in zip(parts, parted(learnt.coeffs, parts), strict=True):
        points, views = deform(model, part, camera, coeffs), views_of(part, coeffs)
        log_brightness = sample_at_pixels(
            part.log_brightness, project_points(canonical_to_view(points, views, camera), camera), camera
        )
        found = log_reflectance(log_brightness, point_normals(points), coeffs.light, views, specular_strength(coeffs))
        values.append(_freed_of_colour(found - model.albedo, part) + model.albedo)
    return factored(torch.cat(values), torch.cat([part.weights for part in parts]), count, rng)


def doubted(squares: Float[Tensor, "c h w"], counted: Float[Tensor, "h w"]) -> Float[Tensor, "c h w"]:
    """Variances of points from sums of squares of so many faces; what few have shown may vary by more than it did."""
    usual = squares.sum(dim=(1, 2), keepdim=True) / counted.sum()
    return (squares + DOUBTED * usual) / counted.clamp(min=LEAST_SEEN) + LEAST_VARIANCE


def log_reflectance(
    log_brightness: Float[Tensor, "b 3 h w"],
    normal: Float[Tensor, "#b h w 3"],
    lights: Float[Tensor, "b 4"],
    views: Float[Tensor, "b 6"],
    specular: Float[Tensor, b],
) -> Float[Tensor, "b 3 h w"]:
    """Of points that pictures show, without light and highlights; in the darkest pixels as if they were less dark."""
    generate = (log_brightness.exp() - LIFT).clamp(min=LIFT)
    matt = (generate - highlights(normal, lights, views, specular)).clamp(min=MATT_SHARE * generate)
    return matt.log() - log_shading(normal, lights)


def _freed_of_colour(left: Float[Tensor, "b 3 h w"], seen: Correspondences) -> Float[Tensor, "b 3 h w"]:
    """What is left if a picture's colours are free."""
    weights = seen.weights.unsqueeze(1)
    return left - (left * weights).sum(dim=(2, 3), keepdim=True) / weights.sum(dim=(2, 3), keepdim=True).clamp(min=1)


@torch.no_grad()
def factored(
    values: Float[Tensor, "n c h w"], weights: Float[Tensor, "n h w"], count: int, rng: torch.Generator
) -> tuple[Float[Tensor, "c h w"], Float[Tensor, "c h w k"], Float[Tensor, "c h w"]]:
    """Mean, factors and left-over variance of maps of which parts are missing: factor analysis by EM.

    weights: 0 where a value is missing. The variance is of what the factors' likeliest amounts leave, and the greater
    the fewer maps have a point: factors fit those few all too well.
    """
    shape, seen = values.shape[1:], weights.sum(dim=0)
    counted = seen.clamp(min=1)

    mean = (values * weights.unsqueeze(1)).sum(dim=0) / counted
    variance = doubted(((values - mean).square() * weights.unsqueeze(1)).sum(dim=0), seen)
    shape_basis = 0.05 * torch.randn(mean.numel(), count, generator=rng).to(values.device)
    every = weights.unsqueeze(1).expand_as(values).flatten(1)
    for _ in range(LOOK_ROUNDS):
        apart = (values - mean).flatten(1)
        amounts, products = [], []
        for some, there in zip(apart.split(AT_ONCE), every.split(AT_ONCE), strict=True):
            weigh = there / variance.flatten() / ALIKE
            curvature = (weigh.unsqueeze(-1) * shape_basis).mT @ shape_basis + torch.eye(
                count, device=shape_basis.device
            )
            covariance = torch.linalg.inv(curvature)
            amount = torch.einsum("nkl,nl->nk", covariance, (weigh * some) @ shape_basis)
            amounts.append(amount)
            products.append(covariance + amount[:, :, None] * amount[:, None])
        amount, product = torch.cat(amounts), torch.cat(products)
        ridge = LOOK_RIDGE * torch.eye(count, device=shape_basis.device)
        curvature = (every.T @ product.flatten(1)).view(-1, count, count) + ridge
        shape_basis = torch.linalg.solve(curvature, ((every * apart).T @ amount).unsqueeze(-1))[..., 0]
        left = (apart - amount @ shape_basis.T) * every
        variance = doubted((left * (apart - amount @ shape_basis.T)).sum(dim=0).view(shape), seen)
        mean = mean + left.sum(dim=0).view(shape) / counted
    return mean, shape_basis.view(*shape, count), variance


def joined(parts: Sequence[Coefficients]) -> Coefficients:
    """All of them in a row."""
    return Coefficients(
        **{field.name: torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Coefficients)}
    )


def parted(coeffs: Coefficients, parts: Sequence[Correspondences]) -> list[Coefficients]:
    """Each part's of what `joined` put in a row."""
    counts = [len(part.views) for part in parts]
    each = [tensor.split(counts) for tensor in vars(coeffs).values()]
    return [Coefficients(*some) for some in zip(*each, strict=True)]


def of_tensors(tensors: Mapping[str, Tensor], camera: Camera, device: torch.device) -> Learnt:
    """What `Learnt.tensors` kept, without codes: those of no faces. Raises KeyError if that is no such model."""
    model = read_morphable_model(tensors, camera, device)
    kept = {name: tensors[f"shape.{name}"].to(device).float() for name in ("mean", "detail", "factors", "bias")}
    sizes = {
        "shape": kept["factors"].shape[-1],
        "view": 6,
        "light": 4,
        "colour": 3,
        "albedo": model.albedo_basis.shape[-1],
    }
    none = Coefficients(
        specular=model.lights.new_zeros(0, 1), **{n: model.lights.new_zeros(0, size) for n, size in sizes.items()}
    )
    maps = {name: getattr(model, name) for name in ("albedo", "looks", "variance", "lights")}
    return Learnt(done=0, coeffs=none, **kept, **maps)


def write(learnt: Learnt, place: Path) -> None:
    """Whole or not at all."""
    save_checkpoint(vars(learnt) | {"codes": vars(learnt.coeffs)}, place)


def read(place: Path, device: torch.device) -> Learnt:
    """What `write` wrote. Raises G2SError for a damaged file."""
    with load_checkpoint(place, device) as state:
        return Learnt(**(state | {"codes": Coefficients(**state["codes"])}))
