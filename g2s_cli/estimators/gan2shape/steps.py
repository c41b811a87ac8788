"""The paper's three steps (3.1, Fig. 3), each a function of values; only the networks it is given change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from g2s_cli.estimators.feedforward import FactorNets, Seen, Unpainted, see, unpainted
from g2s_cli.estimators.gan2shape.offset_encoder import OffsetEncoder
from g2s_cli.estimators.gan2shape.sampling import LightPrior, ViewPrior
from g2s_cli.estimators.optimize import Fit, minimise
from g2s_cli.gan.losses import DiscriminatorDistance, Perceptual, l1
from g2s_cli.gan.stylegan2 import Generator, Mapping
from g2s_cli.geometry.center_crop import CenterCrop
from g2s_cli.geometry.normals import depth_to_normals, smoothness_loss
from g2s_cli.geometry.shading import diffuse_shading, shade
from g2s_cli.geometry.warp import forward_grid, grid_sample, hflip, warp
from g2s_cli.progress import Progress
from g2s_cli.segmentation.gan_features import Segmenter
from g2s_cli.weights.catalog import OFFSET_WEIGHT

PERCEPTUAL_WEIGHT = 0.5
SMOOTHNESS_WEIGHT = 0.01  # the paper's λ₂
WHITE = 0.98  # of -1 to 1: a camera has no more


@dataclass(frozen=True)
class Target:
    """The photo at the working size, and what is known of it.

    mask: where losses count; the image is 0 outside it. It is 1 everywhere for the published face models,
    the object's for ours. latent: w of the photo. frame: which part of the GAN's picture the photo is.
    """

    image: Float[Tensor, "3 h w"]
    mask: Float[Tensor, "h w"]
    latent: Float[Tensor, d]
    center_crop: CenterCrop

    @property
    def alone(self) -> MaskedImages:
        """The photo as one of one picture."""
        return MaskedImages(self.image[None], self.mask[None, None])


@dataclass(frozen=True)
class MaskedImages:
    """Projected samples: images the GAN made of the same object, seen and lit differently, and where they count."""

    image: Float[Tensor, "n 3 h w"]
    mask: Float[Tensor, "n 1 h w"]

    def pick(self, index: Int[Tensor, b]) -> MaskedImages:
        """Some of them."""
        return MaskedImages(self.image[index], self.mask[index])

    @property
    def bare(self) -> MaskedImages:
        """The same, 0 where they do not count."""
        return MaskedImages(self.image * self.mask, self.mask)


@torch.no_grad()
def shown(
    generator: Generator, latents: Float[Tensor, "b *n d"], center_crop: CenterCrop, segmenter: Segmenter | None
) -> MaskedImages:
    """What a GAN shows, at the working size, with its background; without a parser all of a picture counts."""
    images, masks = [], []
    for some in latents.split(generator.at_once):
        image, features = generator.forward_features(some)
        images.append(center_crop(image.clamp(-1, 1)))
        masks.append(
            torch.ones_like(images[-1][:, :1])
            if segmenter is None
            else center_crop(segmenter.mask(features).float().unsqueeze(1))
        )
    return MaskedImages(torch.cat(images), torch.cat(masks))


@dataclass(frozen=True)
class PseudoSamples:
    """Pseudo samples: what the GAN is asked to show. view and light are those each was rendered with."""

    image: Float[Tensor, "b 3 h w"]
    mask: Float[Tensor, "b 1 h w"]
    view: Float[Tensor, "b 6"]
    light: Float[Tensor, "b 4"]

    def parts(self, count: int) -> Iterator[PseudoSamples]:
        """The same in parts of at most `count`."""
        fields = (self.image, self.mask, self.view, self.light)
        for some in zip(*(field.split(count) for field in fields), strict=True):
            yield PseudoSamples(*some)


@runtime_checkable
class OffsetPredictor(Protocol):
    """What turns pseudo samples into latents near the photo's: step 2's answer."""

    def offset(self, asked: PseudoSamples, own: PseudoSamples) -> Float[Tensor, "b d"]:
        """Latent offsets Δw for pseudo samples; `own` is the photo's object as it is (a batch of one)."""
        ...


