"""FedYogi (Reddi et al. 2021, arXiv 2003.00295): Adam over rounds whose second moment falls no faster than it rises.

    m <- b1 m + (1 - b1) Delta;   v <- v - (1 - b2) Delta^2 sign(v - Delta^2);   x <- x - a m / (sqrt(v) + tau)

As published: no bias correction, and v starts at tau^2. optax's `yogi` corrects the bias and starts elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree


class FedYogiState(NamedTuple):
    """`mean` is m, `second_moment` is v; float32."""

    mean: PyTree
    second_moment: PyTree


def fedyogi(
    learning_rate: Any = 0.1,
    b1: float | Array = 0.9,
    b2: float | Array = 0.99,
    tau: float | Array = 1e-3,
) -> optax.GradientTransformation:
    """FedYogi.

    Args:
      learning_rate: a, the server's; a number or an optax schedule over rounds.
      b1: decay of the mean.
      b2: decay of the second moment.
      tau: added to sqrt(v), in units of the pseudo-gradient.
    """
    if callable(learning_rate):
        return optax.inject_hyperparams(fedyogi)(learning_rate, b1, b2, tau)

    def init(params):
        zeros = jax.tree.map(lambda p: jnp.zeros(jnp.shape(p), jnp.float32), params)
        return FedYogiState(zeros, jax.tree.map(lambda z: z + jnp.square(jnp.asarray(tau, jnp.float32)), zeros))

    def update(updates, state, params=None):
        del params
        delta = jax.tree.map(lambda u: u.astype(jnp.float32), updates)
        mean = jax.tree.map(lambda d, m: b1 * m + (1 - b1) * d, delta, state.mean)
        second_moment = jax.tree.map(
            lambda d, v: v - (1 - b2) * jnp.square(d) * jnp.sign(v - jnp.square(d)), delta, state.second_moment
        )
        steps = jax.tree.map(
            lambda m, v, u: (-learning_rate * m / (jnp.sqrt(v) + tau)).astype(u.dtype), mean, second_moment, updates
        )
        return steps, FedYogiState(mean, second_moment)

    return optax.GradientTransformation(init, update)
