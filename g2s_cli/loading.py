"""From options to everything that a run loads once: files, GAN, networks and the preset's depth estimators."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from g2s_cli.config import Category, EstimatorConfig, Part, Preset
from g2s_cli.errors import UsageError, WeightsError
from g2s_cli.estimators.base import DepthEstimator
from g2s_cli.estimators.depth_net import DepthNet, DepthNetEstimator
from g2s_cli.estimators.feedforward import FactorNets, FeedForward, NetworkMeans, camera_of, fresh_nets, trained_nets
from g2s_cli.estimators.gan2shape.cycles import GAN2Shape
from g2s_cli.estimators.gan2shape.offset_encoder import OffsetEncoder
from g2s_cli.estimators.gan2shape.offsets import EncoderPredictor, LatentDirections, OffsetPredictor
from g2s_cli.estimators.gan2shape.sampling import ViewPrior
from g2s_cli.estimators.gan2shape.step2 import GanPrior
from g2s_cli.estimators.morphable import MorphableEstimator
from g2s_cli.estimators.morphable_model import MorphableModel, read_morphable_model
from g2s_cli.estimators.registration import ShapeTemplate
from g2s_cli.files import sha256_of
from g2s_cli.gan.discriminator import Discriminator
from g2s_cli.gan.losses import DiscriminatorDistance, PixelPyramid, perceptual_distance
from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.geometry.center_crop import CenterCrop
from g2s_cli.machine import Machine
from g2s_cli.options import Background, ReconstructOptions, Symmetry
from g2s_cli.photo.align import CropOptions
from g2s_cli.seeding import seeded_weights
from g2s_cli.segmentation.gan_features import Segmenter, fit_segmenter
from g2s_cli.segmentation.masks import ObjectMask, segment_object, segment_person, segment_with_features
from g2s_cli.segmentation.parsing_net import ParsingNet
from g2s_cli.segmentation.person_net import PersonNet
from g2s_cli.weights.categories import optional_parts, required_parts
from g2s_cli.weights.download_progress import DownloadProgress
from g2s_cli.weights.importers import build_gan, build_parsing_net, read_checkpoint
from g2s_cli.weights.latent_file import LatentFile
from g2s_cli.weights.registry import Sources, fetch_weights, find_category
from g2s_cli.weights.tensors import load_tensors, submodule_state

SEEDS = range(2**64)  # torch's


@dataclass(frozen=True)
class Gan:
    """A category's generator and discriminator, or what stands in for one that its file lacks."""

    generator: Generator
    discriminator: Discriminator | PixelPyramid

    @cached_property
    def segmenter(self) -> Segmenter:
        """Finds the object in the GAN's images; fitted to 64 of them when first asked for."""
        return fit_segmenter(self.generator)

    @cached_property
    def inversion_distance(self) -> DiscriminatorDistance:
        """For the inversion: all blocks of the discriminator, down to 4 px (docs/experiments/gan-128px.md)."""
        return DiscriminatorDistance(self.discriminator, blocks=len(self.discriminator.blocks))


@dataclass(frozen=True)
class Weights:
    """A category's files for one run. gan_file: the user's own GAN instead of the category's."""

    files: dict[Part, Path]
    gan_file: Path | None = None

    @classmethod
    def of(
        cls,
        category: Category,
        sources: Sources,
        *,
        networks: bool,
        gan: Path | None = None,
        fetching: DownloadProgress | None = None,
    ) -> Weights:
        """The files of a run, fetched where they are not here; networks: whether it needs the trained networks."""
        required = required_parts(category, networks=networks, own_gan=gan is not None)
        return cls(fetch_weights(category, required, sources, fetching, optional_parts(category)), gan)

    def tensors(self, part: Part) -> dict[str, Tensor]:
        """A part's tensors; none if the run has no such part."""
        return load_tensors(self.files[part]) if part in self.files else {}

    def hashes(self) -> dict[str, str]:
        """SHA-256 of every file, for the report. Raises WeightsError if one cannot be read."""
        files = dict(self.files) | ({"gan": self.gan_file} if self.gan_file else {})
        try:
            return {part: sha256_of(path) for part, path in files.items()}
        except OSError as error:
            what = f"{error.filename} cannot be read: {error.strerror or error}."
            raise WeightsError(what, "Check the file.") from error


