"""Keeps the memory that a process frees, so that timings of its programs do not hang on where their buffers fall.

On a CPU, XLA takes the memory of temporaries and results from malloc at every call. glibc gives blocks above 32 MiB,
and whatever lies free at the end of an arena, back to the system, whose pages must be zeroed again at the next call:
up to 20,000 page faults an update of 10 million parameters, twice the time of Adam's arithmetic, or none, as addresses
and threads fall. With one arena, which never shrinks, a warm program faults on no page.
"""

from __future__ import annotations

import ctypes
import resource

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
"""Parameters of glibc's mallopt."""


def keep_freed_memory() -> bool:
    """Tells malloc so, before threads have arenas of their own; whether it understood (False without glibc)."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all([mallopt(_ARENA_MAX, 1), mallopt(_MMAP_MAX, 0), mallopt(_TRIM_THRESHOLD, 2**31 - 1)])


def page_faults() -> int:
    """Pages that the system has had to map for this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
