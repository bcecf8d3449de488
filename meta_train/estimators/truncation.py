"""Truncation schedules: how long an episode of inner training lasts before it starts again.

A schedule is a plain function (key, meta_step) -> unroll length in rounds. Episodes end only at truncation
boundaries, so every length is a multiple of the truncation length.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

TruncationSchedule = Callable[[jax.Array, jax.Array], jax.Array]


def constant_length(unroll_length: int, truncation_length: int) -> TruncationSchedule:
    """Every episode lasts `unroll_length` rounds."""
    return log_uniform_length(unroll_length, unroll_length, truncation_length)


def log_uniform_length(min_length: int, max_length: int, truncation_length: int) -> TruncationSchedule:
    """Lengths log-uniform in [min_length, max_length] rounds, rounded to the nearest multiple of the truncation.

    Raises:
      ValueError: unless 0 < truncation_length <= min_length <= max_length and it divides both.
    """
    if truncation_length < 1:
        raise ValueError(f"truncation_length={truncation_length}: use at least 1 round")
    for name, length in (("min_length", min_length), ("max_length", max_length)):
        if length < 1 or length % truncation_length:
            raise ValueError(f"{name}={length} is not a positive multiple of truncation_length={truncation_length}")
    if min_length > max_length:
        raise ValueError(f"min_length={min_length} exceeds max_length={max_length}")

    def schedule(key, meta_step):
        del meta_step
        log_length = jax.random.uniform(key, minval=jnp.log(float(min_length)), maxval=jnp.log(float(max_length)))
        truncations = jnp.round(jnp.exp(log_length) / truncation_length).astype(jnp.int32)
        return jnp.clip(truncations * truncation_length, min_length, max_length)

    return schedule
