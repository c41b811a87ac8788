"""What a run loads once, whatever the number of its photos: a category's networks, priors and frame on a machine."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from g2s_cli.config import OFFSET_WEIGHT, Category, Part, Preset, Symmetry
from g2s_cli.errors import UsageError, WeightsError
from g2s_cli.estimators.depth_net import DepthNet
from g2s_cli.estimators.feedforward import FactorNets
from g2s_cli.estimators.feedforward import camera_of, fresh_nets, trained_nets
from g2s_cli.estimators.gan2shape.cycles import Guides, Means
from g2s_cli.estimators.gan2shape.offset_encoder import OffsetEncoder
from g2s_cli.estimators.gan2shape.sampling import LightPrior, ViewPrior
from g2s_cli.estimators.gan2shape.offsets import EncoderPredictor, LatentDirections, OffsetPredictor
from g2s_cli.estimators.morphable_model import MorphableModel, read_morphable_model
from g2s_cli.estimators.registration import ShapeTemplate
from g2s_cli.files import sha256_of
from g2s_cli.gan.discriminator import Discriminator
from g2s_cli.gan.losses import DiscriminatorDistance, perceptual_distance
from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.geometry.center_crop import CenterCrop
from g2s_cli.photo.align import CropOptions
from g2s_cli.result.schema import Result
from g2s_cli.segmentation.gan_features import Segmenter, fit_segmenter
from g2s_cli.segmentation.masks import ObjectMask, segment_object, segment_with_features
from g2s_cli.segmentation.parsing_net import ParsingNet
from g2s_cli.training.joint_run import drawn_from
from g2s_cli.weights.categories import load_category
from g2s_cli.weights.importers import build_gan, build_parsing_net, read_checkpoint
from g2s_cli.weights.latent_file import LatentFile
from g2s_cli.weights.registry import Sources, fetch_weights
from g2s_cli.weights.tensors import load_tensors, submodule_state

Background = Literal["keep", "remove"]
SEEDS = range(2**64)  # torch's


@dataclass(frozen=True)
class Machine:
    """Where arithmetic runs, and in what precision the convolutions do."""

    device: torch.device
    dtype: torch.dtype

    @classmethod
    def named(cls, name: str) -> Machine:
        """A machine for a device name; "auto" is the GPU if there is one. Raises UsageError if there is not."""
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            device = torch.device(name)
            torch.zeros(1, device=device).item()  # "meta" has tensors, but nothing in them
        except (RuntimeError, AssertionError) as error:
            raise UsageError(f"There is no device {name!r} here.", "Use --device cpu.") from error
        if device.type == "cuda":
            with torch.cuda.device(device):
                native = torch.cuda.is_bf16_supported(including_emulation=False)
            return cls(device, torch.bfloat16 if native else torch.float32)
        # Only where the processor multiplies bfloat16 itself is it faster than float32.
        native = device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        return cls(device, torch.bfloat16 if native else torch.float32)


@dataclass(frozen=True)
class Gan:
    """A category's generator and discriminator."""

    generator: Generator
    discriminator: Discriminator

    @cached_property
    def segmenter(self) -> Segmenter:
        """What finds the object in generated images. Made when first asked for: it takes 64 images."""
        return fit_segmenter(self.generator)

    @cached_property
    def inversion_distance(self) -> DiscriminatorDistance:
        """What latents are found by: all blocks of the discriminator, down to 4 px (docs/experiments/gan-128px.md)."""
        return DiscriminatorDistance(self.discriminator, blocks=len(self.discriminator.blocks))


