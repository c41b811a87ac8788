"""READ FIRST: the way of one photo, on one page.

photo.jpg ─ photo.load ─▶ Photo ─ gan.inversion ─▶ w ─ estimators ─▶ depth, albedo, view, light ─ result ─▶ out/

pipeline = load("portrait")
result = pipeline("face.jpg")
result.save("out/")
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from g2s_cli import __version__, loading
from g2s_cli.config import Preset
from g2s_cli.errors import UsageError, try_call
from g2s_cli.estimators.albedo import solve_albedo
from g2s_cli.estimators.base import DepthEstimate, DepthEstimator, Observation
from g2s_cli.estimators.feedforward import FactorNets, camera_of
from g2s_cli.estimators.fusion import fuse
from g2s_cli.gan.inversion import Inversion, InversionSettings, invert
from g2s_cli.geometry.factors import Factors
from g2s_cli.geometry.metrics import psnr
from g2s_cli.geometry.render import render, render_shape
from g2s_cli.loading import Loaded, Plan
from g2s_cli.machine import Machine
from g2s_cli.options import ReconstructOptions
from g2s_cli.photo.align import CropOptions
from g2s_cli.photo.load import Photo, open_photo
from g2s_cli.progress import Progress, SilentProgress, Stopwatch, add_seconds, rounded_seconds
from g2s_cli.result.schema import Result
from g2s_cli.segmentation.masks import ObjectMask
from g2s_cli.weights.latent_file import read_latent

MIN_JUDGED_ITERATIONS = 50  # of an inversion; a shorter one says nothing of its photo
INVERSION_BATCH = 32  # photos inverted together; more would hardly be faster, and the first result late


def load(category: str | None = None, *, device: str = "auto", **options: Any) -> Pipeline:
    """A pipeline for any number of photos.

    Args:
        category: what the photos show; None is "portrait".
        device: "auto", "cpu", "cuda", "cuda:1", ...
        options: the other fields of `ReconstructOptions`: preset, seed, crop, ...

    Raises:
        G2SError: weights are missing or damaged, or an option cannot be used; the message has a remedy.
    """
    plan = Plan.of(ReconstructOptions(category=category, **options))
    return Pipeline.of(plan, Machine.named(device))


def reconstruct(photo: Path | str, *, device: str = "auto", progress: Progress | None = None, **options: Any) -> Result:
    """Reconstruct one photo; options are the fields of `ReconstructOptions`. Raises G2SError."""
    return load(device=device, **options)(photo, progress)


@dataclass(frozen=True)
class Pipeline:
    """A category and a preset, ready on a machine. No photo changes it, and no result depends on other photos."""

    loaded: Loaded
    estimators: Sequence[DepthEstimator]
    nets: FactorNets

    @classmethod
    def of(cls, plan: Plan, machine: Machine) -> Pipeline:
        """The pipeline of a plan. Raises G2SError."""
        loaded = loading.load(plan, machine)
        return cls(loaded, loaded.estimators(), loaded.factor_nets())

    def __call__(self, photo: Path | str | Photo, progress: Progress | None = None) -> Result:
        """Reconstruct one photo, a file or an opened one. Raises G2SError."""
        [result] = self.each([photo if isinstance(photo, Photo) else Path(photo)], progress)
        if isinstance(result, Exception):
            raise result
        return result

    def each(self, photos: Sequence[Path | Photo], progress: Progress | None = None) -> Iterator[Result | Exception]:
        """Reconstruct photos, in order; what fails comes as its exception.

        Some photos at a time are inverted as one batch, unless the paper's schedule takes far longer anyway.

        Raises:
            UsageError: the options name one latent, and there are several photos.
        """
        if self.loaded.plan.latent and len(photos) > 1:
            raise UsageError("A latent is one photo's, and there are several.", "Give them one by one.")
        size = 1 if self.preset.schedule else min(INVERSION_BATCH, self.loaded.gan.generator.max_batch)
        for first in range(0, len(photos), size):
            yield from self._batch(photos[first : first + size], progress or SilentProgress(), len(photos))

    def with_crop(self, crop: CropOptions | None) -> Pipeline:
        """The same pipeline for photos with other crop options; nothing is loaded again."""
        plan = self.loaded.plan
        plan = replace(plan, options=replace(plan.options, crop=crop))
        return replace(self, loaded=replace(self.loaded, plan=plan))

    @property
    def preset(self) -> Preset:
        """The preset after all options."""
        return self.loaded.plan.preset

    def open(self, file: Path) -> Photo:
        """Open an image file as the category needs it. Raises ImageError, UsageError."""
        category = self.loaded.category
        return open_photo(file, category.image_size, category.face_template, self.loaded.plan.options.crop)

    def _batch(self, files: Sequence[Path | Photo], progress: Progress, total: int) -> Iterator[Result | Exception]:
        """Open and invert some photos, then reconstruct them one by one."""
        clock, loaded = Stopwatch(progress, "detect"), self.loaded
        photos = [file if isinstance(file, Photo) else try_call(self.open, file) for file in files]
        usable = [photo for photo in photos if isinstance(photo, Photo)]
        for one in usable:
            progress.picture("photo", one.image)
        inversions = try_call(self._invert, usable, clock) if usable else []
        queue: Iterator[Inversion | Exception]
        queue = iter([inversions] * len(usable) if isinstance(inversions, Exception) else inversions)
        seconds = add_seconds({"load": loaded.seconds / total}, clock.seconds(), 1 / max(1, len(usable)))
        for photo in photos:
            if isinstance(photo, Exception):
                yield photo
            elif isinstance(inversion := next(queue), Exception):
                yield inversion
            else:
                yield try_call(self._reconstruct, photo, inversion, seconds, progress)

    def _invert(self, photos: Sequence[Photo], progress: Progress) -> list[Inversion]:
        """Latents of photos, or of the one photo the latent that the options name."""
        loaded, plan = self.loaded, self.loaded.plan
        generator = loaded.gan.generator
        latent = read_latent(plan.latent, generator.latent_size)[None] if plan.latent else None
        iterations = 0 if plan.latent else self.preset.inversion_iterations
        candidates = self.preset.candidates
        if plan.options.iterations is not None:  # of the search, too
            candidates = min(candidates, max(1, iterations) * generator.max_batch)
        settings = InversionSettings(iterations, candidates=candidates)
        images = torch.stack([photo.image for photo in photos]).to(loaded.machine.device)
        rng = torch.Generator().manual_seed(plan.options.seed)
        return invert(images, generator, loaded.gan.inversion_distance, settings, rng, progress, latent)

    def _reconstruct(self, photo: Photo, inversion: Inversion, seconds: dict[str, float], progress: Progress) -> Result:
        """One photo's result. seconds: its share of what was done for several."""
        loaded, clock = self.loaded, Stopwatch(progress, "segment")
        progress.begin("segment", 1)
        crop, device = loaded.center_crop, loaded.machine.device
        image = crop(photo.image.to(device)[None])[0]
        mask = None if photo.mask is None else crop(photo.mask.mask.to(device)[None, None])[0, 0]
        clock.picture("inversion", inversion.image)
        found = loaded.segment(image, inversion.latent, mask, photo.surroundings)
        clock.picture("mask", found.mask.expand(3, -1, -1) * 2 - 1)
        progress.advance(1, 0.0)
        factors, encoder = self._estimate(self._observe(image, found, inversion), clock)
        camera = camera_of(loaded.category)
        rendered = render(factors, camera).image
        warnings = [*photo.warnings, *outside_category(inversion, loaded.plan), *found.notes]
        for sentence in warnings:
            progress.note(sentence)
        report = self._report(photo, inversion) | {
            "mask": photo.mask.source if photo.mask else found.method,
            "seconds": rounded_seconds(add_seconds(seconds, clock.seconds())),
            "reconstruction_psnr_db": round(psnr(rendered * found.mask, image * found.mask), 2),
            "warnings": warnings,
        }
        return Result(
            category=loaded.category.name,
            photo=image.cpu(),
            aligned=photo.aligned,
            placement=photo.placement,
            original=photo.original,
            inverted=crop(inversion.image[None])[0].cpu(),
            mask=found.mask.cpu(),
            factors=factors.to("cpu"),
            latent=inversion.latent.cpu(),
            offset_net=encoder,
            camera=camera,
            report=report,
            frame_share=loaded.category.frame_share,
            matte=photo.mask.matte if photo.mask else found.wide_matte,
        )

    def _observe(self, image: torch.Tensor, found: ObjectMask, inversion: Inversion) -> Observation:
        """The photo as the estimators get it."""
        crop = self.loaded.center_crop
        if not self.preset.masked:
            return Observation(image, torch.ones_like(found.mask), inversion.latent, crop, found.inner_mask)
        return Observation(image * found.mask, found.mask, inversion.latent, crop, found.inner_mask, found.segmenter)

    def _estimate(self, observation: Observation, progress: Progress) -> tuple[Factors, dict[str, torch.Tensor]]:
        """The photo's factors by the preset's estimators, and the offset encoder that was trained on it, if any."""
        first, *others = [estimator.estimate(observation, progress) for estimator in self.estimators]
        factors = canonical(first)
        progress.picture("shape", render_shape(factors, self.nets.camera))
        if others:
            progress.begin("fuse", 1)
            weights = [one.weight for one in self.preset.estimators[1:]]
            factors = fuse(factors, others, weights, observation, self.nets.camera)
            progress.advance(1, 0.0)
            progress.picture("shape", render_shape(factors, self.nets.camera))
        if self.preset.schedule is None:  # the paper's schedule ends with an A fitted to the photo
            factors = solve_albedo(factors, observation, self.nets.camera)
        return factors, {name: tensor.detach().cpu() for name, tensor in first.encoder.items()}

    def _report(self, photo: Photo, inversion: Inversion) -> dict[str, Any]:
        """What report.json says before the photo is reconstructed."""
        loaded, gan_file = self.loaded, self.loaded.plan.weights.gan_file
        return facts_of(loaded.plan) | {
            "torch": torch.__version__,
            "photo": photo.name,
            "photo_sha256": hashlib.sha256(photo.original).hexdigest(),
            "photo_notes": list(photo.notes),
            "alignment": photo.alignment,
            "device": str(loaded.machine.device),
            "arithmetic": str(loaded.machine.dtype).removeprefix("torch."),
            "perceptual": loaded.prior.perceptual.name,
            "gan_file": str(gan_file) if gan_file else None,
            "inversion_psnr_db": round(inversion.psnr_db, 2),
            "inversion_feature_distance": round(inversion.feature_distance, 4),
            "inversion_latent_distance": round(inversion.latent_distance, 3),
        }


def canonical(estimate: DepthEstimate) -> Factors:
    """The canonical factors of a preset's first estimator."""
    if estimate.factors is None:
        raise TypeError("the first estimator of a preset has no canonical factors")
    return estimate.factors


def facts_of(plan: Plan) -> dict[str, Any]:
    """What results depend on beside their photos and the machine, as their reports state it. Raises WeightsError."""
    return {"g2s": __version__} | plan.facts


def outside_category(inversion: Inversion, plan: Plan) -> list[str]:
    """A warning, if the GAN cannot show the photo; an inversion that was cut short says nothing."""
    category = plan.category
    if plan.preset.inversion_iterations < MIN_JUDGED_ITERATIONS:
        return []
    if inversion.psnr_db >= category.least_psnr_db and inversion.latent_distance <= category.most_latent_distance:
        return []
    return [
        f"The photo seems to lie outside {category.title}: the GAN's own version of it (inverted.png) has "
        f"{inversion.psnr_db:.1f} dB and lies {inversion.latent_distance:.2f} times as far from the mean latent as "
        "usual. The run goes on: check the shape. If it looks wrong, try a photo that is more frontal and evenly lit, "
        "--crop, or another --category."
    ]
