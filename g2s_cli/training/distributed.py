"""Several processes that train one set of networks: what torchrun started, or one process alone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn

from g2s_cli.errors import G2SError

# How long a process waits for the others: they invert and collect shares of their own, for hours on slow machines.
PATIENCE = timedelta(days=2)


@dataclass(frozen=True)
class Group:
    """The processes of a run, and which of them this one is. The first alone writes and speaks.

    local_rank: which of its machine's, and so the number of its GPU.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @classmethod
    def of_environment(cls) -> Group:
        """What torchrun says in RANK, WORLD_SIZE and LOCAL_RANK; one process alone where it says nothing."""
        rank, size, local_rank = (
            int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
        )
        return cls(rank, size, local_rank)

    @contextmanager
    def joined(self, device: torch.device) -> Iterator[None]:
        """Talk to the other processes inside the block: by NCCL between GPUs, else by gloo."""
        if self.size == 1:
            yield
            return
        if device.type == "cuda":
            torch.cuda.set_device(device)  # or NCCL takes the first GPU for every process
            distributed.init_process_group("nccl", timeout=PATIENCE, device_id=torch.device("cuda", device.index or 0))
        else:
            distributed.init_process_group("gloo", timeout=PATIENCE)
        try:
            yield
        finally:
            distributed.destroy_process_group()

    def device(self, asked: str) -> str:
        """The name of this process's device: of several processes that ask for a GPU each has one of its own."""
        if self.size > 1 and (asked == "cuda" or (asked == "auto" and torch.cuda.is_available())):
            return f"cuda:{self.local_rank}"
        return asked

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """Which of `count` pieces of work are this process's."""
        return range(self.rank, count, self.size)

    def wait(self) -> None:
        """Go on when all have come this far."""
        if self.size > 1:
            with _heard():
                distributed.barrier()

    def said_by_all(self, word: str) -> list[str]:
        """What each process says, in their order."""
        if self.size == 1:
            return [word]
        words = [word] * self.size
        with _heard():
            distributed.all_gather_object(words, word)
        return words

    def agree(self, modules: Iterable[nn.Module]) -> None:
        """Give all processes the first one's numbers."""
        if self.size > 1:
            tensors = [tensor for module in modules for tensor in module.state_dict().values()]
            with _heard():
                for tensor in tensors:
                    distributed.broadcast(tensor, src=0)

    def add_up(self, parameters: Iterable[Tensor], loss: Tensor) -> Tensor:
        """Sum gradients, in place, and a loss over all processes: in one message, for there are many small ones."""
        if self.size == 1:
            return loss
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        message = torch.cat([*(gradient.flatten() for gradient in gradients), loss.reshape(1).to(gradients[0])])
        with _heard():
            distributed.all_reduce(message)
        parts = message.split([*(gradient.numel() for gradient in gradients), 1])
        for gradient, part in zip(gradients, parts[:-1], strict=True):
            gradient.copy_(part.view_as(gradient))
        return parts[-1][0]


@contextmanager
def _heard() -> Iterator[None]:
    """Say in a sentence that another process is gone, whose own words are the ones to read."""
    try:
        yield
    except RuntimeError as error:
        what = "Another process of the run has stopped."
        raise G2SError(what, "What it said tells why; mended, the same command goes on.") from error
