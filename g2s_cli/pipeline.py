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
from g2s_cli.errors import UsageError
from g2s_cli.method.cycles import Guides, fit, fresh_nets, trained_nets
from g2s_cli.method.inversion import InversionSettings, invert
from g2s_cli.method.losses import DiscriminatorDistance, perceptual_distance
from g2s_cli.method.metrics import psnr
from g2s_cli.method.model import FactorNets
from g2s_cli.method.parsing import Parser, parser_of
from g2s_cli.method.progress import Silent, Watch
from g2s_cli.method.sampling import LightPrior, ViewPrior
from g2s_cli.method.stages import Asked, EncoderProjector, LinearProjector, Projector, Target, resized
from g2s_cli.nets.discriminator import Discriminator
from g2s_cli.nets.offset import OffsetEncoder
from g2s_cli.nets.stylegan2 import Generator
from g2s_cli.photo import open_photo
from g2s_cli.result import Reconstruction, object_mask, picture
from g2s_cli.scene.camera import turn
from g2s_cli.scene.factors import Factors
from g2s_cli.scene.light import light_from_user
from g2s_cli.scene.render import render, warped_mask
from g2s_cli.zoo.catalog import Category, Preset, Symmetry, load_category
from g2s_cli.zoo.store import load_tensors, part_of, weights_path

By = Literal["mesh", "gan"]  # rendered from the shape, or projected through the generator


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


def load_gan(category: Category, machine: Machine) -> Gan:
    """The category's GAN, ready on the machine."""
    tensors = load_tensors(weights_path(category.name, category.gan.file, category.gan.sha256))
    generator = Generator(part_of(tensors, "g_ema"), tensors.get("latent_avg"))
    discriminator = Discriminator(part_of(tensors, "d"))
    generator = generator.to(machine.device).with_dtype(machine.dtype)
    discriminator = discriminator.to(machine.device).with_dtype(machine.dtype)
    return Gan(generator, discriminator, parser_of(generator))


def reconstruct(
    photo: Path | str,
    *,
    category: str = "synface",
    preset: str = "fast",
    symmetry: Symmetry | None = None,
    seed: int = 0,
    device: str = "auto",
    watch: Watch | None = None,
) -> Reconstruction:
    """Turn one photo into a relightable relief.

    photo: an image file of the category's kind. preset: how much work (see the category's model.toml).
    symmetry: whether the object's two halves are alike; None is the preset's. The same seed on the same
    machine gives the same result. Raises `g2s_cli.errors.G2SError` for anything the user can mend.
    """
    kind = load_category(category)
    effort = kind.preset(preset)
    machine, watch = Machine.named(device), watch or Silent()
    torch.manual_seed(seed)  # fresh networks draw their weights from the global generator
    rng = torch.Generator().manual_seed(seed)
    clock = _Clock(watch)

    shown = open_photo(Path(photo), kind.image_size)
    gan = load_gan(kind, machine)
    target_image = shown.image.to(machine.device)
    distance = DiscriminatorDistance(gan.discriminator)
    perceptual = perceptual_distance(gan.discriminator, machine.device)
    found = invert(target_image, gan.generator, distance, InversionSettings(effort.invert), rng, clock)
    with torch.no_grad():
        mask = gan.parser.mask(gan.generator.forward_features(found.latent[None])[1])
    mask = resized(mask.float()[:, None], kind.working_size)[0, 0]
    image = resized(target_image[None], kind.working_size)[0]
    counted = mask if effort.masked else torch.ones_like(mask)
    target = Target(image * counted, counted, found.latent)

    nets, projector = _start(kind, effort, gan, machine)
    guides = Guides(distance, perceptual, *_priors(kind), gan.parser if effort.masked else None)
    chosen = symmetry or effort.symmetry
    factors = fit(nets, projector, gan.generator, target, mask, kind, effort, chosen, guides, rng, clock)

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
        "symmetry": chosen,
        "seed": seed,
        "device": str(machine.device),
        "arithmetic": str(machine.dtype).removeprefix("torch."),
        "perceptual": perceptual.name,
        "weights": {"gan": kind.gan.sha256} | ({"networks": kind.networks.sha256} if kind.networks else {}),
        "seconds": clock.seconds(),
        "inversion_psnr_db": round(found.psnr_db, 2),
        "inversion_feature_distance": round(found.feature_distance, 4),
        "inversion_strangeness": round(found.strangeness, 3),
        "reconstruction_psnr_db": round(psnr(rebuilt * mask, image * mask), 2),
        "warnings": warnings,
    }
    return Reconstruction(
        category=kind.name,
        photo=shown.image,
        inverted=found.image.cpu(),
        mask=mask.cpu(),
        factors=factors.to("cpu"),
        latent=found.latent.cpu(),
        offset_net=_encoder_state(projector),
        camera=nets.camera,
        report=report,
    )


