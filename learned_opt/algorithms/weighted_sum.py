"""A weighted sum of what workers have, in a fixed order, for averages that are not plain ones."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from learned_opt.algorithms.round import MOST_ADDED

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int


def weighted_sum(weights: Float[Array, "n"], gathered: Any, workers: Int[Array, "n"] | None = None) -> Any:
    """sum_i weights_i x_{workers_i} of leaves [K, *shape], summed in float32.

    One worker after the other: no product of matrices, whose order of sums is the backend's, and no copy of all models
    for each worker.

    Args:
      weights: of each term.
      gathered: what the workers have.
      workers: whose it is; None: all of them, in worker order.
    """
    num_terms = weights.shape[0]
    rows = jnp.arange(num_terms) if workers is None else workers

    def term(i, x):
        return weights[i] * (x[i] if workers is None else x[rows[i]]).astype(jnp.float32)

    if num_terms <= MOST_ADDED:

        def added(x):
            return functools.reduce(jnp.add, [term(i, x) for i in range(num_terms)]).astype(x.dtype)

        return jax.tree.map(added, gathered)

    def add(total, weight_and_row):
        weight, row = weight_and_row
        return jax.tree.map(lambda t, x: t + weight * x[row].astype(jnp.float32), total, gathered), None

    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape[1:], jnp.float32), gathered)
    total, _ = jax.lax.scan(add, zeros, (weights, rows))
    return jax.tree.map(lambda t, x: t.astype(x.dtype), total, gathered)
