"""Training the person network on photos with soft masks: MediaPipe's weights, fine-tuned on frames around faces.

A frame is what `segmentation.person` cuts out at run time: the crop of the GAN and its surroundings, mirrored beyond
the photo's edges. Augmentation moves it, takes the surroundings away, and changes picture and background.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import radians
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate

from g2s_cli.geometry.placement import Placement
from g2s_cli.photo.crop import crop_photo
from g2s_cli.photo.load import SURROUNDINGS
from g2s_cli.seeding import seeded_generator
from g2s_cli.segmentation.person_net import INPUT_SIZE, PersonNet
from g2s_cli.training.trainer import Trainer, cosine_schedule, descend

BATCH, LR, WARM_UP = 16, 5e-4, 30
RENDERS = 0.25  # share of a batch
# Augmentation. Standard deviations of log scale, shift (sides of the crop) and roll; then shares of the samples.
SCALE, SHIFT, ROLL_DEG = 0.12, 0.06, 8.0
TIGHT, GREY, BLURRED, COMPRESSED, REPLACED = 0.2, 0.25, 0.2, 0.3, 0.25
GAIN, COLOUR, GAMMA, NOISE = 0.2, 0.06, 0.2, 0.02


@dataclass(frozen=True)
class MaskedPhoto:
    """A photo, its soft mask of the same size (white is the person), and the crop of its face."""

    photo: Path
    mask: Path
    crop: Placement


@dataclass(frozen=True)
class Frames:
    """Frames in [-1, 1], their masks in [0, 1], and where they show the photo, not its mirror image."""

    image: Float[Tensor, "b 3 s s"]
    mask: Float[Tensor, "b s s"]
    inside: Float[Tensor, "b s s"]


def train_person_net(net: PersonNet, batch: Callable[[int], Frames], updates: int, trainer: Trainer) -> None:
    """Train the network on the frames of each update. Raises G2SError if the loss is not finite."""
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third faster on CPUs
    adam = torch.optim.Adam(net.parameters(), lr=LR)

    def step(update: int) -> dict[str, float]:
        frames = batch(update)
        loss = binary_cross_entropy_with_logits(
            net(frames.image.contiguous(memory_format=torch.channels_last)), frames.mask, frames.inside
        )
        return {"loss": descend(adam, [loss], trainer.group, clip_norm=1.0)}

    schedule = cosine_schedule(updates, WARM_UP)
    trainer.phase("person network", updates, step, optimizer=adam, schedule=schedule, images=BATCH)


def training_batch(photos: Sequence[MaskedPhoto], renders: Sequence[MaskedPhoto], seed: int, number: int) -> Frames:
    """The augmented frames of an update; they depend on the seed and its number alone."""
    rng = np.random.default_rng(seeded_generator(seed, "person network", number).initial_seed())
    count = round(RENDERS * BATCH) if renders else 0
    chosen = [renders[index] for index in rng.integers(len(renders), size=count)] if count else []
    chosen += [photos[index] for index in rng.integers(len(photos), size=BATCH - count)]
    return Frames(*map(torch.stack, zip(*(_sample(one, rng) for one in chosen), strict=True)))


def _sample(one: MaskedPhoto, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """A moved, mirrored and otherwise augmented frame, its mask, and where it shows the photo."""
    with Image.open(one.photo) as photo, Image.open(one.mask) as file:
        image, matte, crop = photo.convert("RGB"), file.convert("L"), one.crop
    if rng.random() < TIGHT:
        box = _box_inside(crop, rng.uniform(1.0, 1.5), image.size)
        image, matte = image.crop(box), matte.crop(box)
        crop = replace(crop, x=crop.x - box[0], y=crop.y - box[1])
    side = crop.side * SURROUNDINGS * np.exp(rng.normal(scale=SCALE))
    x, y = np.array((crop.x, crop.y)) + crop.side * SHIFT * rng.normal(size=2)
    frame = Placement(x, y, side, crop.turn_rad + radians(ROLL_DEG) * rng.normal())
    picture = crop_photo(image, frame, INPUT_SIZE)
    mask = _to_share(crop_photo(matte, frame, INPUT_SIZE))
    inside = _to_share(crop_photo(Image.new("L", image.size, "white"), frame, INPUT_SIZE, padding="black"))
    pixels = _photometric(_to_tensor(_degrade(picture, rng)), mask, rng)
    flip = (-1,) if rng.random() < 0.5 else ()
    return pixels.flip(flip), mask.flip(flip), inside.flip(flip)


def _box_inside(crop: Placement, factor: float, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """An upright box around a crop, `factor` times its side, cut at the photo's edges."""
    half = factor * crop.side / 2
    left, top = max(0, round(crop.x - half)), max(0, round(crop.y - half))
    return left, top, min(size[0], round(crop.x + half)), min(size[1], round(crop.y + half))


def _degrade(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Fewer pixels, and JPEG's artefacts."""
    if rng.random() < BLURRED:
        smaller = round(INPUT_SIZE * rng.uniform(0.25, 0.8))
        picture = picture.resize((smaller, smaller), Image.Resampling.BILINEAR).resize(picture.size)
    if rng.random() < COMPRESSED:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=int(rng.integers(20, 90)))
        picture = Image.open(buffer).convert("RGB")
    return picture


def _photometric(
    image: Float[Tensor, "3 s s"], mask: Float[Tensor, "s s"], rng: np.random.Generator
) -> Float[Tensor, "3 s s"]:
    """Other backgrounds, brightness, contrast and colours, or none; noise."""
    image = image / 2 + 0.5
    if rng.random() < REPLACED:
        image = mask * image + (1 - mask) * _texture(rng)
    if rng.random() < GREY:
        image = image.mean(dim=0, keepdim=True).expand(3, -1, -1)
    gain = torch.from_numpy(np.exp(GAIN * rng.normal() + COLOUR * rng.normal(size=(3, 1, 1)))).float()
    image = (image * gain).clamp(1e-3, 1) ** float(np.exp(GAMMA * rng.normal()))
    noise = torch.from_numpy(rng.normal(size=image.shape)).float() * NOISE * rng.random()
    return ((image + noise).clamp(0, 1) - 0.5) * 2


def _texture(rng: np.random.Generator) -> Float[Tensor, "3 s s"]:
    """Noise of a random grain, along each axis: walls, curtains, foliage, stripes."""
    grain = tuple(int(cells) for cells in np.exp(rng.uniform(np.log(2), np.log(48), size=2)))
    noise = rng.uniform(size=3)[:, None, None] + rng.uniform(0.02, 0.5) * rng.normal(size=(3, *grain))
    return interpolate(torch.from_numpy(noise)[None].float(), INPUT_SIZE, mode="bicubic")[0].clamp(0, 1)


def _to_share(mask: Image.Image) -> Float[Tensor, "s s"]:
    return torch.from_numpy(np.array(mask)).float() / 255


def _to_tensor(image: Image.Image) -> Float[Tensor, "3 s s"]:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 127.5 - 1
