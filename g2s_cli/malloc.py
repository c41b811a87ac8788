"""The memory allocator of glibc; there is nothing to configure elsewhere."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from contextlib import suppress

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of mallopt(3)
# Freed blocks up to 128 MB, and 512 MB in all, stay for the next: new pages take a tenth of a 12-megapixel photo's
# time. In runs of many photos memory would grow, by fragments.
KEEP_FREED = {M_MMAP_THRESHOLD: 1 << 27, M_TRIM_THRESHOLD: 1 << 29}


def configure_malloc(options: Mapping[int, int]) -> None:
    """Set options of mallopt(3), if the C library is glibc."""
    with suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in options.items():
            mallopt(option, value)
