"""READ FIRST: the product in one page. A photo becomes a latent, the latent becomes factors, those a result.

    photo.jpg ─ photo.py ─▶ Photo ─ method.inversion ─▶ w ─ method.cycles ─▶ Factors ─ result.py ─▶ out/

Every arrow is a value. Pictures of a result are made in `result.pictures`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from g2s_cli import __version__
from g2s_cli.config import Symmetry
from g2s_cli.errors import UsageError, try_call
from g2s_cli.estimators.gan2shape.cycles import fit
from g2s_cli.estimators.gan2shape.offsets import EncoderPredictor, OffsetPredictor
from g2s_cli.estimators.gan2shape.steps import Target
from g2s_cli.files import sha256_of
from g2s_cli.gan.inversion import Inversion, InversionSettings, invert
from g2s_cli.geometry.metrics import psnr
from g2s_cli.geometry.render import render
from g2s_cli.loading import Background, Loaded, Machine, Plan, first_nets, load
from g2s_cli.photo.align import CropOptions
from g2s_cli.photo.load import Photo, open_photo
from g2s_cli.progress import Progress, SilentProgress, Stopwatch
from g2s_cli.result.schema import Result
from g2s_cli.weights.latent_file import read_latent
from g2s_cli.weights.registry import Sources

# Photos that share a search; with more, what a search costs each hardly falls, and the first result is late.
TOGETHER = 32


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
    together = 1 if plan.effort.refines else min(TOGETHER, loaded.gan.generator.max_batch)
    for first in range(0, len(photos), together):
        yield from _side_by_side(photos[first : first + together], loaded, loaded.seconds / len(photos), progress)


def _side_by_side(
    paths: Sequence[Path], loaded: Loaded, loading: float, progress: Progress
) -> Iterator[Result | Exception]:
    """What becomes of photos that are inverted together. loading: each one's share of the seconds that took."""
    clock = Stopwatch(progress, "load")
    category, crop_options = loaded.category, loaded.plan.crop_options
    opened = [try_call(open_photo, path, category.image_size, category.align, crop_options) for path in paths]
    usable = [photo for photo in opened if isinstance(photo, Photo)]
    rng = torch.Generator().manual_seed(loaded.plan.seed)
    found = try_call(_inverted, usable, loaded, rng, clock) if usable else []
    inversions: Iterator[Inversion | Exception]
    inversions = iter([found] * len(usable) if isinstance(found, Exception) else found)
    shared = _sum({"load": loading}, clock.seconds(), 1 / max(1, len(usable)))
    for path, photo in zip(paths, opened, strict=True):
        if isinstance(photo, Exception):
            yield photo
        elif isinstance(inversion := next(inversions), Exception):
            yield inversion
        else:
            yield try_call(_explained, path, photo, inversion, loaded, rng.clone_state(), shared, progress)


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
