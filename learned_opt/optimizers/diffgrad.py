"""diffGrad (Dubey et al. 2020, arXiv 1909.11015): Adam whose steps are shorter where the gradient no longer changes.

    xi = 1 / (1 + exp(-|g_{t-1} - g_t|))
    y <- y - lr xi (m / (1 - b1^t)) / (sqrt(v) + eps) sqrt(1 - b2^t)

xi is between a half, for a gradient that stays as it is, and one. This is the second version of the authors' code: xi
multiplies the step and is not kept in the momentum, and g_{t-1} is a copy of the last gradient. It is zero before the
first step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.optimizers.learning_rate import LearningRate, rate_at

if TYPE_CHECKING:
    from jaxtyping import Array, Int, PyTree


class DiffGradState(NamedTuple):
    """State of `diffgrad`, float32: steps taken, m, v and the last gradient."""

    count: Int[Array, ""]
    momentum: PyTree
    second_moment: PyTree
    previous: PyTree


def diffgrad(
    learning_rate: LearningRate,
    b1: float | Array = 0.9,
    b2: float | Array = 0.999,
    eps: float | Array = 1e-8,
) -> optax.GradientTransformation:
    """Builds the transform.

    Args:
      learning_rate: a number, a traced scalar or a schedule over steps.
      b1: decay of the momentum.
      b2: decay of the second moment.
      eps: added to the root of v, before the correction of its bias.
    """

    def init(params):
        zeros = optax.tree.zeros_like(params, dtype=jnp.float32)
        return DiffGradState(jnp.zeros((), jnp.int32), zeros, zeros, zeros)

    def update(updates, state, params: Any = None):
        del params
        count = jnp.asarray(optax.safe_increment(state.count))
        wide = jax.tree.map(lambda g: g.astype(jnp.float32), updates)
        momentum = jax.tree.map(lambda g, m: b1 * m + (1 - b1) * g, wide, state.momentum)
        second_moment = jax.tree.map(lambda g, v: b2 * v + (1 - b2) * jnp.square(g), wide, state.second_moment)
        steps = count.astype(jnp.float32)
        first, second = (1 - jnp.power(jnp.asarray(b, jnp.float32), steps) for b in (b1, b2))
        rate = rate_at(learning_rate, state.count) * jnp.sqrt(second) / first

        def step(original, g, previous, m, v):
            friction = jax.nn.sigmoid(jnp.abs(previous - g))
            return (-rate * friction * m / (jnp.sqrt(v) + eps)).astype(original.dtype)

        moves = jax.tree.map(step, updates, wide, state.previous, momentum, second_moment)
        return moves, DiffGradState(count, momentum, second_moment, wide)

    return optax.GradientTransformation(init, update)
