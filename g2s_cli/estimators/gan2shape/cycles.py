"""The iterative self-refinement (paper 3.1): where the networks start, and the three steps, cycle by cycle."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import mse_loss

from g2s_cli.estimators.depth_net import DepthNet
from g2s_cli.estimators.feedforward import FactorNets
from g2s_cli.estimators.fusion import Witness, agreeing, depth_by_sight
from g2s_cli.estimators.gan2shape.prior import ellipsoid
from g2s_cli.estimators.gan2shape.sampling import LightPrior, ViewPrior
from g2s_cli.estimators.gan2shape.steps import (
    EncoderPredictor,
    OffsetPredictor,
    Target,
    as_it_is,
    collect,
    fit_albedo,
    fit_offset,
    fit_shape,
    fit_view,
    pseudo_sampler,
)
from g2s_cli.estimators.morphable import fit_morphable
from g2s_cli.estimators.morphable_model import MorphableModel
from g2s_cli.estimators.networks import CodeNet, MapNet, default_width
from g2s_cli.estimators.optimize import Fit, going_back, minimise
from g2s_cli.estimators.registration import ShapeTemplate, fit_registered, match
from g2s_cli.gan.losses import DiscriminatorDistance, Perceptual
from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.geometry.camera import Camera
from g2s_cli.geometry.factors import Factors
from g2s_cli.geometry.render import depth_with_rim
from g2s_cli.progress import Progress
from g2s_cli.segmentation.gan_features import Segmenter
from g2s_cli.weights.catalog import Category, Preset, Symmetry, halves_alike
from g2s_cli.weights.tensors import part_of


@dataclass(frozen=True)
class Guides:
    """What judges and varies: the two distances, the priors of views and lights, and the parser of masks.

    mean: what photos are registered with, if the category knows it. shapes: how objects differ from it. sight: S.
    """

    distance: DiscriminatorDistance
    perceptual: Perceptual
    views: ViewPrior
    lights: LightPrior
    segmenter: Segmenter | None
    mean: ShapeTemplate | None = None
    shapes: MorphableModel | None = None
    sight: DepthNet | None = None


def camera_of(category: Category) -> Camera:
    """The category's camera at its working size."""
    return Camera(category.working_size, category.fov_deg, category.near, category.far)


@dataclass(frozen=True)
class Means:
    """What is added to what V and L say, in network units: the category's mean view (6) and mean light (4)."""

    view: Float[Tensor, 6]
    light: Float[Tensor, 4]


def trained_nets(tensors: dict[str, Tensor], category: Category, means: Means) -> FactorNets:
    """The category's jointly trained networks, from the tensors of its file.

    Ours with a mean shape (`base`) say everything themselves; those of g2s pretrain state the means that they are
    relative to; the authors' are relative to the category's.
    """
    ours = "base" in tensors
    return FactorNets(
        depth=MapNet.from_state(part_of(tensors, "netD"), bounded=False),
        albedo=MapNet.from_state(part_of(tensors, "netA"), bounded=True),
        view=CodeNet.from_state(part_of(tensors, "netV")),
        light=CodeNet.from_state(part_of(tensors, "netL")),
        camera=camera_of(category),
        base=tensors.get("base"),
        mean_view=torch.zeros(6) if ours else tensors.get("mean_view", means.view),
        mean_light=torch.zeros(4) if ours else tensors.get("mean_light", means.light),
        symmetric=ours,
    )


def fresh_nets(category: Category, means: Means, width: int | None = None) -> FactorNets:
    """Untrained networks which say the category's mean view and mean light. width: None is the authors'."""
    size = category.working_size
    width = width or default_width(size)
    return FactorNets(
        depth=MapNet(size, 1, width, bounded=False),
        albedo=MapNet(size, 3, width, bounded=True),
        view=CodeNet(size, 6, width),
        light=CodeNet(size, 4, width),
        camera=camera_of(category),
        base=None,
        mean_view=means.view,
        mean_light=means.light,
    )


