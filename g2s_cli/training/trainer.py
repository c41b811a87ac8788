"""One training loop: phases of updates, with a checkpoint, a log and several processes.

A training passes the trainer its state (anything with `state_dict` and `load_state_dict`) and, for each phase, a
function that does one update. An update draws from `seeded_generator(seed, phase, update)` alone, so a training that is
killed and resumed ends with the same bytes as one that is not.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from statistics import mean
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from g2s_cli.errors import G2SError, UsageError
from g2s_cli.files import RESUME_REMEDY, convert_write_errors
from g2s_cli.progress import Progress
from g2s_cli.training.checkpoint import load_checkpoint, save_checkpoint
from g2s_cli.training.distributed import Group

CHECKPOINT, LOG = "checkpoint.pt", "log.jsonl"
LOG_EVERY = 50  # updates

Losses = Mapping[str, float | Tensor]  # the first is shown and recorded, all are logged
Schedule = Callable[[int], float]  # update → share of each parameter group's learning rate


@runtime_checkable
class Stateful(Protocol):
    """What a checkpoint can hold: a module, or a value with the same two methods."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers, strings, and containers of these."""

    def load_state_dict(self, state: dict[str, Any], /) -> object:
        """Restore what `state_dict` returned. Tensors arrive on the CPU."""


class Trainer:
    """The phases of a training, in order, and their checkpoint.

    Attributes:
        current: name of the phase under way, or of the last one finished.
        losses: the loss of every update, by phase.
        seconds: time spent, by phase.
    """

    def __init__(
        self,
        state: Mapping[str, Stateful],
        path: Path,
        group: Group,
        progress: Progress,
        *,
        settings: Mapping[str, Any] | None = None,
        save_every_s: float = 300.0,
        on_save: Callable[[], None] | None = None,
    ) -> None:
        """Resume from the checkpoint if there is one.

        Args:
            state: what the phases change, beside their optimisers; restored in place.
            path: the checkpoint. The log lies beside it.
            settings: what results depend on; a checkpoint of other settings is refused.
            save_every_s: seconds between checkpoints. There is one at the end of each phase, too.
            on_save: called in the first process after each checkpoint.

        Raises:
            UsageError: the checkpoint is of other settings.
            G2SError: the checkpoint is damaged.
        """
        self.state, self.path, self.group, self.progress = state, path, group, progress
        self.settings, self.save_every_s, self.on_save = dict(settings or {}), save_every_s, on_save
        self.current = ""
        self.losses: dict[str, list[float]] = {}
        self.seconds: dict[str, float] = {}
        self._optimizer: torch.optim.Optimizer | None = None
        self._optimizer_state: dict[str, Any] | None = None
        if path.is_file():
            self._load()
        group.broadcast(_tensors(one.state_dict() for one in state.values()))  # which also waits until all have read
        self._saved = time.monotonic()

    def updates_of(self, phase: str) -> int:
        """How many updates of a phase are done."""
        return len(self.losses.get(phase, []))

    def phase(
        self,
        name: str,
        updates: int,
        step: Callable[[int], Losses],
        *,
        optimizer: torch.optim.Optimizer | None = None,
        schedule: Schedule | None = None,
        images: int = 1,
    ) -> None:
        """Do the updates of a phase that are not done yet.

        Args:
            name: unique in the training.
            updates: in total, over all runs.
            step: does update 0, 1, ... and returns its losses, of which the first is shown.
            optimizer: new, with the initial learning rates; its state is restored if the phase is under way.
            schedule: share of the initial learning rates at an update.
            images: in an update, over all processes.

        Raises:
            G2SError: a loss is not finite, or the disk refuses the checkpoint.
        """
        if not self._begin(name, optimizer):
            return
        history, before = self.losses[name], self.seconds.get(name, 0.0)
        begun = logged = time.monotonic()
        recent: list[dict[str, float]] = []  # since the last line of the log
        self.progress.begin(name, updates)
        while (update := len(history)) < updates:
            if optimizer is not None and schedule is not None:
                for group in optimizer.param_groups:
                    group["lr"] = group["initial_lr"] * schedule(update)
            try:
                losses = {key: finite(float(value)) for key, value in step(update).items()}
            except FloatingPointError as error:
                what = f"The loss of {name} is not finite at step {update + 1}."
                raise G2SError(what, "Look for an image that is unlike the others, or try another --seed.") from error
            history.append(next(iter(losses.values())))
            done, last = update + 1, update + 1 == updates
            recent.append(losses)
            self.seconds[name] = before + time.monotonic() - begun
            self.progress.advance(done, history[-1])
            if self.group.is_main and (done % LOG_EVERY == 0 or last):
                self._log({"phase": name, "step": done, "images": done * images}, recent, logged, images)
                recent, logged = [], time.monotonic()
            if last or time.monotonic() - self._saved >= self.save_every_s:
                self.save()

    def once(self, name: str, work: Callable[[], None]) -> None:
        """Do some work between two phases, unless an earlier run has finished it."""
        if name not in self.seconds:
            begun = time.monotonic()
            work()
            self.seconds[name] = time.monotonic() - begun
            self.save()

    def save(self) -> None:
        """Write the checkpoint. Raises G2SError if the disk refuses."""
        self._saved = time.monotonic()
        if not self.group.is_main:
            return
        content = {name: getattr(self, name) for name in ("settings", "current", "losses", "seconds")}
        content["state"] = {name: one.state_dict() for name, one in self.state.items()}
        content["optimizer"] = self._optimizer.state_dict() if self._optimizer else self._optimizer_state
        save_checkpoint(content, self.path)
        if self.on_save:
            self.on_save()

    def _begin(self, name: str, optimizer: torch.optim.Optimizer | None) -> bool:
        """Whether a phase has updates to do: no later one has begun."""
        if name != self.current:
            if name in self.losses:
                return False
            self.current, self.losses[name], self._optimizer_state = name, [], None
        for group in optimizer.param_groups if optimizer is not None else ():
            group.setdefault("initial_lr", group["lr"])
        if optimizer is not None and self._optimizer_state is not None:
            optimizer.load_state_dict(self._optimizer_state)
        self._optimizer, self._optimizer_state = optimizer, None
        return True

    def _log(self, facts: dict[str, Any], recent: list[dict[str, float]], since: float, images: int) -> None:
        """Append a line to the log: the mean of each loss over the updates that had it, and images a second."""
        rate = {"images_a_second": round(len(recent) * images / max(time.monotonic() - since, 1e-9), 2)}
        names = dict.fromkeys(name for losses in recent for name in losses)
        means = {name: round(mean(one[name] for one in recent if name in one), 5) for name in names}
        path = self.path.with_name(LOG)
        path.parent.mkdir(parents=True, exist_ok=True)
        with convert_write_errors(path, RESUME_REMEDY), path.open("a") as file:
            file.write(json.dumps(facts | rate | means) + "\n")

    def _load(self) -> None:
        with load_checkpoint(self.path, remedy=f"Delete {self.path.parent} and train again.") as content:
            stated = content["settings"]
            differing = sorted(key for key in stated | self.settings if stated.get(key) != self.settings.get(key))
            if differing:
                what = f"{self.path} was begun with other settings: {', '.join(differing).replace('_', ' ')}."
                raise UsageError(what, "Name another folder with -o, or delete it.")
            for name, one in self.state.items():
                one.load_state_dict(content["state"][name])
            self.current, self.losses, self.seconds = (content[key] for key in ("current", "losses", "seconds"))
            self._optimizer_state = content["optimizer"]


