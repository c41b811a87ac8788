"""The model of shape learnt on from photos: pictures that the GAN has learnt from, without depth or any other label.

A GAN's pictures are lit nearly as faces are, photos of faces as they are. So the mean face's finest slopes, which no
smooth mode has, are found under the many lights of many photos (photometric stereo of a population), turn by turn with
how photos are explained, how faces differ, and what reflectance is left. Then looks are found anew, more of them:
what is wrong of a picture's reflectance is wrong of whole regions, and must not be taken for shape.

A face is the same from wherever the camera and the light look at it. What codes of shape have in common with those all
the same is the explanation's own doing: in the end reflectance and the mean face are learnt from codes without it, and
what is left of it is measured, for `g2s_cli.estimators.morphable.unbiased` to take away.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from g2s_cli.estimators.base import MaskedImages
from g2s_cli.estimators.feedforward import FactorNets
from g2s_cli.estimators.morphable import (
    ALBEDO_SPREAD,
    PIXEL_WEIGHT,
    Coefficients,
    Correspondences,
    debias,
    find_correspondences,
    fit_coefficients,
    neg_log_posterior,
    views_of,
)
from g2s_cli.estimators.morphable import initial_coefficients as first_codes
from g2s_cli.estimators.morphable_model import MorphableModel, nuisance, read_morphable_model, smooth_modes
from g2s_cli.estimators.registration import ShapeTemplate
from g2s_cli.gan.inversion import InversionSettings, invert
from g2s_cli.geometry.camera import Camera
from g2s_cli.progress import Progress, SilentProgress
from g2s_cli.seeding import seeded_generator
from g2s_cli.segmentation.masks import segment_with_features
from g2s_cli.training.dataset import ImageDataset
from recipes.synface.moving import Source
from recipes.synface.shapes import (
    ALIKE,
    Learnt,
    covariances,
    joined,
    likeliest,
    looks_of,
    pace,
    parted,
    read,
    reflectance,
    write,
)

PHOTOS, AT_ONCE = 672, 32
INVERSION = InversionSettings(iterations=50)  # far enough for masks and colours
BENDS, BEND_RATE = 80, 0.02  # updates of the mean face's detail in a round, each by the photos of one batch
LEAST_BEND = 0.02  # of a mode's amplitude in the strongest's
BIAS_RIDGE = 100.0  # of codes' regression on circumstances: so many photos' worth of nothing
LOOKS = 32  # factors of photos' looks: about as many as the embedded category's 40 MB hold


class Photographed(NamedTuple):
    """Photos as they are explained, and where in them the object is."""

    seen: Correspondences
    masks: Float[Tensor, "b 1 h w"]


class Round(NamedTuple):
    """What a round learns beside reflectance and its variance.

    reach: of the process that the mean face's detail is bent by, in shares of the side; 0 is not at all. factors: of
    shape. looks: factors of those, all anew. freed: whether all of this is learnt from codes without their bias. bias:
    that of the model as it is, and nothing else at all.
    """

    reach: float = 0.0
    shape_basis: bool = False
    albedo_basis: bool = False
    freed: bool = False
    bias: bool = False


ROUNDS = [
    *[Round(reach=4 / 64, shape_basis=True)] * 10,
    *[Round(reach=2.5 / 64)] * 4,
    *[Round(reach=1.5 / 64)] * 6,
    *[Round(shape_basis=True)] * 2,
    *[Round(albedo_basis=True)] * 2,
    *[Round(freed=True)] * 2,
    Round(reach=1.5 / 64, freed=True),
    Round(bias=True),
]


def observed(
    pictures: ImageDataset,
    count: int,
    nets: FactorNets,
    mean: ShapeTemplate,
    source: Source,
    seed: int,
    progress: Progress,
) -> Iterator[Photographed]:
    """The first photos of a set, found in W, each with the mean face beside it."""
    gan, center_crop = source.gan, source.center_crop
    progress.begin("see", count)
    done = 0
    for photos in pictures.batches(count, AT_ONCE):
        rng, asked = seeded_generator(seed, "invert"), photos.to(mean.depth.device)
        found = invert(asked, gan.generator, gan.inversion_distance, INVERSION, rng, SilentProgress())
        latents = torch.stack([one.latent for one in found])
        masks = [segment_with_features(latent, gan.generator, gan.segmenter, center_crop).whole for latent in latents]
        faces = MaskedImages(center_crop(asked), torch.stack(masks).unsqueeze(1)).masked
        seen = find_correspondences(
            faces, latents, mean, nets, gan.generator.layers, lambda some: source.show(some).masked
        )
        done += len(photos)
        progress.advance(done, seen.weights.mean().item())
        yield Photographed(seen, faces.mask)


def initial_coefficients(place: Path, learnt: Learnt) -> Learnt:
    """What a run has come to by the file that it keeps, else what it begins with. Raises G2SError for a damaged one."""
    return read(place, learnt.albedo.device) if place.exists() else learnt


def finished(learnt: Learnt) -> bool:
    """Whether no round is left to do."""
    return learnt.done == len(ROUNDS)


def refine(
    learnt: Learnt, parts: Sequence[Correspondences], camera: Camera, seed: int, place: Path, progress: Progress
) -> Learnt:
    """The model that photos are likeliest under, from one of other faces on or from one that is on its way.

    place: a file that is written after every round.
    """
    modes = smooth_modes(camera).to(learnt.albedo.device)
    if not learnt.done:
        model = learnt.model(modes)
        learnt = replace(learnt, coeffs=joined([first_codes(model, part) for part in parts]))
    progress.begin("refine", len(ROUNDS))
    while not finished(learnt):
        learnt, left = one_round(learnt, ROUNDS[learnt.done], parts, modes, camera, seed)
        write(learnt, place)
        progress.advance(learnt.done, left)
    return learnt


def one_round(
    learnt: Learnt,
    how: Round,
    parts: Sequence[Correspondences],
    modes: Float[Tensor, "h w 3 m"],
    camera: Camera,
    seed: int,
) -> tuple[Learnt, float]:
    """Codes by the model; by the codes factors, the mean face and reflectance; and the variance that was left.

    Of a round for the bias: the share of codes' squares that it is.
    """
    if how.bias:
        return measured(learnt, parts, camera)
    model, before = learnt.model(modes), parted(learnt.coeffs, parts)
    pairs = zip(parts, before, strict=True)
    found = [fit_coefficients(model, part, camera, coeffs, *pace(learnt.done)) for part, coeffs in pairs]
    coeffs, done = joined(found), learnt.done + 1
    if how.freed:
        coeffs, _ = freed(model, coeffs, parts)
        found = parted(coeffs, parts)
    if how.shape_basis:
        pairs = zip(parts, found, strict=True)
        uncertain = torch.stack([covariances(model, part, camera, some).sum(dim=0) for part, some in pairs]).sum(dim=0)
        learnt = likeliest(learnt, coeffs, uncertain)
    else:
        learnt = replace(learnt, coeffs=coeffs)
    if how.reach:
        fine = smooth_modes(camera, how.reach, LEAST_BEND).to(modes.device)
        found, rng = parted(learnt.coeffs, parts), seeded_generator(seed, "bend", done)
        learnt = replace(learnt, detail=learnt.detail + bent(learnt.model(modes), fine, parts, found, camera, rng))
    learnt = replace(learnt, done=done)
    albedo, variance, left = reflectance(learnt, parts, modes, camera)
    if how.albedo_basis:
        albedo, albedo_basis, variance = looks_of(
            learnt, parts, modes, camera, LOOKS, seeded_generator(seed, "looks", done)
        )
        none = learnt.coeffs.albedo.new_zeros(len(learnt.coeffs.albedo), LOOKS)
        learnt = replace(learnt, albedo_basis=albedo_basis / ALBEDO_SPREAD, coeffs=replace(learnt.coeffs, albedo=none))
    return replace(learnt, albedo=albedo, variance=variance), left


def measured(learnt: Learnt, parts: Sequence[Correspondences], camera: Camera) -> tuple[Learnt, float]:
    """With the bias of the model as g2s reads it and fits it; and the share of codes' squares that it is."""
    model = read_morphable_model(learnt.tensors, camera, learnt.albedo.device)
    coeffs = joined([fit_coefficients(model, part, camera, first_codes(model, part), *pace(0)) for part in parts])
    free, bias = freed(model, coeffs, parts)
    share = 1 - free.shape.square().sum() / coeffs.shape.square().sum().clamp(min=1e-9)
    return replace(learnt, done=learnt.done + 1, bias=bias), share.item()


