"""READ FIRST: the product in one page. A photo becomes a latent, the latent becomes factors, those a result.

    photo.jpg ─ photo.py ─▶ Photo ─ method.inversion ─▶ w ─ method.cycles ─▶ Factors ─ result.py ─▶ out/

Every arrow is a value. `relight` and `rotate` need only what the result folder holds.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from g2s_cli import __version__
from g2s_cli.errors import UsageError, WeightsError
from g2s_cli.meshes import Detail
from g2s_cli.method.cycles import Guides, Means, fit, fresh_nets, trained_nets
from g2s_cli.method.frame import Frame
from g2s_cli.method.inversion import InversionSettings, invert
from g2s_cli.method.losses import DiscriminatorDistance, perceptual_distance
from g2s_cli.method.metrics import psnr
from g2s_cli.method.model import FactorNets
from g2s_cli.method.parsing import Parser, parser_of
from g2s_cli.method.progress import Silent, Watch
from g2s_cli.method.sampling import LightPrior, ViewPrior
from g2s_cli.method.stages import Asked, EncoderProjector, LinearProjector, Projector, Target
from g2s_cli.nets.discriminator import Discriminator
from g2s_cli.nets.offset import OffsetEncoder
from g2s_cli.nets.stylegan2 import Generator
from g2s_cli.photo import open_photo
from g2s_cli.result import Reconstruction, object_mask, surface
from g2s_cli.scene.camera import turn
from g2s_cli.scene.factors import Factors
from g2s_cli.scene.light import light_from_user
from g2s_cli.scene.render import render, warped_mask
from g2s_cli.scene.show import show
from g2s_cli.scene.texture import lit_by
from g2s_cli.zoo.catalog import Category, Part, Preset, Symmetry, load_category
from g2s_cli.zoo.importers import check_gan, read_latent, read_part
from g2s_cli.zoo.sources import Sources, obtain
from g2s_cli.zoo.store import load_tensors, part_of, sha256_of

By = Literal["mesh", "gan"]  # rendered from the shape, or projected through the generator
PICTURE_SIZE = 512


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
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError) as error:
            raise UsageError(f"There is no device {name!r} here.", "Use --device cpu.") from error
        if device.type == "cuda":
            return cls(device, torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32)
        # Only where the CPU multiplies bfloat16 itself is it faster than float32.
        native = device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        return cls(device, torch.bfloat16 if native else torch.float32)


@dataclass(frozen=True)
class Gan:
    """A category's generator and discriminator, and the parser that finds the object in generated images."""

    generator: Generator
    discriminator: Discriminator
    parser: Parser


@dataclass(frozen=True)
class Weights:
    """A category's files for one run: where each lies. gan_file: the user's own GAN instead of the category's."""

    files: dict[Part, Path]
    gan_file: Path | None = None

    @classmethod
    def of(cls, kind: Category, effort: Preset, sources: Sources, gan: Path | None = None) -> Weights:
        """What a preset needs, fetched where it is not here. A GAN of the user's own goes without trained networks."""
        needed = [part for part in kind.needs(effort) if gan is None or part not in {"gan", "networks"}]
        return cls(obtain(kind, needed, sources), gan)

    def tensors(self, part: Part) -> dict[str, Tensor]:
        """A part's tensors; none if the run has no such part."""
        return load_tensors(self.files[part]) if part in self.files else {}

    def hashes(self) -> dict[str, str]:
        """SHA-256 of every file, for the report."""
        files = dict(self.files) | ({"gan": self.gan_file} if self.gan_file else {})
        return {part: sha256_of(path) for part, path in files.items()}


def load_gan(weights: Weights, machine: Machine) -> Gan:
    """The GAN of a run, ready on the machine. Raises WeightsError."""
    if weights.gan_file is None:
        tensors = weights.tensors("gan")
    else:
        part, tensors = read_part(weights.gan_file)
        if part != "gan":
            raise WeightsError(f"{weights.gan_file} is no GAN but {part}.", "Name a StyleGAN2 checkpoint.")
    generator, discriminator = check_gan({name: tensor.float() for name, tensor in tensors.items()})
    generator = generator.to(machine.device).with_dtype(machine.dtype)
    discriminator = discriminator.to(machine.device).with_dtype(machine.dtype)
    return Gan(generator, discriminator, parser_of(generator))