@dataclass(frozen=True)
class Plan:
    """Checked options, and the files that they take; nothing is loaded yet."""

    options: ReconstructOptions
    category: Category
    preset: Preset
    latent: LatentFile | None
    weights: Weights

    @classmethod
    def of(cls, options: ReconstructOptions, fetching: DownloadProgress | None = None) -> Plan:
        """Check options, and fetch the files that are not here, a new category's from the Hub. Raises G2SError."""
        _check_one_of("symmetry", options.symmetry, get_args(Symmetry))
        _check_one_of("background", options.background, get_args(Background))
        if options.iterations is not None and options.iterations < 0:
            raise UsageError(f"{options.iterations} iterations cannot be done.", "Give 0 or more.")
        if options.seed not in SEEDS:
            raise UsageError(f"There is no seed {options.seed}.", f"Give 0 to {SEEDS[-1]}.")
        (options.crop or CropOptions()).check()
        gan = Path(options.gan).resolve() if options.gan else None
        if gan and not gan.is_file():  # before its category is asked for what that has not
            raise WeightsError(f"There is no file {options.gan}.", "Name a StyleGAN2 checkpoint.")
        sources = options.sources or Sources.from_environment()
        category = find_category(options.category_name, sources)
        preset = category.preset(options.preset).with_symmetry(options.symmetry)
        if options.iterations is not None:
            preset = preset.at_most(options.iterations)
        if options.background is not None:
            preset = replace(preset, masked=options.background == "remove")
        weights = Weights.of(category, sources, networks=preset.needs_networks, gan=gan, fetching=fetching)
        latent = LatentFile.parse(options.latent) if options.latent else None
        return cls(options, category, preset, latent, weights)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What a result depends on beside photo and machine, for the report. Raises WeightsError."""
        crop, schedule = self.options.crop or CropOptions(), self.preset.schedule
        return {
            "category": self.category.name,
            "preset": self.options.preset,
            "settings": _as_json(self.preset),
            "iterations_at_most": self.options.iterations,
            "symmetry": schedule.symmetry if schedule else "on" if self.preset.symmetric else "off",
            "background": "remove" if self.preset.masked else "keep",
            "crop_options": {
                "align": crop.align,
                "face": crop.face,
                "crop": list(crop.crop) if crop.crop else None,
                "mask": str(crop.mask) if crop.mask else None,
            },
            "seed": self.options.seed,
            "latent_sha256": sha256_of(self.latent.path) if self.latent else None,
            "latent_row": self.latent.row if self.latent else None,
            "weights": self.weights.hashes(),
        }


def _as_json(preset: Preset) -> dict[str, Any]:
    """A preset with its schedule's stages as lists, as JSON has them."""
    settings = asdict(preset)
    for estimator in settings["estimators"]:
        if estimator["schedule"]:
            estimator["schedule"]["stages"] = [list(stage.values()) for stage in estimator["schedule"]["stages"]]
    settings["estimators"] = list(settings["estimators"])
    return settings


def _check_one_of(what: str, chosen: str | None, known: tuple[str, ...]) -> None:
    """Raise UsageError, naming the known ones, for a choice that is none of them; None is no choice."""
    if chosen is not None and chosen not in known:
        raise UsageError(f"There is no {what} {chosen!r}.", f"Choose one of: {', '.join(known)}.")


