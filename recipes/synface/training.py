"""Training StyleGAN2: one step at a time, the same for any number of processes, and after a kill.

What a step draws depends on the seed, the step and the place in the batch alone. A step makes pictures once: the
discriminator learns on them first, and the generator then through the same pictures, by the discriminator just taught,
and through copies of real pictures, whose latents a third network reads off them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from g2s_cli.gan.stylegan2 import Generator
from g2s_cli.training.distributed import Group
from g2s_cli.training.joint_run import drawn_from, draws
from recipes.synface.keeping import keep, kept
from recipes.synface.objectives import discriminator_loss, generator_loss, path_lengths, r1_penalty
from recipes.synface.pictures import Pictures
from recipes.synface.reading import Reader, misread, unlike
from recipes.synface.states import LATENT, Pair, State, discriminator_of, frozen, generator_of, trainable, weights


@dataclass(frozen=True)
class Settings:
    """How a GAN is trained.

    batch: pictures a step, over all processes; each has a multiple of four. rate: Adam's, of the discriminator;
    generator_rate: of the generator. warm_up: steps in which the rates rise to these. r1: weight of the penalty,
    r1_every: steps between two. path: weight of the path lengths' spread, 0 to go without; path_every: steps between
    two, which take half a batch. copies: weight of what copies of real pictures lack, 0 to go without; reader_alone:
    first steps, in which only the network that reads latents learns; reader_rate: Adam's, of it. half_life: pictures
    after which the average network has forgotten half.
    """

    batch: int = 32
    rate: float = 2e-3
    generator_rate: float = 2e-3
    warm_up: int = 100
    r1: float = 0.1
    r1_every: int = 16
    path: float = 0.0
    path_every: int = 8
    copies: float = 0.0
    reader_alone: int = 300
    reader_rate: float = 1e-3
    half_life: int = 10_000
    seed: int = 0


@dataclass(frozen=True)
class Losses:
    """What a step came to; nothing where it did not compute one."""

    generator: float | None = None
    discriminator: float | None = None
    r1: float | None = None
    path: float | None = None
    copies: float | None = None

    @property
    def of_the_generator(self) -> float:
        """What a watcher is shown: how little it fools, or while it stays as it is, what copies lack."""
        return next((value for value in (self.generator, self.copies) if value is not None), math.nan)


@dataclass(frozen=True)
class Lacking:
    """What the reader and, in copies of real pictures, the generator lack: the loss of both, and the copies' share."""

    loss: Float[Tensor, ""]
    copies: Float[Tensor, ""]