@dataclass(frozen=True)
class Weights:
    """A category's files for one run: where each lies. gan_file: the user's own GAN instead of the category's."""

    files: dict[Part, Path]
    gan_file: Path | None = None

    @classmethod
    def of(cls, category: Category, effort: Preset, sources: Sources, gan: Path | None = None) -> Weights:
        """What a preset needs, fetched where it is not here. A GAN of the user's own goes without trained networks."""
        return cls(
            fetch_weights(
                category, category.needs(effort, own_gan=gan is not None), sources, welcome=category.welcomes
            ),
            gan,
        )

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
    """What is asked of every photo of a run, and the files it takes; nothing is loaded yet.

    preset: a name; effort: what it means. latent: where the one photo's w is. wanted: where the object is in each
    photo.
    """

    category: Category
    preset: str
    effort: Preset
    iterations: int | None
    symmetry: Symmetry
    latent: LatentFile | None
    seed: int
    weights: Weights
    crop_options: CropOptions

    @classmethod
    def of(
        cls,
        *,
        category: str | None = None,
        preset: str = "fast",
        iterations: int | None = None,
        symmetry: Symmetry | None = None,
        background: Background | None = None,
        gan: Path | str | None = None,
        latent: Path | str | None = None,
        sources: Sources | None = None,
        seed: int = 0,
        crop_options: CropOptions | None = None,
    ) -> Plan:
        """A plan from what `pipeline.reconstruct` takes. Fetches the files that are not here. Raises G2SError."""
        _check_one_of("symmetry", symmetry, get_args(Symmetry))
        _check_one_of("background", background, get_args(Background))
        if iterations is not None and iterations < 0:
            raise UsageError(f"{iterations} iterations cannot be done.", "Give 0 or more.")
        if seed not in SEEDS:
            raise UsageError(f"There is no seed {seed}.", f"Give 0 to {SEEDS[-1]}.")
        crop_options = (crop_options or CropOptions()).check()
        if gan and not Path(gan).is_file():  # before its category is asked for what that has not
            raise WeightsError(f"There is no file {gan}.", "Name a StyleGAN2 checkpoint.")
        config = load_category(category or ("own" if gan else "synface"))
        effort = config.preset(preset) if iterations is None else config.preset(preset).at_most(iterations)
        effort = effort if background is None else replace(effort, masked=background == "remove")
        weights = Weights.of(
            config, effort, sources or Sources.from_environment(), Path(gan).resolve() if gan else None
        )
        file = LatentFile.parse(latent) if latent else None
        chosen = symmetry or effort.symmetry
        return cls(config, preset, effort, iterations, chosen, file, seed, weights, crop_options)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What a result depends on beside its photo and the machine, for the report. Raises WeightsError."""
        stages = [[stage.albedo, stage.project_points, stage.shape] for stage in self.effort.stages]
        return {
            "category": self.category.name,
            "preset": self.preset,
            "effort": asdict(self.effort) | {"stages": stages},
            "iterations_at_most": self.iterations,
            "symmetry": self.symmetry,
            "background": "remove" if self.effort.masked else "keep",
            "wanted": {
                "align": self.crop_options.align,
                "face": self.crop_options.face,
                "crop": list(self.crop_options.crop) if self.crop_options.crop else None,
                "mask": str(self.crop_options.mask) if self.crop_options.mask else None,
            },
            "seed": self.seed,
            "latent_sha256": sha256_of(self.latent.path) if self.latent else None,
            "latent_row": self.latent.row if self.latent else None,
            "weights": self.weights.hashes(),
        }


def _check_one_of(what: str, chosen: str | None, known: tuple[str, ...]) -> None:
    """Raise UsageError, naming the known ones, for a choice that is none of them; None is no choice."""
    if chosen is not None and chosen not in known:
        raise UsageError(f"There is no {what} {chosen!r}.", f"Choose one of: {', '.join(known)}.")


@dataclass(frozen=True)
class Loaded:
    """A category made ready on a machine. It serves any number of photos, and none of them changes it.

    kind: the plan's, but with the GAN's own picture size. networks: the tensors of the jointly trained ones, if the
    preset has use for them. parsing: what finds the object in a photo; None if that is not here. seconds: what loading
    took.
    """

    plan: Plan
    machine: Machine
    category: Category
    gan: Gan
    center_crop: CenterCrop
    guides: Guides
    means: Means
    networks: dict[str, Tensor]
    parsing: ParsingNet | None
    seconds: float

    def object_in(
        self, image: Float[Tensor, "3 h w"], latent: Float[Tensor, d], given: Float[Tensor, "h w"] | None = None
    ) -> ObjectMask:
        """The object in a photo of latent w; given: the user's own mask."""

        def by_features() -> ObjectMask:
            return segment_with_features(latent, self.gan.generator, self.gan.segmenter, self.center_crop)

        return segment_object(image, self.category, self.parsing, by_features, given)