@dataclass(frozen=True)
class Loaded:
    """A category on a machine. It serves any number of photos, and none of them changes it.

    Attributes:
        category: with the GAN's own image size.
        prior: what the method takes from the GAN.
        means: added to the outputs of networks without a mean depth.
        networks: tensors of the jointly trained networks; empty if the run needs none.
        parsing: finds the object in a photo; None if it is not here.
        person: finds the person in a photo; None for other categories.
        seconds: of loading.
    """

    plan: Plan
    machine: Machine
    category: Category
    gan: Gan
    center_crop: CenterCrop
    prior: GanPrior
    means: NetworkMeans
    networks: dict[str, Tensor]
    parsing: ParsingNet | None
    person: PersonNet | None
    seconds: float

    def segment(
        self,
        image: Float[Tensor, "3 h w"],
        latent: Float[Tensor, d],
        mask: Float[Tensor, "h w"] | None = None,
        surroundings: UInt8[np.ndarray, "n n 3"] | None = None,
    ) -> ObjectMask:
        """The object in a photo of latent w; mask: the user's; surroundings: of the crop, for the person network."""

        def by_features() -> ObjectMask:
            return segment_with_features(latent, self.gan.generator, self.gan.segmenter, self.center_crop)

        def by_person() -> ObjectMask:
            if self.person is None or surroundings is None:
                return by_features()
            # The paper's schedule masks the GAN's images, too: by their features.
            segmenter = self.gan.segmenter if self.plan.preset.schedule else None
            return segment_person(surroundings, self.person, self.center_crop, by_features, segmenter)

        return segment_object(image, self.category, self.parsing, by_person, mask)

    def factor_nets(self) -> FactorNets:
        """New D, A, V and L: the jointly trained ones, or untrained ones drawn from the run's seed."""
        category, preset = self.category, self.plan.preset
        with seeded_weights(self.plan.options.seed):
            if preset.needs_networks:
                nets = trained_nets(self.networks, category, self.means)
            else:
                nets = fresh_nets(category, self.means)
        nets = replace(nets, symmetric=nets.symmetric and preset.symmetric)
        return nets.to(self.machine.device, self.machine.dtype)

    def encoder(self) -> EncoderPredictor:
        """A new offset encoder E: the trained one, or one drawn from the run's seed."""
        state = submodule_state(self.networks, "netEnc")
        latent_size = self.gan.generator.latent_size
        with seeded_weights(self.plan.options.seed):
            if state:
                encoder = OffsetEncoder.from_state(state)
            else:
                if not self.plan.preset.needs_networks:
                    fresh_nets(self.category, self.means)  # their weights are drawn before E's
                encoder = OffsetEncoder(self.category.working_size, latent_size)
        if encoder.latent_size != latent_size:
            raise WeightsError(
                f"The networks of {self.category.name} are for a GAN with latents of {encoder.latent_size} numbers; "
                f"this one's have {latent_size}.",
                "Import the networks that were trained with this GAN, or use a preset that starts from the ellipsoid.",
            )
        schedule = self.plan.preset.schedule
        predictor = encoder_predictor(self.category, self.gan, encoder.to(self.machine.device), self.machine)
        return replace(predictor, weight=schedule.offset_weight if schedule else predictor.weight)

    def estimators(self) -> list[DepthEstimator]:
        """The preset's depth estimators, in its order. Raises WeightsError, UsageError for networks without a part."""
        preset, category = self.plan.preset, self.category
        if preset.needs_networks and not self.networks:
            untrained = [name for name, other in category.presets.items() if not other.needs_networks]
            remedy = f"Use --preset {untrained[0]}." if untrained else "Use --category own, which needs none."
            raise UsageError(f"This preset of {category.name} begins from networks trained with its own GAN.", remedy)
        return [self._estimator(one) for one in preset.estimators]

    def _estimator(self, config: EstimatorConfig) -> DepthEstimator:
        if config.schedule:
            self.encoder()  # raises for a wrong one, before any photo is fitted
            seed, shape = self.plan.options.seed, self.category.ellipsoid
            return GAN2Shape(lambda: (self.factor_nets(), self.encoder()), self.prior, config.schedule, shape, seed)
        if config.name == "depth_net":
            return DepthNetEstimator(_depth_net(self.networks, self.category, self.machine))
        if config.name == "morphable":
            return MorphableEstimator(
                _morphable_model(self.networks, self.category, self.machine),
                _template(self.networks, self.gan, self.category, self.machine),
                self.factor_nets(),
                self.gan.generator,
                config.iterations,
                self.plan.preset.masked,
            )
        return FeedForward(self.factor_nets())


def load(plan: Plan, machine: Machine) -> Loaded:
    """Read a plan's files. Raises WeightsError."""
    start = time.perf_counter()
    gan = load_gan(plan.weights, machine)
    category = with_gan_size(plan.category, gan.generator)
    views, means = _statistics(category, plan.weights)
    perceptual = perceptual_distance(gan.discriminator, machine.device)
    prior = GanPrior(gan.generator, DiscriminatorDistance(gan.discriminator), perceptual, views, category.lights)
    crop = CenterCrop(category.frame_share, category.working_size)
    networks = plan.weights.tensors("networks")
    if depth := plan.weights.tensors("depth"):  # in the place of the depth network among the networks
        networks = {name: each for name, each in networks.items() if not name.startswith("netS.")} | depth
    parsing = load_parsing_net(category, plan.weights, machine)
    person = PersonNet.from_state(state).to(machine.device) if (state := plan.weights.tensors("person")) else None
    seconds = time.perf_counter() - start
    return Loaded(plan, machine, category, gan, crop, prior, means, networks, parsing, person, seconds)


