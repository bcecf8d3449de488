"""Truncation schedules: how long an episode of inner training lasts before it starts again.

Episodes end only at truncation boundaries, so every length is a multiple of the truncation length.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int


class ResumeRule(NamedTuple):
    """How often an episode goes on from a stored state (`meta_train.estimators.resume_buffer`).

    Attributes:
      probability: of that, in (0, 1).
      num_slots: states that a pair stores.
    """

    probability: float
    num_slots: int = 1


class TruncationSchedule(NamedTuple):
    """Lengths of episodes.

    Attributes:
      length: (key, meta_step) -> length of an episode in rounds.
      longest: the largest of them, rounds.
      resume: how often an episode goes on from a stored state; None: never. For estimators by truncation.
    """

    length: Callable[[jax.Array, Int[Array, ""]], Int[Array, ""]]
    longest: int
    resume: ResumeRule | None = None


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
    for name, value in (("min_length", min_length), ("max_length", max_length)):
        if value < 1 or value % truncation_length:
            raise ValueError(f"{name}={value}: use a positive multiple of truncation_length={truncation_length}")
    if min_length > max_length:
        raise ValueError(f"min_length={min_length}: use at most max_length={max_length}")

    def length(key, meta_step):
        del meta_step
        log_length = jax.random.uniform(key, minval=jnp.log(float(min_length)), maxval=jnp.log(float(max_length)))
        truncations = jnp.round(jnp.exp(log_length) / truncation_length).astype(jnp.int32)
        return jnp.clip(truncations * truncation_length, min_length, max_length)

    return TruncationSchedule(length, max_length)
