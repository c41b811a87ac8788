"""Random faces registered with the mean face: lessons in which point of a head each pixel shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from g2s_cli.estimators.base import MaskedImages
from g2s_cli.estimators.feedforward import FactorNets
from g2s_cli.estimators.registration import Registered, ShapeTemplate, registered
from g2s_cli.geometry.resample import tent_blur
from g2s_cli.geometry.warp import hflip
from g2s_cli.progress import Progress
from g2s_cli.seeding import seeded_generator
from g2s_cli.training.checkpoint import load_checkpoint, save_checkpoint
from recipes.synface.moving import Moves, Source

FACES, AT_ONCE = 9600, 50
TURNS = (1.1, 1.5)  # of every other fifty faces, in standard deviations of pitch and yaw: the GAN's own turn less
WIDEST_TURN = 2.6
WORST_SHARE = 0.05  # of the faces, which are left out: those that their counterparts fit least
BATCH = 16
SHARPENED = 0.5  # how much of what a blur takes from the mean of D's answers, which is one itself, is put back on top


def registered_faces(
    nets: FactorNets, moves: Moves, source: Source, seed: int, progress: Progress, count: int = FACES, done: int = 0
) -> Iterator[Registered]:
    """Random faces, half of them turned farther than the GAN does by itself; pictures in half precision.

    moves: of a gallery as `nets` see it. done: how many of `count` there are already; `AT_ONCE` others come at a time.
    """
    mean, layers = mean_face(nets, moves, source), source.gan.generator.layers
    progress.begin("register", count)
    for faces, latents in some_faces(source, moves, seed, "register", count, done):
        found = registered(faces, latents, mean, nets, layers, lambda asked: source.show(asked).bare)
        done += len(latents)
        progress.advance(done, found.apart.mean().item())
        yield Registered(found.images.half(), found.masks.half(), found.views, found.relief, found.apart.half())


def some_faces(
    source: Source, moves: Moves, seed: int, use: str, count: int, done: int = 0
) -> Iterator[tuple[MaskedImages, Float[Tensor, "b d"]]]:
    """Random faces and their latents, `AT_ONCE` at a time; every other time turned farther than the GAN does by itself.

    use: for which they are drawn. done: how many of `count` there are already.
    """
    for first in range(done, count, AT_ONCE):
        rng = seeded_generator(seed, use, first)
        latents = source.random(min(AT_ONCE, count - first), rng)
        if first // AT_ONCE % 2:
            latents = turned(latents, moves, rng)
        yield source.show(latents).bare, latents


def joined(parts: Sequence[Registered]) -> Registered:
    """All of them in a row."""
    return Registered(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Registered)))


@torch.no_grad()
def mean_face(nets: FactorNets, moves: Moves, source: Source) -> ShapeTemplate:
    """The mean face, with the mean of what D says of it seen from all sides, sharpened."""
    depth = nets.depth_of(source.show(moves.mean_face()).bare.image).mean(dim=0)
    return ShapeTemplate(sharpened(depth), source.gan.generator.latent_avg, moves.directions, source.gan.segmenter)


def sharpened(depth: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """An unsharp mask."""
    return depth + SHARPENED * (depth - tent_blur(depth[None, None], 1)[0, 0])


def best(faces: Registered) -> Registered:
    """All but those that their counterparts fit worst."""
    inside = faces.masks[:, 0].float()
    far = (faces.apart.float() * inside).sum(dim=(1, 2)) / inside.sum(dim=(1, 2)).clamp(min=1)
    return faces.pick(far.argsort()[: max(1, round(len(far) * (1 - WORST_SHARE)))])


def some_of(faces: Registered, rng: torch.Generator, count: int = BATCH) -> Registered:
    """Some of them, each as it is or its mirror image, in single precision."""
    index = torch.randint(len(faces.views), (count,), generator=rng).to(faces.views.device)
    flipped = torch.randint(2, (count,), generator=rng).bool().to(faces.views.device)
    some = faces.pick(index)

    def drawn(maps: Tensor) -> Tensor:
        maps = maps.float()
        return torch.where(flipped.view(-1, *[1] * (maps.ndim - 1)), hflip(maps), maps)

    signs = some.views.new_tensor((1, -1, -1, -1, 1, 1))
    views = torch.where(flipped[:, None], some.views * signs, some.views)
    return Registered(drawn(some.images), drawn(some.masks), views, drawn(some.relief), drawn(some.apart))


def write_registered(faces: Registered, path: Path) -> None:
    """Whole or not at all."""
    save_checkpoint(vars(faces), path)


def read_registered(path: Path, device: torch.device) -> Registered:
    """What `write_registered` wrote. Raises G2SError for a damaged file."""
    with load_checkpoint(path, device) as state:
        return Registered(**state)


def turned(latents: Float[Tensor, "b d"], moves: Moves, rng: torch.Generator) -> Float[Tensor, "b d"]:
    """The same faces from views spread wider than the GAN's own."""
    view = torch.randn(len(latents), 2, generator=rng) * torch.tensor(TURNS)
    view = view.clamp(-WIDEST_TURN, WIDEST_TURN).to(latents.device)
    return moves.moved(latents, torch.cat((view, moves.read(latents)[:, 2:]), dim=1)[:, None])[:, 0]
