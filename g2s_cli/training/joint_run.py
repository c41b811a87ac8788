"""A training run on many photos that several processes share and that a kill does not hurt: phases and checkpoints."""

from __future__ import annotations

import hashlib
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from g2s_cli.config import Preset
from g2s_cli.errors import G2SError
from g2s_cli.estimators.base import MaskedImages
from g2s_cli.estimators.optimize import Fit, new_adam
from g2s_cli.files import RESUME_REMEDY, atomic_write
from g2s_cli.progress import Progress
from g2s_cli.training.distributed import Group

CHECKPOINT, SAMPLES = "checkpoint.pt", "samples"
COLLECT = "collect"  # the one phase that advances by photos, not by steps

# A photo's loss at a step, in parts that add up: of its number, and what its draws come from.
PhotoLoss = Callable[[int, torch.Generator], Iterator[Tensor]]


@dataclass(frozen=True)
class Rhythm:
    """How a run goes: its seed, the photos of a step over all processes, and the seconds between checkpoints."""

    seed: int
    photos_a_step: int
    save_every_s: float


@dataclass
class Trained:
    """How far a run has come. Changes as it goes.

    phase, step: what comes next. optimizer: the state of the phase under way. losses, seconds: of every phase so far.
    """

    phase: int = 0
    step: int = 0
    optimizer: dict[str, Any] | None = None
    losses: dict[str, list[float]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


@contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """Inside the block fresh modules draw their weights from a seed; torch's global generator is put back as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def draws(*what: int | str) -> torch.Generator:
    """A generator for one purpose, whose seed is made of its names and numbers."""
    digest = hashlib.blake2b(repr(what).encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest))


class Run:
    """The phases of a run, one after the other, and what of them survives the process.

    The networks are changed in place; `trained` says how far they are.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        photos: int,
        effort: Preset,
        rhythm: Rhythm,
        folder: Path,
        group: Group,
        progress: Progress,
    ) -> None:
        self.modules, self.photos, self.effort, self.rhythm = modules, photos, effort, rhythm
        self.folder, self.group, self.progress = folder, group, progress
        self.trained = Trained()
        self.ahead = 0  # the number of the phase that the schedule comes to next
        if (folder / CHECKPOINT).is_file():
            self._read()
        group.agree(self.modules.values())  # which also waits until all have read
        self.saved = time.perf_counter()

    def phase(self, name: str, parameters: Iterator[nn.Parameter], iterations: int, loss: PhotoLoss) -> None:
        """Minimise the mean of the photos' losses with an optimiser of its own, from where an earlier run was."""
        trained, begun = self.trained, time.perf_counter()
        self.ahead += 1
        if trained.phase >= self.ahead:
            return
        weights = list(parameters)
        optimizer = new_adam(weights, Fit(iterations, self.effort.rate, self.effort.decay))
        if trained.optimizer is not None:
            optimizer.load_state_dict(trained.optimizer)
            trained.optimizer = None
        before = trained.seconds.get(name, 0.0)
        heard = trained.losses.setdefault(name, [])
        self.progress.begin(name, iterations)
        for step in range(trained.step, iterations):
            optimizer.zero_grad()
            total = torch.zeros(())
            for slot, photo in self.photos_of(name, step):
                for part in loss(photo, draws(self.rhythm.seed, name, step, slot)):
                    share = part / self.rhythm.photos_a_step
                    share.backward()
                    total += share.detach().cpu()
            value = self.group.add_up(weights, total).item()
            if not math.isfinite(value):
                raise G2SError(
                    f"The loss of {name} is not finite at step {step + 1}.",
                    "Look for a photo that is not like the others, or try another --seed.",
                )
            optimizer.step()
            heard.append(value)
            trained.step = step + 1
            trained.seconds[name] = before + time.perf_counter() - begun
            self.progress.advance(step + 1, value)
            if time.perf_counter() - self.saved >= self.rhythm.save_every_s:
                self._save(optimizer.state_dict())
        trained.phase, trained.step = self.ahead, 0
        self._save(None)

    def collect(self, cycle: str, gather: Callable[[int, torch.Generator, int], MaskedImages]) -> None:
        """Keep a share of the cycle's samples of every photo, in bytes: a file each, which a later run finds.

        effort.samples are for each photo of a step, so that more photos a step see no fewer samples each.
        """
        if self.trained.phase > self.ahead:
            return
        name = f"{cycle}, {COLLECT}"
        count = math.ceil(self.effort.samples * self.rhythm.photos_a_step / self.photos)
        mine = self.group.share(self.photos)
        self.progress.begin(name, len(mine))
        begun = time.perf_counter()
        for done, photo in enumerate(mine, start=1):
            path = self._sample_file(cycle, photo)
            if not path.is_file():
                if self.trained.step:  # the networks have moved on from those that made the others
                    raise G2SError(f"{path} is missing.", f"Delete {self.folder} and train again.")
                some = gather(photo, draws(self.rhythm.seed, name, photo), count)
                channels = torch.cat(((some.image + 1) / 2, some.mask), dim=1)
                with atomic_write(path, RESUME_REMEDY) as temporary, temporary.open("wb") as file:
                    np.save(file, (channels * 255).round().to(torch.uint8).cpu().numpy())
            self.progress.advance(done, 0.0)
        self.trained.seconds[name] = self.trained.seconds.get(name, 0.0) + time.perf_counter() - begun
        self.group.wait()

    def samples(self, cycle: str, photo: int, count: int, rng: torch.Generator, device: torch.device) -> MaskedImages:
        """A random batch of a photo's samples, read from its file."""
        kept = np.load(self._sample_file(cycle, photo), mmap_mode="r")
        index = torch.randint(len(kept), (count,), generator=rng)
        channels = torch.from_numpy(kept[index.numpy()]).to(device).float() / 255
        image, mask = channels[:, :3] * 2 - 1, channels[:, 3:]
        return MaskedImages(image * mask, mask)

    def drop_samples(self, cycle: str) -> None:
        """Delete what no later phase needs. The last step of the phase before has brought all processes together."""
        if self.group.leads:
            shutil.rmtree(self._sample_file(cycle, 0).parent, ignore_errors=True)

    def photos_of(self, name: str, step: int) -> list[tuple[int, int]]:
        """This process's slots of a step, each with its photo. The photos are the same for any number of processes."""
        order = torch.randperm(self.photos, generator=draws(self.rhythm.seed, name, step, "photos")).tolist()
        return [(slot, order[slot]) for slot in self.group.share(self.rhythm.photos_a_step)]

    def _sample_file(self, cycle: str, photo: int) -> Path:
        return self.folder / SAMPLES / cycle.replace(" ", "-") / f"{photo:05}.npy"

    def _save(self, optimizer: dict[str, Any] | None) -> None:
        self.saved = time.perf_counter()
        if not self.group.leads:
            return
        networks = {name: module.state_dict() for name, module in self.modules.items()}
        facts = {name: getattr(self.trained, name) for name in ("phase", "step", "losses", "seconds")}
        try:
            with atomic_write(self.folder / CHECKPOINT) as temporary:
                torch.save({"networks": networks, "optimizer": optimizer} | facts, temporary)
        except (OSError, RuntimeError) as error:  # torch has no error of its own for a full disk
            raise G2SError(f"{self.folder / CHECKPOINT} cannot be written: {error}.", RESUME_REMEDY) from error

    def _read(self) -> None:
        path = self.folder / CHECKPOINT
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            for name, state in content.pop("networks").items():
                self.modules[name].load_state_dict(state)
            self.trained = Trained(**content)
        except Exception as error:
            raise G2SError(f"{path} is damaged.", f"Delete {self.folder} and train again.") from error
