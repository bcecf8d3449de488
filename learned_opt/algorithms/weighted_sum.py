"""A weighted sum of what all workers have, in worker order, for averages that are not plain ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def weighted_sum(weights: Float[Array, "workers"], gathered: Any) -> Any:
    """sum_k weights_k x_k of leaves [K, *shape], summed in float32.

    One worker after the other: no product of matrices, whose order of sums is the backend's, and no copy of all models
    for each worker.
    """

    def add(total, weight_and_value):
        weight, value = weight_and_value
        return jax.tree.map(lambda t, x: t + weight * x.astype(jnp.float32), total, value), None

    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape[1:], jnp.float32), gathered)
    total, _ = jax.lax.scan(add, zeros, (weights, gathered))
    return jax.tree.map(lambda t, x: t.astype(x.dtype), total, gathered)