def freed(
    model: MorphableModel, coeffs: Coefficients, parts: Sequence[Correspondences]
) -> tuple[Coefficients, Float[Tensor, "4 k"]]:
    """Codes without their mean and what they have in common with views and lights; and that."""
    bias = bias_of(coeffs, parts)
    pairs = zip(parts, parted(coeffs, parts), strict=True)
    return joined([debias(replace(model, bias=bias), part, some) for part, some in pairs]), bias


def bias_of(coeffs: Coefficients, parts: Sequence[Correspondences]) -> Float[Tensor, "4 k"]:
    """What codes of shape are by `circumstances` alone: their mean, and their regression on these, shrunk a little."""
    views = torch.cat([views_of(part, some) for part, some in zip(parts, parted(coeffs, parts), strict=True)])
    told = nuisance(views, coeffs.light)[:, 1:]
    middle, spread = told.mean(dim=0), told.std(dim=0, correction=0).clamp(min=1e-6)
    apart, usual = (told - middle) / spread, coeffs.shape.mean(dim=0)
    curvature = apart.T @ apart + BIAS_RIDGE * torch.eye(told.shape[1], device=told.device)
    masked_gradients = torch.linalg.solve(curvature, apart.T @ (coeffs.shape - usual)) / spread[:, None]
    return torch.cat(((usual - middle @ masked_gradients)[None], masked_gradients))


def bent(
    model: MorphableModel,
    fine: Float[Tensor, "h w 3 m"],
    parts: Sequence[Correspondences],
    coeffs: Sequence[Coefficients],
    camera: Camera,
    rng: torch.Generator,
) -> Float[Tensor, "h w 3"]:
    """What makes photos likelier if the mean face is bent so: amounts of `fine`, by Adam on some photos at a time."""
    amounts = fine.new_zeros(fine.shape[-1], requires_grad=True)
    adam = torch.optim.Adam([amounts], lr=BEND_RATE, betas=(0.9, 0.98))
    counts = torch.tensor([float(len(part.views)) for part in parts])
    count = int(counts.sum())
    for index in torch.multinomial(counts, BENDS, replacement=True, generator=rng).tolist():  # each photo as often
        part = parts[index]
        moved = replace(model, mean=model.mean + fine @ amounts)
        cost = (
            neg_log_posterior(moved, part, camera, coeffs[index]).mean() * count / (ALIKE * PIXEL_WEIGHT)
            + amounts.square().sum() / 2
        )
        adam.zero_grad()
        cost.backward()
        adam.step()
    return fine @ amounts.detach()