def load(plan: Plan, machine: Machine) -> Loaded:
    """Read a plan's files and make everything ready. Raises WeightsError."""
    begun = time.perf_counter()
    gan = load_gan(plan.weights, machine)
    category = fitted(plan.category, gan.generator)
    views, lights, means = _priors(category, plan.weights)
    distance = DiscriminatorDistance(gan.discriminator)
    perceptual = perceptual_distance(gan.discriminator, machine.device)
    networks = plan.weights.tensors("networks")
    mean = _mean_object(networks, gan, category, machine) if plan.effort.register and networks else None
    shapes = _shapes(networks, category, machine) if plan.effort.agree and networks else None
    sight = _sight(networks, category, machine) if plan.effort.sight and networks else None
    # Each photo's own mask says what parses its samples.
    guides = Guides(distance, perceptual, views, lights, None, mean, shapes, sight)
    center_crop = CenterCrop(category.frame_share, category.working_size)
    parsing = load_parser(category, plan.weights, machine)
    return Loaded(
        plan, machine, category, gan, center_crop, guides, means, networks, parsing, time.perf_counter() - begun
    )


def first_nets(loaded: Loaded) -> tuple[FactorNets, OffsetPredictor]:
    """The networks a preset begins with, one photo's to change, and what will follow its views and lights.

    Weights that nobody trained are drawn from the plan's seed; torch's global generator stays as it is.
    """
    with drawn_from(loaded.plan.seed):
        return _first_nets(loaded)


def _first_nets(loaded: Loaded) -> tuple[FactorNets, OffsetPredictor]:
    category, effort, tensors = loaded.category, loaded.plan.effort, loaded.networks
    if not tensors and (effort.trained or effort.follow == "linear"):
        untrained = [
            name for name, other in category.presets.items() if not other.trained and other.follow == "encoder"
        ]
        remedy = f"Use --preset {untrained[0]}." if untrained else "Use --category own, which needs none."
        raise UsageError(f"This preset of {category.name} begins from networks trained with its own GAN.", remedy)
    nets = trained_nets(tensors, category, loaded.means) if effort.trained else fresh_nets(category, loaded.means)
    if nets.camera.size != nets.depth.size:
        raise WeightsError(
            f"The networks of {category.name} are for {nets.depth.size} px, its model.toml for {nets.camera.size} px.",
            f"Fetch both from one place: g2s weights pull {category.name}",
        )
    if effort.follow == "linear":
        offset_predictor: OffsetPredictor = LatentDirections(_directions(tensors, loaded.gan).to(loaded.machine.device))
    else:
        state = submodule_state(tensors, "netEnc")
        size, latent_size = category.working_size, loaded.gan.generator.latent_size
        encoder = OffsetEncoder.from_state(state) if state else OffsetEncoder(size, latent_size)
        if encoder.latent_size != latent_size:
            raise WeightsError(
                f"The networks of {category.name} are for a GAN with latents of {encoder.latent_size} numbers; "
                f"this one's have {latent_size}.",
                "Import the networks that were trained with this GAN, or use a preset that starts from the ellipsoid.",
            )
        encoder = encoder.to(loaded.machine.device)
        offset_predictor = encoder_predictor(category, loaded.gan, encoder, loaded.machine, effort.offset_weight)
    return nets.to(loaded.machine.device, loaded.machine.dtype), offset_predictor


def load_gan(weights: Weights, machine: Machine) -> Gan:
    """The GAN of a run, ready on the machine. Raises WeightsError."""
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


def load_parser(category: Category, weights: Weights, machine: Machine) -> ParsingNet | None:
    """The category's parsing network, ready on the machine; None if it is not here. Raises WeightsError."""
    if "parsing" not in weights.files:
        return None
    return build_parsing_net(category, weights.tensors("parsing"), weights.files["parsing"]).to(machine.device)