def reconstruct(
    photo: Path | str,
    *,
    category: str | None = None,
    preset: str = "fast",
    iterations: int | None = None,
    symmetry: Symmetry | None = None,
    gan: Path | str | None = None,
    latent: Path | str | None = None,
    sources: Sources | None = None,
    seed: int = 0,
    device: str = "auto",
    watch: Watch | None = None,
) -> Reconstruction:
    """Turn one photo into a relightable relief.

    photo: an image file of the category's kind. category: "synface" unless a GAN is given, then "own". preset:
    how much work (see the category's model.toml). iterations: at most so many a step, for a quick try. symmetry:
    whether the object's two halves are alike; None is the preset's. gan: a checkpoint to use instead of the
    category's. latent: a file with w of the photo, instead of searching for it. sources: where missing weights
    come from. The same seed on the same machine gives the same result. Raises `g2s_cli.errors.G2SError` for
    anything the user can mend.
    """
    kind = load_category(category or ("own" if gan else "synface"))
    effort = kind.preset(preset) if iterations is None else kind.preset(preset).at_most(iterations)
    machine, watch = Machine.named(device), watch or Silent()
    torch.manual_seed(seed)  # fresh networks draw their weights from the global generator
    rng = torch.Generator().manual_seed(seed)
    clock = _Clock(watch)

    weights = Weights.of(kind, effort, sources or Sources.of_environment(), Path(gan).resolve() if gan else None)
    model = load_gan(weights, machine)
    kind = _fitted(kind, model.generator)
    frame = Frame(kind.frame_share, kind.working_size)
    shown = open_photo(Path(photo), kind.image_size)
    target_image = shown.image.to(machine.device)
    distance = DiscriminatorDistance(model.discriminator)
    perceptual = perceptual_distance(model.discriminator, machine.device)
    known = read_latent(Path(latent), model.generator.latent_size) if latent else None
    settings = InversionSettings(0 if latent else effort.invert, candidates=effort.candidates)
    found = invert(target_image, model.generator, distance, settings, rng, clock, known)
    with torch.no_grad():
        mask = model.parser.mask(model.generator.forward_features(found.latent[None])[1])
    mask = frame(mask.float()[:, None])[0, 0]
    image = frame(target_image[None])[0]
    counted = mask if effort.masked else torch.ones_like(mask)
    target = Target(image * counted, counted, found.latent, frame)

    views, lights, means = _priors(kind, weights)
    nets, projector = _start(kind, effort, model, weights, means, machine)
    guides = Guides(distance, perceptual, views, lights, model.parser if effort.masked else None)
    chosen = symmetry or effort.symmetry
    factors = fit(nets, projector, model.generator, target, mask, kind, effort, chosen, guides, rng, clock)

    rebuilt = render(factors, nets.camera).image
    warnings = _warnings(found.psnr_db, found.strangeness, kind)
    for sentence in warnings:
        watch.note(sentence)
    report = {
        "g2s": __version__,
        "torch": torch.__version__,
        "photo": shown.name,
        "photo_notes": list(shown.notes),
        "category": kind.name,
        "preset": preset,
        "iterations_at_most": iterations,
        "symmetry": chosen,
        "seed": seed,
        "device": str(machine.device),
        "arithmetic": str(machine.dtype).removeprefix("torch."),
        "perceptual": perceptual.name,
        "weights": weights.hashes(),
        "gan_file": str(weights.gan_file) if weights.gan_file else None,
        "seconds": clock.seconds(),
        "inversion_psnr_db": round(found.psnr_db, 2),
        "inversion_feature_distance": round(found.feature_distance, 4),
        "inversion_strangeness": round(found.strangeness, 3),
        "reconstruction_psnr_db": round(psnr(rebuilt * mask, image * mask), 2),
        "warnings": warnings,
    }
    return Reconstruction(
        category=kind.name,
        photo=image.cpu(),
        inverted=frame(found.image[None])[0].cpu(),
        aligned=shown.aligned,
        mask=mask.cpu(),
        factors=factors.to("cpu"),
        latent=found.latent.cpu(),
        offset_net=_encoder_state(projector),
        camera=nets.camera,
        report=report,
        frame_share=kind.frame_share,
    )


def relight(
    made: Reconstruction,
    lights: Sequence[tuple[float, float]],
    *,
    by: By = "mesh",
    size: int | None = None,
    device: str = "auto",
) -> list[Float[Tensor, "3 h w"]]:
    """The object under other lights, each (x, y) as seen in the photo: x to the right, y up, (0, 0) at the camera.

    by: rendered from the shape and the photo's own pixels, at `size` pixels a side, or projected through the GAN at
    its size. Raises UsageError for a size that goes with the GAN.
    """
    ambient, diffuse = made.factors.light[0].item(), made.factors.light[1].item()
    view = made.factors.view
    variants = [replace(made.factors, light=light_from_user(x, y, ambient, diffuse, view)) for x, y in lights]
    if by != "mesh":
        return _projected(made, variants, by, size, device)
    mesh, texture = surface(made, Detail(), beyond=True)
    camera = made.camera.resized(size or picture_size(made))
    return [show(mesh, lit_by(texture, factors, made.camera), view, camera).on_white for factors in variants]


