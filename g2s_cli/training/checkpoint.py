"""Checkpoints: files of tensors, written atomically and read without executing pickled code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from g2s_cli.errors import G2SError
from g2s_cli.files import RESUME_REMEDY, atomic_write


def save_checkpoint(content: Mapping[str, Any], path: Path) -> None:
    """Write a file, whole or not at all. Raises G2SError if the disk refuses."""
    try:
        with atomic_write(path) as temporary:
            torch.save(dict(content), temporary)
    except (OSError, RuntimeError) as error:  # torch has no error of its own for a full disk
        raise G2SError(f"{path} cannot be written: {error}.", RESUME_REMEDY) from error


@contextmanager
def load_checkpoint(
    path: Path, device: torch.device | str = "cpu", remedy: str = "Delete it; the same command makes it again."
) -> Iterator[dict[str, Any]]:
    """The content of a file. Raises G2SError if it is damaged or the block cannot interpret it."""
    try:
        yield torch.load(path, map_location=device, weights_only=True)
    except (OSError, RuntimeError, LookupError, TypeError, ValueError, EOFError, UnpicklingError) as error:
        raise G2SError(f"{path} is damaged.", remedy) from error
