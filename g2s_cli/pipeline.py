"""READ FIRST: the product in one page. A photo becomes a latent, the latent becomes factors, those a result.

    photo.jpg ─ photo.py ─▶ Photo ─ method.inversion ─▶ w ─ method.cycles ─▶ Factors ─ result.py ─▶ out/

Every arrow is a value. `relight` and `rotate` need only what the result folder holds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from g2s_cli import __version__
from g2s_cli.errors import UsageError, WeightsError, attempt
from g2s_cli.estimators.gan2shape.cycles import fit
from g2s_cli.estimators.gan2shape.steps import EncoderPredictor, OffsetPredictor, PseudoSamples, Target
from g2s_cli.files import sha256_of
from g2s_cli.gan.inversion import Inversion, InversionSettings, invert
from g2s_cli.geometry.center_crop import CenterCrop
from g2s_cli.geometry.factors import Factors
from g2s_cli.geometry.metrics import psnr
from g2s_cli.geometry.render import render, warped_mask
from g2s_cli.loading import (
    Background,
    Loaded,
    Machine,
    Plan,
    Weights,
    first_nets,
    fitted,
    load,
    load_gan,
    offset_predictor_of,
)
from g2s_cli.mesh.export import Detail
from g2s_cli.mesh.render import look, show
from g2s_cli.mesh.texture import lit_by
from g2s_cli.photo.align import CropOptions
from g2s_cli.photo.load import Photo, open_photo
from g2s_cli.progress import Progress, SilentProgress, Stopwatch
from g2s_cli.result.folder import Result, object_mask, picture_size, surface
from g2s_cli.weights.catalog import Part, Symmetry, load_category
from g2s_cli.weights.latent_file import read_latent
from g2s_cli.weights.registry import Sources, fetch_weights

By = Literal["mesh", "gan"]  # rendered from the shape, or projected through the generator
# Photos that share a search; with more, what a search costs each hardly falls, and the first result is late.
TOGETHER = 32
PICTURE_SIZES = (16, 2048)  # pixels a side of pictures of the mesh, from and to


def reconstruct(
    photo: Path | str,
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
    device: str = "auto",
    progress: Progress | None = None,
    crop_options: CropOptions | None = None,
) -> Result:
    """Turn one photo into a relightable relief.

    photo: an image file of the category's kind. wanted: where the object is in it; None looks for a face in categories
    of faces, else takes the middle. category: "synface" unless a GAN is given, then "own". preset: how much work
    (see the category's model.toml). iterations: at most so many a step, for a quick try. symmetry: whether the
    object's two halves are alike; None is the preset's. background: whether what is behind the object is part of what
    is fitted ("keep") or not ("remove"); None is the preset's. gan: a checkpoint to use instead of the category's.
    latent: FILE or FILE:ROW with w of the photo, instead of searching for it. sources: where missing weights come from.
    The same seed on the same machine gives the same result. Raises `g2s_cli.errors.G2SError` for anything the user can
    mend.
    """
    machine = Machine.named(device)
    plan = Plan.of(
        category=category,
        preset=preset,
        iterations=iterations,
        symmetry=symmetry,
        background=background,
        gan=gan,
        latent=latent,
        sources=sources,
        seed=seed,
        crop_options=crop_options,
    )
    return reconstruct_as(plan, Path(photo), machine, progress)


def reconstruct_as(plan: Plan, photo: Path, machine: Machine, progress: Progress | None = None) -> Result:
    """One photo's reconstruction. Raises what `reconstruct` raises."""
    [result] = reconstruct_each([photo], plan, machine, progress)
    if isinstance(result, Exception):
        raise result
    return result


def reconstruct_each(
    photos: Sequence[Path], plan: Plan, machine: Machine, progress: Progress | None = None
) -> Iterator[Result | Exception]:
    """What becomes of each photo, in order: its reconstruction, or what went wrong with it and with it alone.

    The category is loaded once. Where inversion is most of the work, photos are inverted some at a time, which is
    faster; all else is done one by one. No result depends on its company (docs/decisions/0011-many-photos.md).
    Raises WeightsError for what no photo could be reconstructed with, UsageError for one latent of several photos.
    """
    if plan.latent and len(photos) > 1:
        raise UsageError("A latent is one photo's, and there are several.", "Give them one by one.")
    loaded, progress = load(plan, machine), progress or SilentProgress()
    together = 1 if plan.effort.refines else min(TOGETHER, loaded.gan.generator.at_once)
    for first in range(0, len(photos), together):
        yield from _side_by_side(photos[first : first + together], loaded, loaded.seconds / len(photos), progress)


def _side_by_side(
    paths: Sequence[Path], loaded: Loaded, loading: float, progress: Progress
) -> Iterator[Result | Exception]:
    """What becomes of photos that are inverted together. loading: each one's share of the seconds that took."""
    clock = Stopwatch(progress, "load")
    category, crop_options = loaded.category, loaded.plan.crop_options
    opened = [attempt(open_photo, path, category.image_size, category.align, crop_options) for path in paths]
    usable = [photo for photo in opened if isinstance(photo, Photo)]
    rng = torch.Generator().manual_seed(loaded.plan.seed)
    found = attempt(_inverted, usable, loaded, rng, clock) if usable else []
    inversions: Iterator[Inversion | Exception]
    inversions = iter([found] * len(usable) if isinstance(found, Exception) else found)
    shared = _sum({"load": loading}, clock.seconds(), 1 / max(1, len(usable)))
    for path, photo in zip(paths, opened, strict=True):
        if isinstance(photo, Exception):
            yield photo
        elif isinstance(inversion := next(inversions), Exception):
            yield inversion
        else:
            yield attempt(_explained, path, photo, inversion, loaded, rng.clone_state(), shared, progress)


def facts_of(plan: Plan) -> dict[str, Any]:
    """What results depend on beside their photos and the machine, as their reports state it. Raises WeightsError."""
    return {"g2s": __version__} | plan.facts


def _inverted(photos: Sequence[Photo], loaded: Loaded, rng: torch.Generator, progress: Progress) -> list[Inversion]:
    """Latents of photos, or what the one file that the plan names says of the one photo."""
    plan, generator = loaded.plan, loaded.gan.generator
    known = read_latent(plan.latent, generator.latent_size)[None] if plan.latent else None
    settings = InversionSettings(0 if plan.latent else plan.effort.invert, candidates=plan.effort.candidates)
    images = torch.stack([photo.image for photo in photos]).to(loaded.machine.device)
    return invert(images, generator, loaded.gan.inversion_distance, settings, rng, progress, known)


def _explained(
    path: Path,
    photo: Photo,
    found: Inversion,
    loaded: Loaded,
    rng: torch.Generator,
    shared: dict[str, float],
    progress: Progress,
) -> Result:
    """One photo's factors, and all that its result says. shared: its part of the seconds before."""
    plan, category, gan, center_crop, device = (
        loaded.plan,
        loaded.category,
        loaded.gan,
        loaded.center_crop,
        loaded.machine.device,
    )
    clock = Stopwatch(progress, "load")
    image = center_crop(photo.image.to(device)[None])[0]
    given = None if photo.mask is None else center_crop(photo.mask.to(device)[None, None])[0, 0]
    seen = loaded.object_in(image, found.latent, given)
    mask = seen.whole
    counted = mask if plan.effort.masked else torch.ones_like(mask)
    target = Target(image * counted, counted, found.latent, center_crop)

    nets, offset_predictor = first_nets(loaded)
    guides, effort = replace(loaded.guides, segmenter=seen.segmenter if plan.effort.masked else None), plan.effort
    factors = fit(
        nets, offset_predictor, gan.generator, target, seen.core, category, effort, plan.symmetry, guides, rng, clock
    )

    rebuilt = render(factors, nets.camera).image
    warnings = [*photo.warnings, *_warnings(found, plan), *seen.notes]
    for sentence in warnings:
        progress.note(sentence)
    report = facts_of(plan) | {
        "torch": torch.__version__,
        "photo": photo.name,
        "photo_sha256": sha256_of(path),
        "photo_notes": list(photo.notes),
        "alignment": photo.alignment,
        "mask": seen.by,
        "device": str(device),
        "arithmetic": str(loaded.machine.dtype).removeprefix("torch."),
        "perceptual": guides.perceptual.name,
        "gan_file": str(plan.weights.gan_file) if plan.weights.gan_file else None,
        "seconds": _rounded(_sum(shared, clock.seconds())),
        "inversion_psnr_db": round(found.psnr_db, 2),
        "inversion_feature_distance": round(found.feature_distance, 4),
        "inversion_strangeness": round(found.latent_distance, 3),
        "reconstruction_psnr_db": round(psnr(rebuilt * mask, image * mask), 2),
        "warnings": warnings,
    }
    return Result(
        category=category.name,
        photo=image.cpu(),
        aligned=photo.aligned,
        placement=photo.placement,
        original=photo.original,
        inverted=center_crop(found.image[None])[0].cpu(),
        mask=mask.cpu(),
        factors=factors.to("cpu"),
        latent=found.latent.cpu(),
        offset_net=_encoder_state(offset_predictor),
        camera=nets.camera,
        report=report,
        frame_share=category.frame_share,
    )


def relight(
    result: Result,
    lights: Sequence[tuple[float, float]],
    *,
    by: By = "mesh",
    size: int | None = None,
    device: str = "auto",
) -> list[Float[Tensor, "3 h w"]]:
    """Pictures of the object under other lights, in [-1, 1] on white.

    lights: each (x, y) as the aligned crop shows it: x to the right, y up, (0, 0) at the camera; (1, 0) stands 45° to
    the right. by: "mesh" renders the shape with the photo's own pixels at `size` pixels a side (the photo's, 512 at
    most), "gan" projects renderings through the GAN at its size. device: for the GAN. Raises UsageError for sizes,
    lights and devices that cannot be used, WeightsError where the GAN is missing or another. `relight_each` of
    `g2s_cli.pipeline` gives one picture at a time.
    """
    return list(relight_each(result, lights, by=by, size=size, device=device))


def rotate(
    result: Result,
    turns: Sequence[tuple[float, float]],
    *,
    by: By = "mesh",
    size: int | None = None,
    device: str = "auto",
) -> list[Float[Tensor, "3 h w"]]:
    """Pictures of the object turned from where the photo saw it, in [-1, 1] on white.

    turns: each (yaw, pitch) in radians, within ±π/2: yaw to the aligned crop's right, pitch upwards. The shape is good
    to about 0.5 to each side. All else as for `relight`; `rotate_each` gives one picture at a time.
    """
    return list(rotate_each(result, turns, by=by, size=size, device=device))


def relight_each(
    result: Result,
    lights: Sequence[tuple[float, float]],
    *,
    by: By = "mesh",
    size: int | None = None,
    device: str = "auto",
) -> Iterator[Float[Tensor, "3 h w"]]:
    """The object under other lights, each (x, y) as the aligned crop shows it: x to the right, y up, 0,0 at the camera.

    A picture is made when it is asked for. by: rendered from the shape and the photo's own pixels, at `size` pixels a
    side, or projected through the GAN at its size. Raises UsageError at once for a size that goes with the GAN, for
    sizes and lights that cannot be shown, and for a device that is not here, needed or not.
    """
    check_shown(lights, "light", size)
    variants = [result.factors.lit(x, y) for x, y in lights]
    _check_device(device)
    if by != "mesh":
        return _projected(result, variants, by, size, device)
    mesh, texture = surface(result, Detail(), beyond=True)
    seen = look(mesh, texture.lit.shape[-1], result.factors.view, result.camera.resized(size or picture_size(result)))
    return (seen.painted(lit_by(texture, factors, result.camera)).on_white for factors in variants)


def rotate_each(
    result: Result,
    turns: Sequence[tuple[float, float]],
    *,
    by: By = "mesh",
    size: int | None = None,
    device: str = "auto",
) -> Iterator[Float[Tensor, "3 h w"]]:
    """The object turned by (yaw, pitch) radians from the photo's view: yaw to the aligned crop's right, pitch upwards.

    by, size, errors: as for `relight_each`.
    """
    check_turns(turns, size)
    variants = [result.factors.turned(yaw, pitch) for yaw, pitch in turns]
    _check_device(device)
    if by != "mesh":
        return _projected(result, variants, by, size, device)
    mesh, texture = surface(result, Detail(), beyond=True)
    camera = result.camera.resized(size or picture_size(result))
    return (show(mesh, texture.lit, factors.view, camera).on_white for factors in variants)


def check_shown(places: Sequence[tuple[float, float]], what: str, size: int | None) -> None:
    """Raise UsageError for a size out of range, and for what is no pair of finite numbers."""
    least, most = PICTURE_SIZES
    if size is not None and not least <= size <= most:
        raise UsageError(f"--size {size} is out of range.", f"Give {least} to {most} pixels a side.")
    for place in places:
        if len(place) != 2 or not all(map(math.isfinite, place)):
            raise UsageError(f"There is no {what} {place}.", "Give pairs of finite numbers.")


def check_turns(turns: Sequence[tuple[float, float]], size: int | None) -> None:
    """Raise UsageError as `check_shown`, and for what lies beyond a right angle."""
    check_shown(turns, "turn", size)
    for turned in turns:
        if max(map(abs, turned)) > math.pi / 2 + 1e-6:
            raise UsageError(f"There is no turn {turned}.", "Give radians, within ±π/2.")


def _check_device(name: str) -> None:
    """Raise UsageError for a device that is not here. What is always here is not woken up for it."""
    if name != "auto":
        Machine.named(name)


def _projected(
    result: Result, variants: Sequence[Factors], by: By, size: int | None, device: str
) -> Iterator[Float[Tensor, "3 h w"]]:
    """What the GAN makes of renderings of changed factors, some at a time."""
    if by != "gan":
        raise UsageError(f"There is no way {by!r} to show a result.", "Use --by mesh or --by gan.")
    if size is not None:
        raise UsageError("What the GAN paints has the GAN's own size.", "Use --size with --by mesh.")
    machine, category = Machine.named(device), load_category(result.category)
    needed: list[Part] = [] if result.report.get("gan_file") else ["gan"]
    needed += [] if result.offset_net else ["networks"]
    own_gan = Path(result.report["gan_file"]) if result.report.get("gan_file") else None
    weights = Weights(fetch_weights(category, needed, Sources.from_environment()), own_gan)
    gan = load_gan(weights, machine)
    _check_gan(result, weights)
    category = fitted(category, gan.generator)
    center_crop = CenterCrop(category.frame_share, category.working_size)
    offset_predictor = offset_predictor_of(result, category, gan, weights, machine)
    mask, latent, own_mask = object_mask(result), result.latent.to(machine.device), result.mask.to(machine.device)
    with torch.no_grad():
        shown = center_crop(gan.generator(latent[None]).clamp(-1, 1)) * own_mask
    own = _asked([result.factors], shown, own_mask[None], machine)

    @torch.no_grad()
    def painted(some: Sequence[Factors]) -> Float[Tensor, "b 3 h w"]:
        masks = torch.stack([warped_mask(mask, factors, result.camera) for factors in some]).round()
        pseudo = torch.stack([render(factors, result.camera).image for factors in some]) * masks[:, None]
        offset = offset_predictor.offset(_asked(some, pseudo, masks, machine), own)
        return center_crop(gan.generator(latent + offset).clamp(-1, 1)).cpu()

    at_once = gan.generator.at_once
    return (image for first in range(0, len(variants), at_once) for image in painted(variants[first : first + at_once]))


def _check_gan(result: Result, weights: Weights) -> None:
    """Raise WeightsError for another GAN than the result's: its latent is no picture of the photo there."""
    stated = result.report.get("weights", {}).get("gan")
    path = weights.gan_file or weights.files["gan"]
    if stated and sha256_of(path) != stated:
        raise WeightsError(
            f"The result was made with another GAN than {path}: the one whose SHA-256 begins with {stated[:12]}.",
            "Reconstruct the photo again, or use --by mesh.",
        )


def _asked(
    variants: Sequence[Factors], image: Float[Tensor, "b 3 h w"], mask: Float[Tensor, "b h w"], machine: Machine
) -> PseudoSamples:
    """Pictures of factors as something to ask the GAN for."""
    view, light = (torch.stack([getattr(one, name) for one in variants]) for name in ("view", "light"))
    tensors = (image, mask.unsqueeze(1), view, light)
    return PseudoSamples(*(tensor.to(machine.device) for tensor in tensors))


def _encoder_state(offset_predictor: OffsetPredictor) -> dict[str, Tensor]:
    """The offset encoder's weights, where there is one of the photo's own."""
    if not isinstance(offset_predictor, EncoderPredictor):
        return {}
    return {name: tensor.detach().cpu() for name, tensor in offset_predictor.encoder.state_dict().items()}


def _warnings(found: Inversion, plan: Plan) -> list[str]:
    """What a user should be told about how well the photo fits the category; a search cut short does not know."""
    category = plan.category
    if plan.effort.invert < category.preset(plan.preset).invert:
        return []
    if found.psnr_db >= category.least_psnr_db and found.latent_distance <= category.most_latent_distance:
        return []
    return [
        f"The photo seems to lie outside {category.title}: the GAN's own version of it (inverted.png) has "
        f"{found.psnr_db:.1f} dB and lies {found.latent_distance:.2f} times as far from the mean latent as usual. "
        "Expect a shape of that picture rather than of yours."
    ]


def _sum(spent: dict[str, float], more: dict[str, float], share: float = 1.0) -> dict[str, float]:
    """Seconds a step, with a share of what more was spent on each."""
    return {step: spent.get(step, 0.0) + share * more.get(step, 0.0) for step in spent | more}


def _rounded(spent: dict[str, float]) -> dict[str, float]:
    """Seconds a step, and in all, for the report."""
    return {step: round(seconds, 2) for step, seconds in (spent | {"total": sum(spent.values())}).items()}