@dataclass(frozen=True)
class EncoderPredictor:
    """The paper's: an encoder E learns, photo by photo, which offset shows what is asked (Eq. 2, 6, 7).

    depth: how many mapping layers F₁ has; with none Δw is E's answer itself. relative: E(pseudo) - E(own) instead of
    E(pseudo), as the published models of faces and cats have it. weight: what offsets cost while E learns (λ₁).
    """

    mapping: Mapping
    encoder: OffsetEncoder
    depth: int
    relative: bool
    dtype: torch.dtype = torch.float32
    weight: float = OFFSET_WEIGHT

    def offset(self, asked: PseudoSamples, own: PseudoSamples) -> Float[Tensor, "b d"]:
        """Δw = F₁(E(I) + F₂(0)) - F(0)."""
        images = torch.cat((asked.image, own.image)) if self.relative else asked.image
        with torch.autocast(images.device.type, self.dtype, enabled=self.dtype != torch.float32):
            code = self.encoder(images).float()
        code = code[:-1] - code[-1:] if self.relative else code
        split = self.mapping.depth + 1 - self.depth
        origin = self.mapping(code.new_zeros(1, self.mapping.latent_size), last=split)
        return self.mapping(code + origin, first=split) - self.mapping(origin, first=split)


@dataclass(frozen=True)
class LatentDirections:
    """Ours: the category's own directions in W, one a number that a view or light is asked to change by.

    directions: Δw for a change of one in (rotation x, rotation y, l_x, l_y), in radians and slants, found by
    regressing latents on what the jointly trained networks see in their images. Needs no fitting.
    """

    directions: Float[Tensor, "4 d"]

    def offset(self, asked: PseudoSamples, own: PseudoSamples) -> Float[Tensor, "b d"]:
        """Δw, linear in the change of view and light."""
        change = torch.cat((asked.view[:, :2] - own.view[:, :2], asked.light[:, 2:] - own.light[:, 2:]), dim=1)
        return change @ self.directions


def fit_albedo(
    nets: FactorNets,
    target: Target,
    perceptual: Perceptual,
    settings: Fit,
    progress: Progress,
    *,
    symmetric: bool,
) -> None:
    """Step 1: change A until the photo is explained by the depth, view and light that the networks now say."""
    held = held_fixed(nets, target, symmetric=symmetric)

    def loss() -> Iterator[Tensor]:
        yield albedo_loss(nets, target, held, perceptual)

    minimise(loss, nets.parameters("albedo"), settings, "albedo", progress)


@dataclass(frozen=True)
class Held:
    """A relief as a photo shows and lights it, which step 1 takes as given.

    mirror: the same with its halves swapped, if it is to explain the photo, too.
    """

    depth: Float[Tensor, "1 h w"]
    own: Unpainted
    mirror: Unpainted | None

    @classmethod
    def of(
        cls,
        depth: Float[Tensor, "1 h w"],
        view: Float[Tensor, "1 6"],
        light: Float[Tensor, "1 4"],
        nets: FactorNets,
        *,
        symmetric: bool,
    ) -> Held:
        """A relief from a view, under a light. nets: whose camera sees it, and how glossy they take it to be."""
        own = unpainted(depth, view, light, nets.camera, nets.specular)
        mirror = unpainted(hflip(depth), view, light, nets.camera, nets.specular) if symmetric else None
        return cls(depth, own, mirror)


@torch.no_grad()
def held_fixed(nets: FactorNets, target: Target, *, symmetric: bool) -> Held:
    """The depth, view and light that the networks now say of the photo."""
    image = target.image[None]
    return Held.of(nets.depth_of(image), nets.view_of(image), nets.light_of(image), nets, symmetric=symmetric)


def albedo_loss(nets: FactorNets, target: Target, held: Held, perceptual: Perceptual) -> Float[Tensor, ""]:
    """What step 1 minimises for a photo; its gradient reaches A alone."""
    return _photo_loss(held, nets.albedo_of(target.image[None]), target, perceptual)


