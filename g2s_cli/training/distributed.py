"""The processes that train one set of networks: those that torchrun started, or one alone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed

from g2s_cli.errors import G2SError

# How long a process waits for the others: each inverts photos and collects samples of its own, for hours on slow
# machines.
TIMEOUT = timedelta(days=2)


@dataclass(frozen=True)
class Group:
    """The processes of a run and the rank of this one. Rank 0 alone writes files and prints.

    local_rank: the rank on this machine, which is the number of the process's GPU.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @classmethod
    def from_environment(cls) -> Group:
        """The group that torchrun describes in RANK, WORLD_SIZE and LOCAL_RANK; one process where these are not set."""
        rank, size, local_rank = (
            int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
        )
        return cls(rank, size, local_rank)

    @contextmanager
    def connected(self, device: torch.device) -> Iterator[None]:
        """Communicate with the other processes inside the block: by NCCL between GPUs, else by gloo."""
        if self.size == 1:
            yield
            return
        if device.type == "cuda":
            torch.cuda.set_device(device)  # or NCCL takes the first GPU for every process
            distributed.init_process_group("nccl", timeout=TIMEOUT, device_id=torch.device("cuda", device.index or 0))
        else:
            distributed.init_process_group("gloo", timeout=TIMEOUT)
        try:
            yield
        finally:
            distributed.destroy_process_group()

    def device(self, name: str) -> str:
        """The device of this process, if "auto" or "cuda" is asked of several: the GPU of its local rank."""
        if self.size > 1 and (name == "cuda" or (name == "auto" and torch.cuda.is_available())):
            return f"cuda:{self.local_rank}"
        return name

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """The indices of `count` items that are this process's."""
        return range(self.rank, count, self.size)

    def barrier(self) -> None:
        """Wait until every process has called this."""
        if self.size > 1:
            with _connection():
                distributed.barrier()

    def all_gather(self, text: str) -> list[str]:
        """The texts of all processes, by rank."""
        texts = [text] * self.size
        if self.size > 1:
            with _connection():
                distributed.all_gather_object(texts, text)
        return texts

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors with those of rank 0."""
        if self.size > 1:
            with _connection():
                for tensor in tensors:
                    distributed.broadcast(tensor, src=0)

    def all_reduce(self, parameters: Iterable[Tensor], loss: Tensor) -> Tensor:
        """Sum gradients, in place, and a loss over all processes, in one message. Returns the loss."""
        if self.size == 1:
            return loss
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        message = torch.cat([*(gradient.flatten() for gradient in gradients), loss.reshape(1).to(gradients[0])])
        with _connection():
            distributed.all_reduce(message)
        parts = message.split([*(gradient.numel() for gradient in gradients), 1])
        for gradient, part in zip(gradients, parts[:-1], strict=True):
            gradient.copy_(part.view_as(gradient))
        return parts[-1][0]


@contextmanager
def _connection() -> Iterator[None]:
    """Raise G2SError if another process is gone."""
    try:
        yield
    except RuntimeError as error:
        what = "Another process of the run has stopped."
        raise G2SError(
            what, "Its own error message tells why. Once that is mended, the same command goes on."
        ) from error
