"""Averaged SGD with a count for each weight, for networks whose weights are pruned and grown again.

    y <- y - lr g
    n <- n + 1;   a <- a + (y - a) / n           weight by weight; a is evaluated

The average of Polyak & Juditsky (1992), as SNT-ASGD has it for sparse recurrent networks (Liu et al. 2021, arXiv
2101.09048): the count of a weight begins anew when it is grown, so that no average mixes in what it was before it was
pruned. A weight that is exactly zero when a step begins is pruned, or has this moment been grown at zero: its average
is zero and its count starts with the next step. Of a dense network all counts are equal.

Published, averaging starts when the validation loss has not fallen for some epochs; a transform sees no validation
loss, so the step is an argument. `data_parallel` returns the average as its parameters. Where it is the *local*
optimizer of several workers they are averaged and evaluated as with SGD, and the average of each is not used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.optimizers.learning_rate import LearningRate, rate_at

if TYPE_CHECKING:
    from jaxtyping import Array, Int, PyTree


class ASGDState(NamedTuple):
    """State of `asgd`.

    Attributes:
      count: steps taken.
      averaged_params: a, float32.
      weight_counts: n of each weight, int32.
    """

    count: Int[Array, ""]
    averaged_params: PyTree
    weight_counts: PyTree


def asgd(learning_rate: LearningRate, start: int | Array = 0) -> optax.GradientTransformation:
    """Builds the transform; its `update` needs `params`.

    Args:
      learning_rate: a number, a traced scalar or a schedule over steps.
      start: steps before averaging begins; until then the average is the parameters themselves.
    """

    def init(params):
        wide = jax.tree.map(lambda p: jnp.asarray(p).astype(jnp.float32), params)
        return ASGDState(jnp.zeros((), jnp.int32), wide, optax.tree.zeros_like(params, dtype=jnp.int32))

    def update(updates, state, params: Any = None):
        if params is None:
            raise ValueError("asgd: update needs params; pass them as the third argument")
        rate = rate_at(learning_rate, state.count)
        steps = jax.tree.map(lambda g: (-rate * g.astype(jnp.float32)).astype(g.dtype), updates)
        begun = state.count >= start
        counts = jax.tree.map(lambda p, n: jnp.where((p != 0) & begun, n + 1, 0), params, state.weight_counts)

        def averaged(param, step, average, n):
            new = param.astype(jnp.float32) + step.astype(jnp.float32)
            weight = 1 / jnp.maximum(n, 1).astype(jnp.float32)
            return jnp.where(param != 0, average + (new - average) * weight, 0)

        averages = jax.tree.map(averaged, params, steps, state.averaged_params, counts)
        return steps, ASGDState(jnp.asarray(optax.safe_increment(state.count)), averages, counts)

    return optax.GradientTransformation(init, update)