def fit_view(nets: FactorNets, target: Target, perceptual: Perceptual, settings: Fit, progress: Progress) -> None:
    """Before step 1, and not in the paper: change V and L until what D and A say lies where the photo has it.

    Otherwise step 1 paints the photo beside its place, and step 3 has no reason to move it there.
    """
    with torch.no_grad():
        canonical = nets.canonical(target.image[None])

    def loss() -> Iterator[Tensor]:
        image = target.image[None]
        held = Held.of(canonical.depth, nets.view_of(image), nets.light_of(image), nets, symmetric=False)
        yield _photo_loss(held, canonical.albedo, target, perceptual)

    minimise(loss, nets.parameters("view", "light"), settings, "view", progress)


def fit_offset(
    offset_predictor: EncoderPredictor,
    generator: Generator,
    pseudo: Callable[[], PseudoSamples],
    own: PseudoSamples,
    target: Target,
    distance: DiscriminatorDistance,
    settings: Fit,
    progress: Progress,
) -> None:
    """Step 2: change E until the GAN follows the pseudo samples (Eq. 2)."""

    def loss() -> Iterator[Tensor]:
        return offset_loss(offset_predictor, generator, pseudo(), own, target, distance)

    minimise(loss, offset_predictor.encoder.parameters(), settings, "project", progress)


def offset_loss(
    offset_predictor: EncoderPredictor,
    generator: Generator,
    batch: PseudoSamples,
    own: PseudoSamples,
    target: Target,
    distance: DiscriminatorDistance,
) -> Iterator[Float[Tensor, ""]]:
    """What step 2 minimises for a photo and a batch of its pseudo samples, in parts that add up.

    Outside its mask a pseudo sample says nothing: the GAN's own picture is pasted in there before features
    are compared, so that no border is seen where there is none.
    """
    for asked in batch.parts(generator.at_once):
        offset = offset_predictor.offset(asked, own)
        image = target.center_crop(generator(target.latent + offset).clamp(-1, 1))
        pasted = asked.mask * asked.image + (1 - asked.mask) * image.detach()
        features = distance.between(distance.features(image), distance.features(pasted), asked.mask)
        whole = l1(image, asked.image, asked.mask) + features + offset_predictor.weight * offset.square().mean()
        yield whole * (len(asked.image) / len(batch.image))


@torch.no_grad()
def collect(
    offset_predictor: OffsetPredictor,
    generator: Generator,
    pseudo: Callable[[], PseudoSamples],
    own: PseudoSamples,
    target: Target,
    count: int,
    segmenter: Segmenter | None,
) -> MaskedImages:
    """The projected samples of step 2 that step 3 learns from, at least `count` of them.

    Their masks are the pseudo samples' own, or with a parser what it finds in the new pictures.
    """
    images: list[Tensor] = []
    masks: list[Tensor] = []
    while sum(len(batch) for batch in images) < count:
        for asked in pseudo().parts(generator.at_once):
            found = shown(generator, target.latent + offset_predictor.offset(asked, own), target.center_crop, segmenter)
            mask = asked.mask if segmenter is None else found.mask
            images.append(found.image * mask)
            masks.append(mask)
    return MaskedImages(torch.cat(images), torch.cat(masks))


@torch.no_grad()
def as_it_is(nets: FactorNets, target: Target, generator: Generator) -> PseudoSamples:
    """The photo's object as the GAN shows it and as the networks see it: what offsets are relative to."""
    image = target.image[None]
    shown = target.center_crop(generator(target.latent[None]).clamp(-1, 1)) * target.mask
    return PseudoSamples(shown, target.mask[None, None], nets.view_of(image), nets.light_of(image))


