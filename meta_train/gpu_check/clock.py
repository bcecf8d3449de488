"""Times and memory of the device that JAX uses by default."""

import time
from collections.abc import Callable
from typing import Any

import jax


def seconds_of(step: Callable[[], Any], num_calls: int = 1) -> float:
    """Wall time of one call, the mean of `num_calls` in a row; the last one's result is waited for."""
    start = time.perf_counter()
    result = None
    for _ in range(num_calls):
        result = step()
    jax.block_until_ready(result)
    return (time.perf_counter() - start) / num_calls


def peak_bytes() -> int | None:
    """Most memory that this process has had in use on its first device; None where the backend keeps no count."""
    return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


def is_small() -> bool:
    """Whether sizes are reduced: on a CPU, where the check shows that it works and no more."""
    return jax.default_backend() == "cpu"