@dataclass
class Learner:
    """A pair of networks in training: the only thing here that changes.

    average: the generator's moving average, which is what is kept in the end. length: moving mean of path lengths.
    reader: what reads latents off pictures, where copies count.
    """

    generator: State
    discriminator: State
    average: State
    settings: Settings
    device: torch.device
    step: int = 0
    length: float = 0.0
    reader: Reader | None = field(init=False)
    adams: dict[str, torch.optim.Adam] = field(init=False)

    def __post_init__(self) -> None:
        self.reader = self._fresh_reader() if self.settings.copies else None
        self.adams = {name: self._adam(state, memory, every) for name, state, memory, every in self._taught()}

    @classmethod
    def of(cls, pair: Pair, settings: Settings, device: torch.device) -> Learner:
        """A learner that begins with these networks."""
        average = {name: tensor.to(device) for name, tensor in pair.generator.items()}
        return cls(trainable(average), trainable(pair.discriminator, device), average, settings, device)

    @classmethod
    def read(cls, path: Path, device: torch.device) -> Learner:
        """A learner as it was written. Raises G2SError for a damaged file."""
        with kept(path, device, "Delete it and begin again.") as state:
            settings = Settings(**state["settings"])
            generator, discriminator = trainable(state["generator"]), trainable(state["discriminator"])
            learner = cls(generator, discriminator, state["average"], settings, device)
            learner.step, learner.length = state["step"], state["length"]
            if learner.reader:
                learner.reader.load_state_dict(state["reader"])
            for name, adam in learner.adams.items():
                adam.load_state_dict(state["adams"][name])
        return learner

    def write(self, path: Path) -> None:
        """Everything needed to go on, whole or not at all."""
        state = {
            "settings": asdict(self.settings),
            "step": self.step,
            "length": self.length,
            "generator": frozen(self.generator),
            "discriminator": frozen(self.discriminator),
            "average": self.average,
            "reader": self.reader.state_dict() if self.reader else {},
            "adams": {name: adam.state_dict() for name, adam in self.adams.items()},
        }
        keep(state, path)

    @property
    def seen(self) -> int:
        """Pictures made so far."""
        return self.step * self.settings.batch

    @property
    def kept(self) -> Pair:
        """What the training is for: the average generator, and the discriminator."""
        return Pair(self.average, frozen(self.discriminator))

    def advance(self, pictures: Pictures, group: Group, dtype: torch.dtype) -> Losses:
        """One step: the discriminator's, the generator's, the average's; or the reader's, while that is alone."""
        z, real = self._draw(pictures, group)
        if self.reader and self.step < self.settings.reader_alone:
            generator = generator_of(frozen(self.generator), dtype)
            w = generator.mapping(z)
            lacking = self._lacking(self.reader, generator, w, generator(w), real)
            self._learn(["reader"], lacking.loss, group)
            losses = Losses(copies=lacking.copies.item())
        else:
            losses = self._compete(z, real, group, dtype)
            kept = 0.5 ** (self.settings.batch / self.settings.half_life)
            latest = frozen(self.generator)
            self.average = {name: torch.lerp(latest[name], mean, kept) for name, mean in self.average.items()}
        self.step += 1
        return losses

    def _compete(
        self, z: Float[Tensor, "b d"], real: Float[Tensor, "b 3 s s"], group: Group, dtype: torch.dtype
    ) -> Losses:
        generator = generator_of(self.generator, dtype)
        w = generator.mapping(z)
        result = generator(w)

        critic = discriminator_of(self.discriminator, dtype)
        told = discriminator_loss(critic(result.detach()), critic(real))
        every = self.settings.r1_every
        slope = r1_penalty(critic, real) if self.step % every == 0 else None
        self._learn(["discriminator"], told if slope is None else told + slope * (self.settings.r1 / 2 * every), group)

        # The discriminator as it is now, and as a mere function: it does not learn from this.
        fooled = generator_loss(discriminator_of(frozen(self.discriminator), dtype)(result))
        spread = self._path_spread(z) if self.settings.path and self.step % self.settings.path_every == 0 else None
        loss, learning = fooled, ["generator"]
        if spread is not None:
            loss = loss + spread * (self.settings.path * self.settings.path_every)
        lacking = self._lacking(self.reader, generator, w, result, real) if self.reader else None
        if lacking:
            loss, learning = loss + lacking.loss, ["generator", "reader"]
        self._learn(learning, loss, group)
        said = (slope, spread, lacking.copies if lacking else None)
        return Losses(fooled.item(), told.item(), *(None if value is None else value.item() for value in said))

    def _lacking(
        self,
        reader: Reader,
        generator: Generator,
        w: Float[Tensor, "b d"],
        result: Float[Tensor, "b 3 s s"],
        real: Float[Tensor, "b 3 s s"],
    ) -> Lacking:
        """How badly latents are read off made pictures, and half of the real ones shown again."""
        some = real[: len(real) // 2]
        copies = unlike(generator(reader(some, generator.compute_dtype)), some)
        read = reader(result.detach(), generator.compute_dtype)
        return Lacking(misread(read, w.detach()) + self.settings.copies * copies, copies)

    def _draw(self, pictures: Pictures, group: Group) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b 3 s s"]]:
        """This process's share of a step's latents and pictures."""
        batch, start = self.settings.batch, self.step * self.settings.batch
        share = batch // group.size
        mine = slice(group.rank * share, (group.rank + 1) * share)
        random = draws(self.settings.seed, "step", self.step)
        z = torch.randn(batch, LATENT, generator=random)[mine]
        hflip = torch.rand(batch, generator=random)[mine] < 0.5
        epochs = range(start // len(pictures), (start + batch - 1) // len(pictures) + 1)
        places = torch.cat([self._order(epoch, len(pictures)) for epoch in epochs])
        real = pictures.take(places[start % len(pictures) :][:batch][mine], hflip)
        return z.to(self.device), real.to(self.device)

    def _order(self, epoch: int, count: int) -> Tensor:
        return torch.randperm(count, generator=draws(self.settings.seed, "epoch", epoch))

    def _path_spread(self, z: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
        """Mean squared difference of path lengths from their moving mean, in float32, on half the batch."""
        generator = generator_of(self.generator, torch.float32)
        w = generator.mapping(z[: max(1, len(z) // 2)])
        random = draws(self.settings.seed, "path", self.step)
        noise = torch.randn(len(w), 3, generator.size, generator.size, generator=random)
        lengths = path_lengths(generator, w, noise.to(self.device))
        mean = lengths.mean().item()
        self.length = self.length + 0.01 * (mean - self.length) if self.length else mean
        return (lengths - self.length).square().mean()

    def _learn(self, names: Sequence[str], loss: Float[Tensor, ""], group: Group) -> None:
        """One step of Adam on some of the networks, on the mean gradient of all processes."""
        rates = {"generator": self.settings.generator_rate, "reader": self.settings.reader_rate}
        states = {name: state for name, state, *_ in self._taught()}
        parameters = [weight for name in names for weight in weights(states[name])]
        gradients = torch.autograd.grad(loss / group.size, parameters, materialize_grads=True)
        for weight, gradient in zip(parameters, gradients, strict=True):
            weight.grad = gradient
        group.add_up(parameters, loss.detach())
        for name in names:
            adam = self.adams[name]
            for chosen in adam.param_groups:
                rate = rates.get(name, self.settings.rate)
                chosen["lr"] = rate * min(1.0, (self.step + 1) / self.settings.warm_up)
            adam.step()
            adam.zero_grad()

    def _taught(self) -> Iterator[tuple[str, State, float, int]]:
        """The networks, Adam's memory of directions, and how often each is regularised."""
        yield "generator", self.generator, 0.0, self.settings.path_every if self.settings.path else 0
        yield "discriminator", self.discriminator, 0.0, self.settings.r1_every
        if self.reader:
            yield "reader", dict(self.reader.named_parameters()), 0.9, 0

    def _adam(self, state: State, memory: float, every: int) -> torch.optim.Adam:
        ratio = every / (every + 1) if every else 1.0  # Adam remembers as if a regularised step were one more
        return torch.optim.Adam(weights(state), betas=(memory, 0.99**ratio), fused=True)  # each step says its rate

    def _fresh_reader(self) -> Reader:
        with drawn_from(self.settings.seed):
            return Reader(generator_of(self.average, torch.float32).size).to(self.device)
