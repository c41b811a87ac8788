"""Reproducible randomness: generators and initial weights that depend on a seed alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def seeded_generator(*key: int | str) -> torch.Generator:
    """A CPU generator whose seed is a hash of a key, such as (seed, name, update)."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest))


@contextmanager
def seeded_weights(seed: int) -> Iterator[None]:
    """Initialise the modules created inside the block from a seed; torch's global generator is restored."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
