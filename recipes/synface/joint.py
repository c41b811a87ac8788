"""Training D, A, V, L and a mean shape on a GAN's random faces: five runs in a row, and what survives a kill.

What an update draws depends on the seed, the run and the update alone.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from g2s_cli.config import Category
from g2s_cli.errors import G2SError
from g2s_cli.estimators.base import MaskedImages
from g2s_cli.estimators.factor_codes import raw_from_depth
from g2s_cli.estimators.feedforward import FactorNets, camera_of
from g2s_cli.estimators.gan2shape.prior import ellipsoid
from g2s_cli.estimators.networks import CodeNet, MapNet
from g2s_cli.estimators.registration import Registered, misplacing
from g2s_cli.geometry.warp import symmetrize
from g2s_cli.progress import Progress
from g2s_cli.seeding import seeded_generator, seeded_weights
from g2s_cli.training.checkpoint import load_checkpoint, save_checkpoint
from recipes.synface.explaining import Terms, canonical_of, explanation, lesson, misreading
from recipes.synface.moving import FACTORS, GALLERY, Gallery, Moves, Source
from recipes.synface.registering import (
    FACES,
    best,
    joined,
    read_registered,
    registered_faces,
    some_of,
    write_registered,
)
from recipes.synface.reshaping import misshaping, shape_lesson

BATCH = 16  # images an update
RATE, BASE_RATE, LEAST_RATE = 3e-4, 2e-3, 0.03  # of the networks and of the mean shape; the last is a share of both
WARM_UP = 200  # updates
BETAS = (0.9, 0.99)
MAP_WIDTH, BOTTLENECK, VIEW_WIDTH, LIGHT_WIDTH = 32, 128, 32, 16
QUIET = 0.1  # D's last layer begins with so much of its weights: the mean shape goes first
FIRST_NEAR = 0.95  # the ellipsoid that the mean shape begins as, the best on faces of this kind (docs/LOG.md)
REGRESS_EVERY = 500  # updates
LOG_EVERY = 50
LEARNER, REGISTERED, LOG = "learner.pt", "registered.pt", "log.jsonl"


@dataclass(frozen=True)
class Run:
    """A stretch of training with an optimiser of its own.

    taught: whether V and L also learn from our own renderings; as those have no background, faces then have none.
    views: of each face, made by moving its w, which one canonical object must explain; 1 leaves faces as they are.
    coarse: a weight of `explanation`. recentred: whether the mean shape is recentred at the end. reshaped: whether D
    and A learn from our own renderings, too, in which faces are reshaped as the networks were at the beginning of the
    run. registered: whether D also learns from faces registered with the mean face, as the networks then were.
    """

    name: str
    updates: int
    taught: bool
    views: int
    coarse: float
    recentred: bool = False
    reshaped: bool = False
    registered: bool = False


# Alone, a face that hardly turns with deep relief and one that turns far with a flat one explain a picture alike. Our
# own renderings say what a view is, and several views of one face leave no room for the trade (docs/LOG.md).
SCHEDULE = (
    Run("alone", 3100, taught=False, views=1, coarse=0.0),
    Run("taught", 2600, taught=True, views=1, coarse=0.0),
    Run("moved", 6000, taught=True, views=4, coarse=0.5, recentred=True),
    Run("reshaped", 2000, taught=True, views=4, coarse=0.5, recentred=True, reshaped=True),
    Run("registered", 1200, taught=True, views=4, coarse=0.5, reshaped=True, registered=True),
)


def schedule(updates: int | None, *, initial_coefficients: bool) -> tuple[Run, ...]:
    """The runs to do: all, or the last alone for networks that have begun.

    updates: of the last run; the others keep their share.
    """
    share = 1.0 if updates is None else updates / SCHEDULE[-1].updates
    runs = tuple(replace(run, updates=max(1, round(run.updates * share))) for run in SCHEDULE)
    return runs[-1:] if initial_coefficients else runs


def first_networks(category: Category, gallery: Gallery, dtype: torch.dtype, seed: int) -> FactorNets:
    """Untrained networks, and for the mean shape half an ellipsoid on the faces' mean mask."""
    size, camera = category.working_size, camera_of(category)
    with seeded_weights(seed):
        depth = MapNet(size, 1, MAP_WIDTH, BOTTLENECK, bounded=False)
        albedo = MapNet(size, 3, MAP_WIDTH, BOTTLENECK, bounded=True)
        view, light = CodeNet(size, 6, VIEW_WIDTH), CodeNet(size, 4, LIGHT_WIDTH)
    with torch.no_grad():
        list(depth.parameters())[-1].mul_(QUIET)
    shape = ellipsoid(gallery.masks.mean(dim=0)[0].cpu(), replace(category.ellipsoid, near=FIRST_NEAR))
    nothing = torch.zeros(6), torch.zeros(4)
    nets = FactorNets(depth, albedo, view, light, camera, raw_from_depth(shape, camera), *nothing, symmetric=True)
    return nets.to(gallery.images.device, dtype)