def fitted(category: Category, generator: Generator) -> Category:
    """The category for a GAN's own picture size, which the file decides; the relief is no larger than the picture."""
    if generator.size == category.image_size:
        return category
    return replace(category, image_size=generator.size, working_size=min(category.working_size, generator.size))


def offset_predictor_of(
    result: Result, category: Category, gan: Gan, weights: Weights, machine: Machine
) -> OffsetPredictor:
    """What a finished run followed views and lights with: its own encoder, or the category's directions."""
    if result.offset_net:
        encoder = OffsetEncoder.from_state(result.offset_net).to(machine.device)
        return encoder_predictor(category, gan, encoder, machine)
    return LatentDirections(_directions(weights.tensors("networks"), gan).to(machine.device))


def encoder_predictor(
    category: Category, gan: Gan, encoder: OffsetEncoder, machine: Machine, weight: float = OFFSET_WEIGHT
) -> EncoderPredictor:
    """The category's way of following views and lights with an encoder; weight: what long offsets cost."""
    mapping = gan.generator.mapping
    return EncoderPredictor(mapping, encoder, category.offset_depth, category.offset_relative, machine.dtype, weight)


def _mean_object(tensors: dict[str, Tensor], gan: Gan, category: Category, machine: Machine) -> ShapeTemplate:
    """What the category's networks know of the GAN's mean object. Raises WeightsError if they know nothing."""
    if "mean_depth" not in tensors:
        what = f"The networks of {category.name} do not know the mean object that this preset registers photos with."
        raise WeightsError(what, f"Fetch newer ones (g2s weights pull {category.name}), or use --preset paper.")
    directions = _directions(tensors, gan).to(machine.device)
    return ShapeTemplate(tensors["mean_depth"].to(machine.device), gan.generator.latent_avg, directions, gan.segmenter)


def _shapes(tensors: dict[str, Tensor], category: Category, machine: Machine) -> MorphableModel:
    """How the category's objects differ from its mean object. Raises WeightsError if its networks do not know that."""
    try:
        return read_morphable_model(tensors, camera_of(category), machine.device)
    except (KeyError, RuntimeError) as error:
        what = f"The networks of {category.name} do not know how objects differ from the mean one."
        raise WeightsError(
            what, f"Fetch newer ones (g2s weights pull {category.name}), or use --preset paper."
        ) from error


def _sight(tensors: dict[str, Tensor], category: Category, machine: Machine) -> DepthNet:
    """The category's S. Raises WeightsError if its networks have none, or one for pictures of another size."""
    state = submodule_state(tensors, "netS")
    net = DepthNet.from_state(state) if state else None
    if net is None or net.size != category.working_size:
        what = f"The networks of {category.name} have no S, which reads depth off photos of {category.working_size} px."
        raise WeightsError(what, f"Fetch newer ones (g2s weights pull {category.name}), or use --preset paper.")
    return net.to(machine.device)


def _directions(tensors: dict[str, Tensor], gan: Gan) -> Float[Tensor, "4 d"]:
    """The category's directions in W. Raises WeightsError if it has none, or another GAN's."""
    directions = tensors.get("directions")
    if directions is None or directions.shape[1] != gan.generator.latent_size:
        raise WeightsError(
            "The category's networks know no directions in this GAN's latent space.", "Use --preset paper."
        )
    return directions


def _priors(category: Category, weights: Weights) -> tuple[ViewPrior, LightPrior, Means]:
    """Views and lights that step 2 draws, and the means that V and L are relative to."""
    stated, lit = weights.tensors("views"), weights.tensors("lights")
    mean = stated["mean"].flatten() if stated else torch.tensor(category.view_mean)
    covariance = stated["cov"] if stated else torch.tensor(category.view_covariance)
    views = ViewPrior(mean, covariance, category.yaw_stretch)
    lights = LightPrior(category.lights.x, category.lights.y, category.lights.diffuse, category.lights.alpha)
    return views, lights, Means(mean, lit["mean"].flatten() if lit else torch.zeros(4))