def pseudo_sampler(
    nets: FactorNets,
    target: Target,
    views: ViewPrior,
    lights: LightPrior,
    batch: int,
    rng: torch.Generator,
) -> Callable[[], PseudoSamples]:
    """A source of pseudo samples: the object as the networks now see it, under random views and lights.

    Each call renders `batch` images with new draws; outside the object's warped mask they are 0.
    """
    image, camera = target.image[None], nets.camera
    with torch.no_grad():
        canonical = nets.canonical(image)
        own_view, own_light = nets.view_of(image), nets.light_of(image)[0]
        normal = depth_to_normals(canonical.depth, camera)
        mask = grid_sample(target.mask[None, None], forward_grid(canonical.depth, own_view, camera))
        depth = canonical.depth.expand(batch, -1, -1)
        albedo, mask = canonical.albedo.expand(batch, -1, -1, -1), mask.expand(batch, -1, -1, -1)

    @torch.no_grad()
    def draw() -> PseudoSamples:
        view, light = views.draw(batch, rng, image.device), lights.draw(own_light, batch, rng)
        diffuse = diffuse_shading(normal.expand(batch, -1, -1, -1), light)
        texture = torch.cat((shade(albedo, diffuse, light), mask), dim=1)
        seen, valid = warp(texture, depth, view, camera)
        shown = ((seen[:, 3:] > 0.5) & valid.unsqueeze(1)).float()
        return PseudoSamples(seen[:, :3].clamp(-1, 1) * shown, shown, view, light)

    return draw


def fit_shape(
    nets: FactorNets,
    target: Target,
    samples: MaskedImages | None,
    perceptual: Perceptual,
    settings: Fit,
    batch: int,
    rng: torch.Generator,
    progress: Progress,
    *,
    symmetric: bool,
) -> None:
    """Step 3: change D, A, V and L until one shape explains the photo and its projected samples (Eq. 3), if any."""

    def loss() -> Iterator[Tensor]:
        if samples is None:
            yield shape_loss(nets, target, None, perceptual, symmetric=symmetric)
            return
        index = torch.randint(len(samples.image), (batch,), generator=rng, device=rng.device)
        some = samples.pick(index.to(target.image.device))
        yield shape_loss(nets, target, some, perceptual, symmetric=symmetric)

    minimise(loss, nets.parameters("depth", "albedo", "view", "light"), settings, "shape", progress)


def shape_loss(
    nets: FactorNets, target: Target, some: MaskedImages | None, perceptual: Perceptual, *, symmetric: bool
) -> Float[Tensor, ""]:
    """What step 3 minimises for a photo and some of its projected samples, if there are any.

    Views and lights are predicted from each sample, not those it was asked for: the GAN follows only so far.
    """
    image = target.image[None]
    canonical = nets.canonical(image)
    view, light = nets.view_of(image), nets.light_of(image)
    held = Held.of(canonical.depth, view, light, nets, symmetric=symmetric)
    own = _photo_loss(held, canonical.albedo, target, perceptual)
    if some is None:
        return own
    views, lights = nets.view_of(some.image), nets.light_of(some.image)
    others = _sample_loss(see(canonical, views, lights, nets.camera, nets.specular), some, perceptual)
    if symmetric:
        flipped = see(canonical.mirrored(), views, lights, nets.camera, nets.specular)
        others = (others + _sample_loss(flipped, some, perceptual)) / 2
    return own + others


def _photo_loss(
    held: Held, albedo: Float[Tensor, "1 3 h w"], target: Target, perceptual: Perceptual
) -> Float[Tensor, ""]:
    """How badly the factors explain the photo (Eq. 3), with the smoothness term."""
    loss = _sample_loss(held.own.painted(albedo), target.alone, perceptual)
    if held.mirror:
        loss = (loss + _sample_loss(held.mirror.painted(hflip(albedo)), target.alone, perceptual)) / 2
    return loss + SMOOTHNESS_WEIGHT * (smoothness_loss(held.depth) + smoothness_loss(held.own.diffuse))


def _sample_loss(seen: Seen, asked: MaskedImages, perceptual: Perceptual) -> Float[Tensor, ""]:
    """L1 + 0.5 perceptual, where the sample counts and the relief is seen.

    Where it is white, it says only that the object is at least so bright. (The authors' pictures end at white
    everywhere: what is too bright for a sample that is not white has no gradient there.)
    """
    mask = asked.mask * seen.valid.unsqueeze(1)
    shown = torch.where(asked.image > WHITE, seen.image.clamp(max=1), seen.image)
    return l1(shown, asked.image, mask) + PERCEPTUAL_WEIGHT * perceptual(shown, asked.image, mask)