def descend(
    optimizer: torch.optim.Optimizer, parts: Iterable[Tensor], group: Group, *, clip_norm: float = math.inf
) -> float:
    """One step of an optimiser on a loss, summed over the processes.

    Parameters that the loss does not depend on stay as they are.

    Args:
        parts: terms of this process's share of the loss; each is propagated back before the next is computed.
        group: the processes.
        clip_norm: greatest norm of the gradient.

    Returns:
        The loss.

    Raises:
        FloatingPointError: it is not finite; no parameter has changed.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    optimizer.zero_grad()
    total = torch.zeros(())
    for part in parts:
        part.backward(inputs=parameters)  # not autograd.grad: fused Adam needs gradients in the parameters' layout
        total += part.detach().cpu()
    value = finite(group.all_reduce(parameters, total).item())
    if clip_norm < math.inf:
        clip_grad_norm_(parameters, clip_norm)
    optimizer.step()
    return value


def finite(value: float) -> float:
    """The value itself. Raises FloatingPointError if it is infinite or not a number."""
    if not math.isfinite(value):
        raise FloatingPointError
    return value


def linear_warm_up(updates: int) -> Schedule:
    """A learning rate that rises over so many updates."""
    return lambda update: min(1.0, (update + 1) / updates)


def cosine_schedule(updates: int, warm_up: int, least: float = 0.0) -> Schedule:
    """A learning rate that rises over `warm_up` updates and falls to the share `least` along half a cosine."""
    rise = linear_warm_up(warm_up)
    return lambda update: rise(update) * (least + (1 - least) * 0.5 * (1 + math.cos(math.pi * update / updates)))


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """All tensors in nested dicts."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, dict):
            yield from _tensors(value.values())