def fit_prior(nets: FactorNets, target: Target, depth: Float[Tensor, "h w"], settings: Fit, progress: Progress) -> None:
    """Change D until it says the given depth for the photo: what the first cycle starts from."""

    def loss() -> Iterator[Tensor]:
        yield prior_loss(nets, target, depth)

    minimise(loss, nets.parameters("depth"), settings, "prior", progress)


def prior_loss(nets: FactorNets, target: Target, depth: Float[Tensor, "h w"]) -> Float[Tensor, ""]:
    """How far from a depth map is what D says of the photo."""
    return mse_loss(nets.depth_of(target.image[None]), depth[None])


def fit(
    nets: FactorNets,
    offset_predictor: OffsetPredictor,
    generator: Generator,
    target: Target,
    mask: Float[Tensor, "h w"],
    category: Category,
    preset: Preset,
    symmetry: Symmetry,
    guides: Guides,
    rng: torch.Generator,
    progress: Progress,
) -> Factors:
    """All cycles for one photo. Changes the networks it is given; returns the photo's factors.

    mask: the object's core, which places the weak prior, whether or not the losses are confined to it. A cycle
    without iterations of step 3 or without samples for it has no use for step 2.
    """
    if preset.prior:
        shape = ellipsoid(mask, category.ellipsoid)
        fit_prior(nets, target, shape, Fit(preset.prior, preset.rate, preset.decay), progress)
    # Our jointly trained networks are averaged with their mirror image; others are pulled towards it.
    averaged = nets.base is not None
    second, agreed = None, None
    for number, stage in enumerate(preset.stages):
        symmetric = halves_alike(symmetry, number)
        nets = replace(nets, symmetric=symmetric and averaged)
        if number == 0 and preset.register and guides.mean:
            given = (nets, generator, target, guides.mean)
            if preset.agree and guides.shapes:
                second = fit_morphable(*given, guides.shapes, progress, masked=preset.masked, steps=preset.steps)
                nets = replace(nets, specular=second.specular.item())
            first = match(*given, progress, masked=preset.masked)
            fit_registered(nets, first, Fit(preset.register, preset.rate, preset.decay), progress)
        if number == 0 and preset.place:
            fit_view(nets, target, guides.perceptual, Fit(preset.place, preset.rate, preset.decay), progress)
        albedo, project, relief = (
            Fit(count, preset.rate, preset.decay) for count in (stage.albedo, stage.project, stage.shape)
        )
        fit_albedo(nets, target, guides.perceptual, albedo, progress, symmetric=False)
        samples = None
        if relief.iterations and preset.samples:
            own = as_it_is(nets, target, generator)
            pseudo = pseudo_sampler(nets, target, guides.views, guides.lights, preset.batch, rng)
            if isinstance(offset_predictor, EncoderPredictor):
                fit_offset(offset_predictor, generator, pseudo, own, target, guides.distance, project, progress)
            samples = collect(offset_predictor, generator, pseudo, own, target, preset.samples, guides.segmenter)
        if relief.iterations:
            flips = symmetric and not averaged
            with going_back(nets.parameters("depth"), preset.keep):
                fit_shape(
                    nets, target, samples, guides.perceptual, relief, preset.batch, rng, progress, symmetric=flips
                )
        if number == 0:
            witnesses = [Witness(second.depth, preset.agree)] if second else []
            if preset.sight and guides.sight:
                witnesses.append(Witness(depth_by_sight(guides.sight, target.alone), preset.sight))
            if witnesses:
                nets, agreed = agreeing(nets, target.alone, witnesses)
            # Results are the paper's matt objects: from here on highlights are paint.
            nets = replace(nets, specular=0.0)
    factors = factors_of(nets, target)
    if agreed is None or any(stage.shape for stage in preset.stages[1:]):
        return factors
    shown = depth_with_rim(factors.depth[None], factors.view[None], nets.camera)
    return replace(factors, apart=agreed.apart(shown))


@torch.no_grad()
def factors_of(nets: FactorNets, target: Target) -> Factors:
    """What the networks now say of a photo."""
    image = target.image[None]
    canonical = nets.canonical(image)
    return Factors(canonical.depth[0], canonical.albedo[0], nets.view_of(image)[0], nets.light_of(image)[0])
