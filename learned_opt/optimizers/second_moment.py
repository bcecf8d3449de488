"""The direction of RMSProp with Adam's bias correction (Kingma & Ba 2015, arXiv 1412.6980, with b1 = 0):

    v <- b2 v + (1 - b2) g^2;   d = g / (sqrt(v / (1 - b2^t)) + eps)

It differs from `optax.rmsprop`, whose v decays faster (0.9) and starts at 0 uncorrected. There is no first moment, not
even one that stays zero, and v is float32 whatever the dtype of the parameters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int, PyTree


class SecondMomentState(NamedTuple):
    """State of the optimizers that take this direction.

    Attributes:
      count: steps taken.
      second_moment: v, float32.
    """

    count: Int[Array, ""]
    second_moment: PyTree


def init_second_moment(params: Any) -> SecondMomentState:
    """Zeros."""
    zeros = jax.tree.map(lambda p: jnp.zeros(jnp.shape(p), jnp.float32), params)
    return SecondMomentState(jnp.zeros((), jnp.int32), zeros)


def second_moment_direction(
    gradient: Any, state: SecondMomentState, b2: float | Array, eps: float | Array, numerator: Any = None
) -> tuple[PyTree[Float[Array, "..."]], SecondMomentState]:
    """(d, new state); d is float32, with the gradient above the root unless another numerator is given."""
    count = jnp.asarray(optax.safe_increment(state.count))
    second_moment = jax.tree.map(
        lambda g, v: (1 - b2) * jnp.square(g.astype(jnp.float32)) + b2 * v, gradient, state.second_moment
    )
    correction = 1 - jnp.power(jnp.asarray(b2, jnp.float32), count.astype(jnp.float32))
    direction = jax.tree.map(
        lambda g, v: g.astype(jnp.float32) / (jnp.sqrt(v / correction) + eps),
        gradient if numerator is None else numerator,
        second_moment,
    )
    return direction, SecondMomentState(count, second_moment)


def adam_direction(
    gradient: Any, momentum: Any, state: SecondMomentState, b1: float | Array, b2: float | Array, eps: float | Array
) -> tuple[PyTree[Float[Array, "..."]], PyTree[Float[Array, "..."]], SecondMomentState]:
    """Adam's (d, m, new state): the direction above with the momentum, corrected for its bias, in the place of g.

    Args:
      gradient: g.
      momentum: m before this step, float32.
      state: the second moment and the count of steps before it.
      b1: decay of m.
      b2: decay of v.
      eps: added to its root.
    """
    momentum = jax.tree.map(lambda g, m: b1 * m + (1 - b1) * g.astype(jnp.float32), gradient, momentum)
    correction = 1 - jnp.power(jnp.asarray(b1, jnp.float32), (state.count + 1).astype(jnp.float32))
    corrected = jax.tree.map(lambda m: m / correction, momentum)
    direction, state = second_moment_direction(gradient, state, b2, eps, corrected)
    return direction, momentum, state
