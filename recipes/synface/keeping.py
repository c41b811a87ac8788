"""What a run of the recipe keeps of its work in files, to go on from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from g2s_cli.errors import G2SError
from g2s_cli.files import atomic_write


def keep(state: Mapping[str, Any], path: Path) -> None:
    """Write it, whole or not at all."""
    with atomic_write(path) as temporary:
        torch.save(dict(state), temporary)


@contextmanager
def kept(
    path: Path, device: torch.device, remedy: str = "Delete it; the same command makes it again."
) -> Iterator[dict[str, Any]]:
    """What `keep` wrote, while it is made sense of. Raises G2SError where no sense can be made of it."""
    try:
        yield torch.load(path, map_location=device, weights_only=True)
    except (OSError, RuntimeError, LookupError, TypeError, ValueError, EOFError, UnpicklingError) as error:
        raise G2SError(f"{path} is damaged: {error}.", remedy) from error
