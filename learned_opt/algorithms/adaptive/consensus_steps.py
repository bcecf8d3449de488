"""Consensus control by the length of rounds (Kong et al. 2021, arXiv 2102.04828): fewer local steps where workers part.

    Xi^2 = mean_k norm(y_k - mean y)^2, before the average
    h <- max(h - 1, 1) if Xi > fraction * norm(x - mean y), else h + 1

The paper takes more averages between steps; with a server there is one, and what can be chosen is when. Xi is measured
against how far the mean moved, so that the target falls with the learning rate. A round begins with the longest, and
takes one step fewer or more each time: at its target, h goes to and fro.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import optax

from learned_opt.algorithms.adaptive.shortened_round import shortened_rounds
from learned_opt.algorithms.round import mean_of_workers
from learned_opt.base import LocalAlgorithm

if TYPE_CHECKING:
    from jaxtyping import Array

_LONGEST = 2**30


def consensus_steps(
    local_opt: optax.GradientTransformation,
    fraction: float | Array = 1.0,
    server_opt: optax.GradientTransformation | None = None,
) -> LocalAlgorithm:
    """Local SGD whose rounds are as long as the workers stay together; diagnostics have `num_local_steps`.

    Args:
      local_opt: as for `local_sgd`.
      fraction: of the move of the mean, that Xi must not exceed; infinite: rounds have all their steps.
      server_opt: as for `local_sgd`; None: plain averaging.
    """

    def first(shared):
        # None before the first round.
        return jnp.where(shared.last_steps == 0, _LONGEST, shared.last_steps)

    def following(worker_updates, shared):
        apart, moved = jnp.float32(0), jnp.float32(0)
        means = mean_of_workers(worker_updates)
        for leaf, mean in zip(jax.tree.leaves(worker_updates), jax.tree.leaves(means), strict=True):
            wide = mean.astype(jnp.float32)
            apart += jnp.sum(jnp.square(leaf.astype(jnp.float32) - wide[None])) / leaf.shape[0]
            moved += jnp.sum(jnp.square(wide))
        is_far = jnp.sqrt(apart) > fraction * jnp.sqrt(moved)
        return jnp.where(is_far, jnp.maximum(shared.last_steps - 1, 1), shared.last_steps + 1)

    return shortened_rounds(local_opt, server_opt, first, following)