def load_gan(weights: Weights, machine: Machine) -> Gan:
    """The GAN of a run on a machine. Raises WeightsError."""
    if weights.gan_file is None:
        tensors = weights.tensors("gan")
    else:
        part, tensors = read_checkpoint(weights.gan_file)
        if part != "gan":
            raise WeightsError(f"{weights.gan_file} is no GAN but {part}.", "Name a StyleGAN2 checkpoint.")
    generator, discriminator = build_gan({name: tensor.float() for name, tensor in tensors.items()})
    generator = generator.to(machine.device).with_dtype(machine.dtype)
    discriminator = discriminator.to(machine.device).with_dtype(machine.dtype)
    return Gan(generator, discriminator)


def load_parsing_net(category: Category, weights: Weights, machine: Machine) -> ParsingNet | None:
    """The category's parsing network on a machine; None if it is not here. Raises WeightsError."""
    if "parsing" not in weights.files:
        return None
    return build_parsing_net(category, weights.tensors("parsing"), weights.files["parsing"]).to(machine.device)


def with_gan_size(category: Category, generator: Generator) -> Category:
    """The category for a GAN's own image size; depth and albedo are no larger than the image."""
    if generator.size == category.image_size:
        return category
    return replace(category, image_size=generator.size, working_size=min(category.working_size, generator.size))


def offset_predictor_of(
    state: Mapping[str, Tensor], category: Category, gan: Gan, weights: Weights, machine: Machine
) -> OffsetPredictor:
    """The offset predictor of a finished run: the encoder of a state dict, or without one the latent directions."""
    if state:
        encoder = OffsetEncoder.from_state(state).to(machine.device)
        return encoder_predictor(category, gan, encoder, machine)
    return LatentDirections(_directions(weights.tensors("networks"), gan).to(machine.device))


def encoder_predictor(category: Category, gan: Gan, encoder: OffsetEncoder, machine: Machine) -> EncoderPredictor:
    """The category's offset predictor with an encoder."""
    mapping = gan.generator.mapping
    return EncoderPredictor(mapping, encoder, category.offset_depth, category.offset_relative, machine.dtype)


def _template(tensors: dict[str, Tensor], gan: Gan, category: Category, machine: Machine) -> ShapeTemplate:
    if "mean_depth" not in tensors:
        raise _lacking(category, "template")
    directions = _directions(tensors, gan).to(machine.device)
    return ShapeTemplate(tensors["mean_depth"].to(machine.device), gan.generator.latent_avg, directions, gan.segmenter)


def _morphable_model(tensors: dict[str, Tensor], category: Category, machine: Machine) -> MorphableModel:
    try:
        return read_morphable_model(tensors, camera_of(category), machine.device)
    except (KeyError, RuntimeError) as error:
        raise _lacking(category, "morphable model") from error


def _depth_net(tensors: dict[str, Tensor], category: Category, machine: Machine) -> DepthNet:
    state = submodule_state(tensors, "netS")
    if not state:
        raise _lacking(category, "depth network")
    return DepthNet.from_state(state).to(machine.device)


def _lacking(category: Category, part: str) -> WeightsError:
    return WeightsError(
        f"The networks of {category.name} have no {part}, which this preset needs.",
        f"Fetch newer ones (g2s weights pull {category.name}), or use --preset paper.",
    )


def _directions(tensors: dict[str, Tensor], gan: Gan) -> Float[Tensor, "4 d"]:
    """The category's latent directions. Raises WeightsError if it has none, or another GAN's."""
    directions = tensors.get("directions")
    if directions is None or directions.shape[1] != gan.generator.latent_size:
        raise WeightsError("The category's networks have no directions in this GAN's W.", "Use --preset paper.")
    return directions


def _statistics(category: Category, weights: Weights) -> tuple[ViewPrior, NetworkMeans]:
    """Views that step 2 draws, and the means that V and L are relative to."""
    views, lights = weights.tensors("views"), weights.tensors("lights")
    mean = views["mean"].flatten() if views else torch.tensor(category.view_mean)
    covariance = views["cov"] if views else torch.tensor(category.view_covariance)
    means = NetworkMeans(mean, lights["mean"].flatten() if lights else torch.zeros(4))
    return ViewPrior(mean, covariance, category.yaw_stretch), means