def rotate(
    made: Reconstruction,
    turns: Sequence[tuple[float, float]],
    *,
    by: By = "mesh",
    size: int | None = None,
    device: str = "auto",
) -> list[Float[Tensor, "3 h w"]]:
    """The object turned by (yaw, pitch) radians from the photo's view: yaw to the photo's right, pitch upwards.

    by, size: as for `relight`.
    """
    views = [turn(made.factors.view, yaw, pitch) for yaw, pitch in turns]
    if by != "mesh":
        return _projected(made, [replace(made.factors, view=view) for view in views], by, size, device)
    mesh, texture = surface(made, Detail(), beyond=True)
    camera = made.camera.resized(size or picture_size(made))
    return [show(mesh, texture.lit, view, camera).on_white for view in views]


def picture_size(made: Reconstruction) -> int:
    """Pixels a side of pictures whose size nobody named: the photo's, but no more than a screen shows at a glance."""
    return max(made.camera.size, min(len(made.framed), PICTURE_SIZE))


def _projected(
    made: Reconstruction, variants: Sequence[Factors], by: By, size: int | None, device: str
) -> list[Float[Tensor, "3 h w"]]:
    """What the GAN makes of renderings of changed factors."""
    if by != "gan":
        raise UsageError(f"There is no way {by!r} to show a result.", "Use --by mesh or --by gan.")
    if size is not None:
        raise UsageError("What the GAN paints has the GAN's own size.", "Use --size with --by mesh.")
    machine, kind = Machine.named(device), load_category(made.category)
    needed: list[Part] = [] if made.report.get("gan_file") else ["gan"]
    needed += [] if made.offset_net else ["networks"]
    own_gan = Path(made.report["gan_file"]) if made.report.get("gan_file") else None
    weights = Weights(obtain(kind, needed, Sources.of_environment()), own_gan)
    gan = load_gan(weights, machine)
    kind = _fitted(kind, gan.generator)
    frame = Frame(kind.frame_share, kind.working_size)
    projector = _projector_of(made, kind, gan, weights, machine)
    mask = object_mask(made)
    masks = torch.stack([warped_mask(mask, factors, made.camera) for factors in variants]).round()
    pseudo = torch.stack([render(factors, made.camera).image for factors in variants]) * masks[:, None]
    with torch.no_grad():
        latent, own_mask = made.latent.to(machine.device), made.mask.to(machine.device)
        shown = frame(gan.generator(latent[None]).clamp(-1, 1)) * own_mask
        own = _asked([made.factors], shown, own_mask[None], machine)
        asked = _asked(variants, pseudo, masks, machine)
        return list(frame(gan.generator(latent + projector.offset(asked, own)).clamp(-1, 1)).cpu())


def _asked(
    variants: Sequence[Factors], image: Float[Tensor, "b 3 h w"], mask: Float[Tensor, "b h w"], machine: Machine
) -> Asked:
    """Pictures of factors as something to ask the GAN for."""
    view, light = (torch.stack([getattr(one, name) for one in variants]) for name in ("view", "light"))
    tensors = (image, mask.unsqueeze(1), view, light)
    return Asked(*(tensor.to(machine.device) for tensor in tensors))


def _fitted(kind: Category, generator: Generator) -> Category:
    """The category for a GAN's own picture size, which the file decides; the relief is no larger than the picture."""
    if generator.size == kind.image_size:
        return kind
    return replace(kind, image_size=generator.size, working_size=min(kind.working_size, generator.size))