def relight(
    made: Reconstruction,
    lights: Sequence[tuple[float, float]],
    *,
    by: By = "mesh",
    device: str = "auto",
) -> list[Float[Tensor, "3 h w"]]:
    """The object under other lights, each (x, y) as seen in the photo: x to the right, y up, (0, 0) at the camera."""
    ambient, diffuse = made.factors.light[0].item(), made.factors.light[1].item()
    view = made.factors.view
    variants = [replace(made.factors, light=light_from_user(x, y, ambient, diffuse, view)) for x, y in lights]
    return _shown(made, variants, by, device)


def rotate(
    made: Reconstruction,
    turns: Sequence[tuple[float, float]],
    *,
    by: By = "mesh",
    device: str = "auto",
) -> list[Float[Tensor, "3 h w"]]:
    """The object turned by (yaw, pitch) radians from the photo's view: yaw to the photo's right, pitch upwards."""
    variants = [replace(made.factors, view=turn(made.factors.view, yaw, pitch)) for yaw, pitch in turns]
    return _shown(made, variants, by, device)


def _shown(made: Reconstruction, variants: Sequence[Factors], by: By, device: str) -> list[Float[Tensor, "3 h w"]]:
    """Renderings of changed factors, or what the GAN makes of them."""
    if by == "mesh":
        return [picture(made, factors) for factors in variants]
    if by != "gan":
        raise UsageError(f"There is no way {by!r} to show a result.", "Use --by mesh or --by gan.")
    machine, kind = Machine.named(device), load_category(made.category)
    gan = load_gan(kind, machine)
    projector = _projector_of(made, kind, gan, machine)
    mask = object_mask(made)
    masks = torch.stack([warped_mask(mask, factors, made.camera) for factors in variants]).round()
    pseudo = torch.stack([render(factors, made.camera).image for factors in variants]) * masks[:, None]
    with torch.no_grad():
        latent, own_mask = made.latent.to(machine.device), made.mask.to(machine.device)
        shown = resized(gan.generator(latent[None]).clamp(-1, 1), kind.working_size) * own_mask
        own = _asked([made.factors], shown, own_mask[None], machine)
        asked = _asked(variants, pseudo, masks, machine)
        return list(gan.generator(latent + projector.offset(asked, own)).clamp(-1, 1).cpu())


def _asked(
    variants: Sequence[Factors], image: Float[Tensor, "b 3 h w"], mask: Float[Tensor, "b h w"], machine: Machine
) -> Asked:
    """Pictures of factors as something to ask the GAN for."""
    view, light = (torch.stack([getattr(one, name) for one in variants]) for name in ("view", "light"))
    tensors = (image, mask.unsqueeze(1), view, light)
    return Asked(*(tensor.to(machine.device) for tensor in tensors))


def _start(kind: Category, effort: Preset, gan: Gan, machine: Machine) -> tuple[FactorNets, Projector]:
    """The networks a preset begins with, and what will follow its views and lights."""
    tensors = _trained_tensors(kind) if effort.trained or effort.follow == "linear" else {}
    nets = trained_nets(tensors, kind) if effort.trained else fresh_nets(kind)
    if effort.follow == "linear":
        projector: Projector = LinearProjector(tensors["directions"].to(machine.device))
    else:
        encoder = OffsetEncoder(kind.working_size, gan.generator.latent_size).to(machine.device)
        projector = _encoder_projector(kind, gan, encoder, machine)
    return nets.to(machine.device, machine.dtype), projector


def _projector_of(made: Reconstruction, kind: Category, gan: Gan, machine: Machine) -> Projector:
    """What a finished run followed views and lights with: its own encoder, or the category's directions."""
    if made.offset_net:
        encoder = OffsetEncoder.from_state(made.offset_net).to(machine.device)
        return _encoder_projector(kind, gan, encoder, machine)
    return LinearProjector(_trained_tensors(kind)["directions"].to(machine.device))


def _encoder_projector(kind: Category, gan: Gan, encoder: OffsetEncoder, machine: Machine) -> EncoderProjector:
    return EncoderProjector(gan.generator.mapping, encoder, kind.offset_depth, kind.offset_relative, machine.dtype)


def _encoder_state(projector: Projector) -> dict[str, Tensor]:
    """The offset encoder's weights, where there is one of the photo's own."""
    if not isinstance(projector, EncoderProjector):
        return {}
    return {name: tensor.detach().cpu() for name, tensor in projector.encoder.state_dict().items()}


def _trained_tensors(kind: Category) -> dict[str, Tensor]:
    if kind.networks is None:
        raise UsageError(f"{kind.name} has no jointly trained networks.", "Use --preset paper, which needs none.")
    return load_tensors(weights_path(kind.name, kind.networks.file, kind.networks.sha256))


def _priors(kind: Category) -> tuple[ViewPrior, LightPrior]:
    views = ViewPrior(torch.tensor(kind.view_mean), torch.tensor(kind.view_covariance), kind.yaw_stretch)
    lights = LightPrior(kind.lights.x, kind.lights.y, kind.lights.diffuse, kind.lights.alpha)
    return views, lights


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
