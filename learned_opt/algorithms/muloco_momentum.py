"""MuLoCo's form of Nesterov's outer step (Therien et al. 2025, arXiv 2505.23725).

    u <- b u + a Delta;   x <- x - b u - a Delta

With a constant learning rate a it is DiLoCo's with u = a m. Under a schedule they part: here a step keeps the learning
rate of the round it was measured in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree


class MuLoCoMomentumState(NamedTuple):
    """`velocity` is u, float32."""

    velocity: PyTree


def muloco_momentum(learning_rate: Any = 0.7, momentum: float | Array = 0.6) -> optax.GradientTransformation:
    """MuLoCo's outer step.

    Args:
      learning_rate: a, a number or an optax schedule over rounds.
      momentum: b.
    """
    if callable(learning_rate):
        return optax.inject_hyperparams(muloco_momentum)(learning_rate, momentum)

    def init(params):
        return MuLoCoMomentumState(jax.tree.map(lambda p: jnp.zeros(jnp.shape(p), jnp.float32), params))

    def update(updates, state, params=None):
        del params
        scaled = jax.tree.map(lambda delta: learning_rate * delta.astype(jnp.float32), updates)
        velocity = jax.tree.map(lambda u, s: momentum * u + s, state.velocity, scaled)
        steps = jax.tree.map(lambda u, s, delta: (-momentum * u - s).astype(delta.dtype), velocity, scaled, updates)
        return steps, MuLoCoMomentumState(velocity)

    return optax.GradientTransformation(init, update)
