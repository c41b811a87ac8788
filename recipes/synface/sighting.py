"""S learns to read depth off pictures: of fantasies, whose depth is known (recipes/synface/fantasies.py).

Photos that the model of shape explains are taken apart and put together otherwise, without end. So S learns what the
model knows of shape and light for all people, lights and looks at once, where an explanation searches for one photo's
alone; it also sees outlines, which the explanation does not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample
from torch.nn.utils import clip_grad_norm_

from g2s_cli.errors import G2SError
from g2s_cli.estimators.depth_net import DepthNet
from g2s_cli.estimators.morphable import DECAY as EXPLAIN_DECAY
from g2s_cli.estimators.morphable import ITERATIONS as EXPLAIN_UPDATES
from g2s_cli.estimators.morphable import debias, fit_coefficients, initial_coefficients
from g2s_cli.estimators.morphable_model import MorphableModel
from g2s_cli.geometry.camera import Camera
from g2s_cli.geometry.rasterizer import VIEW_FAR
from g2s_cli.geometry.warp import hflip
from g2s_cli.progress import Progress
from g2s_cli.seeding import seeded_generator, seeded_weights
from g2s_cli.training.checkpoint import load_checkpoint, save_checkpoint
from g2s_cli.weights.tensors import quantize
from recipes.synface.fantasies import Fantasies, People, mixed, put_together, taken_apart, together
from recipes.synface.refining import Photographed

WIDTH, THOUGHT = 32, 256
ITERATIONS, BATCH, AT_ONCE = 6000, 32, 16  # of S; so many batches of fantasies are made at once
RATE, DECAY, BETAS, WARM_UP = 1e-3, 0.02, (0.9, 0.98), 50
LONGEST = 1.0  # of a gradient
WRONG, SLOPES = 0.004, 9.0  # scene units: where a wrong depth turns from a square to a line; slopes count so much more
# A picture turned in its plane, enlarged, moved: standard deviations, in radians, logarithms, halves of the side.
MOVED, TURN, SIZE, SHIFT = 0.6, 0.12, 0.05, 0.07
BRIGHTER, COLOURED, NOISE = 0.1, 0.05, 0.02  # of the logarithm of light; of pixels in [-1, 1]


# S, or what says depths less one of pictures and masks as it does.
Sight = Callable[[Tensor, Tensor], Tensor]


@dataclass
class Pupil:
    """S while it learns. Changes as it goes."""

    net: DepthNet
    adam: torch.optim.AdamW
    done: int = 0

    @classmethod
    def new(cls, size: int, device: torch.device, seed: int) -> Pupil:
        """One that has learnt nothing."""
        with seeded_weights(seed):
            net = DepthNet(size, WIDTH, THOUGHT).to(device)
        return cls(net, torch.optim.AdamW(net.parameters(), lr=RATE, betas=BETAS, weight_decay=DECAY))

    @classmethod
    def initial_coefficients(cls, place: Path, size: int, device: torch.device, seed: int) -> Pupil:
        """What a run has come to by the file that it keeps, else a new one. Raises G2SError for a damaged one."""
        pupil = cls.new(size, device, seed)
        if place.exists():
            pupil.read(place)
        return pupil

    def write(self, place: Path) -> None:
        """Whole or not at all."""
        save_checkpoint({"net": self.net.state_dict(), "adam": self.adam.state_dict(), "done": self.done}, place)

    def read(self, place: Path) -> None:
        """Become what `write` wrote. Raises G2SError for a damaged file."""
        with load_checkpoint(place, next(self.net.parameters()).device) as state:
            self.net.load_state_dict(state["net"])
            self.adam.load_state_dict(state["adam"])
            self.done = state["done"]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """As g2s reads them, in a byte a number."""
        return {f"netS.{name}": tensor for name, tensor in quantize(self.net.state_dict()).items()}


def people_of(model: MorphableModel, photos: Sequence[Photographed], camera: Camera, progress: Progress) -> People:
    """Photos explained, and taken apart."""
    progress.begin("explain", len(photos))
    parts = []
    for number, photo in enumerate(photos, start=1):
        seen = photo.seen
        coeffs = fit_coefficients(
            model, seen, camera, initial_coefficients(model, seen), EXPLAIN_UPDATES, EXPLAIN_DECAY
        )
        parts.append(taken_apart(model, seen, debias(model, seen, coeffs), photo.masks, camera))
        progress.advance(number, seen.weights.mean().item())
    return together(parts)


def teach(
    pupil: Pupil,
    model: MorphableModel,
    relief: Float[Tensor, "h w"],
    people: People,
    camera: Camera,
    seed: int,
    place: Path,
    progress: Progress,
    *,
    updates: int = ITERATIONS,
    dtype: torch.dtype = torch.float32,
    save_every: float = 300.0,
) -> None:
    """Let S learn from fantasies, on from where it is. Raises G2SError where the loss is not finite any more.

    place: a file that it is written to, every so many seconds and in the end. dtype: arithmetic of the convolutions.
    """
    progress.begin("sight", updates)
    saved, first = time.monotonic(), pupil.done
    for number, lesson in enumerate(lessons(model, relief, people, camera, seed, first, updates), start=first + 1):
        for group in pupil.adam.param_groups:
            group["lr"] = RATE * min(1.0, number / WARM_UP) * 0.5 * (1 + math.cos(math.pi * (number - 1) / updates))
        pupil.adam.zero_grad()
        loss = misjudging(pupil.net, lesson, dtype)
        if not math.isfinite(loss.item()):
            raise G2SError(f"The loss is not finite at update {number} of S.", "Try another --seed.")
        loss.backward()
        clip_grad_norm_(pupil.net.parameters(), LONGEST)
        pupil.adam.step()
        pupil.done = number
        progress.advance(number, loss.item())
        if time.monotonic() - saved > save_every:
            pupil.write(place)
            saved = time.monotonic()
    pupil.write(place)


def lessons(
    model: MorphableModel,
    relief: Float[Tensor, "h w"],
    people: People,
    camera: Camera,
    seed: int,
    first: int,
    updates: int,
) -> Iterator[Fantasies]:
    """Batches of fantasies, from a number on. Which they are depends on the seed and their number alone."""
    for start in range(first - first % AT_ONCE, updates, AT_ONCE) if first < updates else ():
        rng = seeded_generator(seed, "fantasies", start)
        result = put_together(model, relief, mixed(people, BATCH * AT_ONCE, rng), camera)
        parts = (maps.split(BATCH) for maps in (result.image, result.mask, result.depth))
        for number, part in enumerate(zip(*parts, strict=True), start=start):
            if first <= number < updates:
                yield taken_otherwise(Fantasies(*part), seeded_generator(seed, "taken", number))


@torch.no_grad()
def taken_otherwise(lesson: Fantasies, rng: torch.Generator) -> Fantasies:
    """As another camera might have it: turned in its plane, enlarged, moved, mirrored, brighter, coloured, noisy."""
    count, device = len(lesson.image), lesson.image.device

    def noise(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=rng)

    moved = (torch.rand(count, generator=rng) < MOVED).float()
    turn, size = moved * TURN * noise(), (moved * SIZE * noise()).exp()
    cos, sin, shift = turn.cos() / size, turn.sin() / size, moved[:, None] * SHIFT * noise(2)
    rows = (torch.stack((cos, -sin, shift[:, 0]), dim=1), torch.stack((sin, cos, shift[:, 1]), dim=1))
    grid = affine_grid(torch.stack(rows, dim=1), list(lesson.image.shape), align_corners=False).to(device)
    generate = (lesson.depth < VIEW_FAR).to(lesson.mask.dtype).unsqueeze(1)  # what is nowhere has no part in any depth
    known = (lesson.image * lesson.mask, lesson.mask, (lesson.depth - 1).unsqueeze(1) * generate, generate)
    maps = grid_sample(torch.cat(known, dim=1), grid, align_corners=False)
    mask, there = ((maps[:, index : index + 1] > 0.5).to(maps.dtype) for index in (3, 5))
    relief = maps[:, 4] / maps[:, 5].clamp(min=0.5) * size.to(device)[:, None, None]  # what is larger is deeper, too
    depth = torch.where(there[:, 0] > 0, 1 + relief, VIEW_FAR)
    gain = (BRIGHTER * noise(1, 1, 1) + COLOURED * noise(3, 1, 1)).exp().to(device)
    image = ((maps[:, :3] + 1) * gain - 1).clamp(-1, 1) + NOISE * noise(*lesson.image.shape[1:]).to(device)
    over = (torch.rand(count, generator=rng) < 0.5).to(device)
    parts = ((over[:, None, None, None], image * mask), (over[:, None, None, None], mask), (over[:, None, None], depth))
    return Fantasies(*(torch.where(where, hflip(one), one) for where, one in parts))


def misjudging(net: Sight, lesson: Fantasies, dtype: torch.dtype = torch.float32) -> Float[Tensor, ""]:
    """How far what S says is from the depth shown, whose mean does not count, and how far its slopes are."""
    with torch.autocast(lesson.image.device.type, dtype, enabled=dtype != torch.float32):
        said = net(lesson.image, lesson.mask)
    there = lesson.mask[:, 0] * (lesson.depth < VIEW_FAR)
    apart = said - (lesson.depth - 1)
    count = there.sum(dim=(1, 2), keepdim=True).clamp(min=1)
    apart = (apart - (apart * there).sum(dim=(1, 2), keepdim=True) / count) / WRONG
    loss = _mean((1 + apart.square()).sqrt() - 1, there)
    for dim in (1, 2):
        both = there.narrow(dim, 1, there.shape[dim] - 1) * there.narrow(dim, 0, there.shape[dim] - 1)
        loss = loss + _mean((1 + SLOPES * apart.diff(dim=dim).square()).sqrt() - 1, both)
    return loss


def _mean(maps: Float[Tensor, "b h w"], weights: Float[Tensor, "b h w"]) -> Float[Tensor, ""]:
    return (maps * weights).sum() / weights.sum().clamp(min=1)