def _start(
    kind: Category, effort: Preset, gan: Gan, weights: Weights, means: Means, machine: Machine
) -> tuple[FactorNets, Projector]:
    """The networks a preset begins with, and what will follow its views and lights."""
    tensors = weights.tensors("networks")
    if not tensors and (effort.trained or effort.follow == "linear"):
        untrained = [name for name, other in kind.presets.items() if not other.trained and other.follow == "encoder"]
        remedy = f"Use --preset {untrained[0]}." if untrained else "Use --category own, which needs none."
        raise UsageError(f"This preset of {kind.name} begins from networks trained with its own GAN.", remedy)
    nets = trained_nets(tensors, kind, means) if effort.trained else fresh_nets(kind, means)
    if nets.camera.size != nets.depth.size:
        raise WeightsError(
            f"The networks of {kind.name} are for {nets.depth.size} px, its model.toml for {nets.camera.size} px.",
            f"Fetch both from one place: g2s weights pull {kind.name}",
        )
    if effort.follow == "linear":
        projector: Projector = LinearProjector(_directions(tensors, gan).to(machine.device))
    else:
        state = part_of(tensors, "netEnc")
        size, latent_size = kind.working_size, gan.generator.latent_size
        encoder = OffsetEncoder.from_state(state) if state else OffsetEncoder(size, latent_size)
        if encoder.latent_size != latent_size:
            raise WeightsError(
                f"The networks of {kind.name} are for a GAN with latents of {encoder.latent_size} numbers; "
                f"this one's have {latent_size}.",
                "Import the networks that were trained with this GAN, or use a preset that starts from the ellipsoid.",
            )
        projector = _encoder_projector(kind, gan, encoder.to(machine.device), machine)
    return nets.to(machine.device, machine.dtype), projector


def _projector_of(made: Reconstruction, kind: Category, gan: Gan, weights: Weights, machine: Machine) -> Projector:
    """What a finished run followed views and lights with: its own encoder, or the category's directions."""
    if made.offset_net:
        encoder = OffsetEncoder.from_state(made.offset_net).to(machine.device)
        return _encoder_projector(kind, gan, encoder, machine)
    return LinearProjector(_directions(weights.tensors("networks"), gan).to(machine.device))


def _directions(tensors: dict[str, Tensor], gan: Gan) -> Float[Tensor, "4 d"]:
    """The category's directions in W. Raises WeightsError if it has none, or another GAN's."""
    directions = tensors.get("directions")
    if directions is None or directions.shape[1] != gan.generator.latent_size:
        raise WeightsError(
            "The category's networks know no directions in this GAN's latent space.", "Use --preset paper."
        )
    return directions


def _encoder_projector(kind: Category, gan: Gan, encoder: OffsetEncoder, machine: Machine) -> EncoderProjector:
    return EncoderProjector(gan.generator.mapping, encoder, kind.offset_depth, kind.offset_relative, machine.dtype)


def _encoder_state(projector: Projector) -> dict[str, Tensor]:
    """The offset encoder's weights, where there is one of the photo's own."""
    if not isinstance(projector, EncoderProjector):
        return {}
    return {name: tensor.detach().cpu() for name, tensor in projector.encoder.state_dict().items()}


def _priors(kind: Category, weights: Weights) -> tuple[ViewPrior, LightPrior, Means]:
    """Views and lights that step 2 draws, and the means that V and L are relative to."""
    stated, lit = weights.tensors("views"), weights.tensors("lights")
    mean = stated["mean"].flatten() if stated else torch.tensor(kind.view_mean)
    covariance = stated["cov"] if stated else torch.tensor(kind.view_covariance)
    views = ViewPrior(mean, covariance, kind.yaw_stretch)
    lights = LightPrior(kind.lights.x, kind.lights.y, kind.lights.diffuse, kind.lights.alpha)
    return views, lights, Means(mean, lit["mean"].flatten() if lit else torch.zeros(4))


def _warnings(psnr_db: float, strangeness: float, kind: Category) -> list[str]:
    """What a user should be told about how well the photo fits the category."""
    said = []
    if psnr_db < kind.least_psnr_db or strangeness > kind.most_strangeness:
        said.append(
            f"The photo seems to lie outside {kind.title}: the GAN's own version of it (inverted.png) has "
            f"{psnr_db:.1f} dB and lies {strangeness:.2f} times as far from the mean as its usual pictures. "
            "Expect a shape of that picture rather than of yours."
        )
    return said


class _Clock:
    """A watch that passes everything on and keeps the seconds each step took."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.started = [("load", time.perf_counter())]

    def begin(self, step: str, total: int) -> None:
        """A step starts, so the one before is over."""
        self.started.append((step, time.perf_counter()))
        self.watch.begin(step, total)

    def advance(self, done: int, loss: float) -> None:
        """Pass on."""
        self.watch.advance(done, loss)

    def note(self, text: str) -> None:
        """Pass on."""
        self.watch.note(text)

    def seconds(self) -> dict[str, float]:
        """Seconds a step, summed over cycles, up to now; and in all."""
        ends = [start for _, start in self.started[1:]] + [time.perf_counter()]
        spent: dict[str, float] = {}
        for (step, start), end in zip(self.started, ends, strict=True):
            spent[step] = round(spent.get(step, 0.0) + end - start, 2)
        return spent | {"total": round(ends[-1] - self.started[0][1], 2)}