class Learner:
    """Networks in training, and how far they are: the only thing here that changes."""

    def __init__(self, nets: FactorNets) -> None:
        base = nets.base
        if base is None:
            raise ValueError("networks without a mean shape")
        self.base = nn.Parameter(base.clone())
        self.untied = nets
        self.run = self.update = 0  # what comes next
        self.adam = self._fresh_adam()
        self.moves: Moves | None = None
        self.teacher: FactorNets | None = None  # of the lessons in shape: the networks as they were
        self.registered: Registered | None = None  # kept in a file of its own

    @property
    def nets(self) -> FactorNets:
        """The networks with the mean shape as it now is, its two halves alike."""
        return replace(self.untied, base=symmetrize(self.base))

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What is kept of the networks in the end, in half precision, and the mean shape."""
        modules = _modules(self.untied)
        named = {f"{name}.{key}": tensor for name, net in modules for key, tensor in net.state_dict().items()}
        return {name: tensor.half().cpu() for name, tensor in named.items()} | {
            "base": symmetrize(self.base.detach()).cpu()
        }

    def read(self, path: Path) -> None:
        """Go back to where a run was written. Raises G2SError for a damaged file."""
        with load_checkpoint(path, self.base.device, "Delete it and begin again.") as state:
            for name, net in _modules(self.untied):
                net.load_state_dict(state[name])
            self.base.data.copy_(state["base"])
            self.adam.load_state_dict(state["adam"])
            self.run, self.update = state["run"], state["update"]
            self.moves = Moves(**state["moves"]) if state["moves"] else None
            self.teacher = self._as_it_was(state["teacher"]) if state["teacher"] else None

    def write(self, path: Path) -> None:
        """Everything needed to go on, whole or not at all."""
        state: dict[str, Any] = _states(self.untied)
        state |= {"base": self.base.data, "adam": self.adam.state_dict(), "run": self.run, "update": self.update}
        state["moves"] = vars(self.moves) if self.moves else None
        state["teacher"] = _states(self.teacher) | {"base": self.teacher.base} if self.teacher else None
        save_checkpoint(state, path)

    def advance(self, run: Run, source: Source, gallery: Gallery, category: Category, seed: int) -> Terms:
        """One update; the terms of its loss."""
        if run.views > 1 and self.update % REGRESS_EVERY == 0:
            self.moves = Moves.of(self.nets, gallery)
        if run.reshaped and self.update == 0:
            self.teacher = self._as_it_was(_states(self.untied) | {"base": self.nets.base})
        if (run.reshaped and self.teacher is None) or (run.registered and self.registered is None):
            raise ValueError("lessons in shape without a teacher or registered faces")
        rng = seeded_generator(seed, run.name, self.update)
        faces = self._faces(run, source, rng)
        terms = losses(self.nets, faces, run, category, rng, self.teacher if run.reshaped else None)
        if run.registered and self.registered is not None:
            terms |= misplacing(self.nets, some_of(self.registered, rng))
        share = self._rate(run)
        for group in self.adam.param_groups:
            group["lr"] = group["full"] * share
        self.adam.zero_grad()
        sum(terms.values(), start=self.base.new_zeros(())).backward()
        self.adam.step()
        self.update += 1
        return terms

    def next_run(self, run: Run, source: Source, gallery: Gallery) -> None:
        """The run under way is over."""
        if run.recentred:
            self.base.data.copy_(self.recentred(source, gallery))
        self.run, self.update, self.adam = self.run + 1, 0, self._fresh_adam()

    def register(
        self, source: Source, gallery: Gallery, seed: int, path: Path, progress: Progress, save_every: float = 300.0
    ) -> None:
        """Have faces registered with the mean face: a file's, and those that it lacks as the networks now are."""
        count = len(gallery.latents) * FACES // GALLERY
        parts = [read_registered(path, self.base.device)] if path.exists() else []
        done = sum(len(part.views) for part in parts)
        if done < count:
            moves, saved = Moves.of(self.nets, gallery), time.monotonic()
            for part in registered_faces(self.nets, moves, source, seed, progress, count, done):
                parts.append(part)
                done += len(part.views)
                if done == count or time.monotonic() - saved > save_every:
                    parts = [joined(parts)]
                    write_registered(parts[0], path)
                    saved = time.monotonic()
        self.registered = best(parts[0])

    @torch.no_grad()
    def recentred(self, source: Source, gallery: Gallery) -> Tensor:
        """The mean shape with which D's answers to the gallery have for their mean what it says of the mean face.

        Seen from many views: a face that the GAN turns without changing the person. Answers to faces in general are
        blurred where people differ, at the step from chin to neck above all (docs/LOG.md).
        """
        nets, camera = self.nets, self.untied.camera

        def answer(images: Tensor) -> Tensor:
            raw = [raw_from_depth(nets.depth_of(some), camera) for some in images.split(100)]
            return symmetrize(torch.cat(raw).mean(dim=0))

        mean_faces = source.show(Moves.of(nets, gallery).mean_face()).masked
        apart = answer(mean_faces.image) - answer(gallery.images)
        return symmetrize(self.base.data) + apart - apart.mean()

    def _faces(self, run: Run, source: Source, rng: torch.Generator) -> MaskedImages:
        latents = source.random(BATCH // run.views, rng)
        if run.views > 1 and self.moves is not None:
            latents = self.moves.some_views(latents, run.views, rng).flatten(0, 1)
        faces = source.show(latents)
        return faces.masked if run.taught else faces

    def _rate(self, run: Run) -> float:
        """Which share of its rate the optimiser has: rising at first, then half a cosine."""
        half_cosine = 0.5 * (1 + math.cos(math.pi * self.update / run.updates))
        return min(1.0, (self.update + 1) / WARM_UP) * (LEAST_RATE + (1 - LEAST_RATE) * half_cosine)

    def _fresh_adam(self) -> torch.optim.Adam:
        weights = [parameter for _, net in _modules(self.untied) for parameter in net.parameters()]
        groups = [{"params": weights, "full": RATE}, {"params": [self.base], "full": BASE_RATE}]
        return torch.optim.Adam(groups, betas=BETAS, fused=True)

    def _as_it_was(self, states: Mapping[str, Any]) -> FactorNets:
        """Other networks of the same kind, from their states and their mean shape."""
        nets = copy.deepcopy(self.untied)
        for name, net in _modules(nets):
            net.load_state_dict(states[name])
            net.requires_grad_(requires_grad=False)
        return replace(nets, base=states["base"].detach().clone())


def _modules(nets: FactorNets) -> Iterator[tuple[str, nn.Module]]:
    yield from (("netD", nets.depth), ("netA", nets.albedo), ("netV", nets.view), ("netL", nets.light))


def _states(nets: FactorNets) -> dict[str, Any]:
    return {name: net.state_dict() for name, net in _modules(nets)}


def losses(
    nets: FactorNets,
    faces: MaskedImages,
    run: Run,
    category: Category,
    rng: torch.Generator,
    teacher: FactorNets | None = None,
) -> Terms:
    """What an update of a run minimises.

    faces: `run.views` of each, one after the other. teacher: whose faces lessons in shape are made of, if any.
    """
    canonical = canonical_of(nets, faces, run.views)
    view, light = nets.view_of(faces.image), nets.light_of(faces.image)
    terms = explanation(canonical, view, light, faces, nets.camera, run.coarse)
    if not run.taught:
        return terms
    if teacher is not None:
        return terms | misshaping(nets, shape_lesson(teacher, faces, run.views, category.lights, rng))
    return terms | misreading(nets, lesson(canonical, view, faces.mask, nets.camera, category.lights, rng))


def train(
    learner: Learner,
    runs: Sequence[Run],
    source: Source,
    gallery: Gallery,
    category: Category,
    seed: int,
    folder: Path,
    progress: Progress,
    *,
    save_every: float = 300.0,
) -> None:
    """Do all runs; go on where an earlier call with the same folder ended.

    folder: for learner.pt, registered.pt and log.jsonl. save_every: seconds between two savings; a kill costs what came
    after the last. Raises G2SError for a damaged folder, and where the loss is not finite any more.
    """
    place = folder / LEARNER
    if place.exists():
        learner.read(place)
    saved = time.monotonic()
    while learner.run < len(runs):
        run, log = runs[learner.run], _Log(folder / LOG)
        if run.registered:
            learner.register(source, gallery, seed, folder / REGISTERED, progress, save_every)
        progress.begin(run.name, run.updates)
        while learner.update < run.updates:
            loss = log.add(learner.advance(run, source, gallery, category, seed))
            if not math.isfinite(loss):
                raise G2SError(
                    f"The loss is not finite at update {learner.update} of {run.name}.", "Try another --seed."
                )
            progress.advance(learner.update, loss)
            if learner.update % LOG_EVERY == 0 or learner.update == run.updates:
                log.write(run, learner)
            if learner.update < run.updates and time.monotonic() - saved > save_every:
                learner.write(place)
                saved = time.monotonic()
        learner.next_run(run, source, gallery)
        learner.write(place)


@dataclass
class _Log:
    """Mean terms of the updates since the last line, a line of JSON each time."""

    path: Path
    sums: dict[str, float] = field(default_factory=dict)
    count: int = 0
    initial_coefficients: float = field(default_factory=time.monotonic)

    def add(self, terms: Mapping[str, Tensor]) -> float:
        """Count an update; its loss."""
        self.count += 1
        values = {name: term.item() for name, term in terms.items()}
        self.sums = {name: self.sums.get(name, 0.0) + value for name, value in values.items()}
        return sum(values.values())

    def write(self, run: Run, learner: Learner) -> None:
        """A line, and begin anew."""
        means = {name: round(total / self.count, 5) for name, total in self.sums.items()}
        line: dict[str, Any] = {"run": run.name, "update": learner.update, "terms": means}
        line["updates_a_second"] = round(self.count / (time.monotonic() - self.initial_coefficients), 2)
        if run.views > 1 and learner.moves is not None:
            line["explained"] = dict(
                zip(FACTORS, [round(r2, 3) for r2 in learner.moves.explained.tolist()], strict=True)
            )
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        self.sums, self.count, self.initial_coefficients = {}, 0, time.monotonic()
