"""Adam whose steps are a share of each tensor: `relative_rmsprop` with momentum within the worker.

    m <- b1 m + (1 - b1) g;   y <- y - lr max(rms(y), floor) (m / (1 - b1^t)) / (sqrt(v) + eps),   v as in Adam

(Kingma & Ba 2015, arXiv 1412.6980.) With b1 = 0 it is `relative_rmsprop`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.optimizers.learning_rate import LearningRate, rate_at
from learned_opt.optimizers.relative_size import relative_size
from learned_opt.optimizers.second_moment import SecondMomentState, adam_direction, init_second_moment

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree


class RelativeAdamState(NamedTuple):
    """State of `relative_adam`: m, float32, and the second moment with the count of steps."""

    momentum: PyTree
    second_moment: SecondMomentState


def relative_adam(
    learning_rate: LearningRate,
    b1: float | Array = 0.5,
    b2: float | Array = 0.999,
    eps: float | Array = 1e-8,
    floor: float | Array = 0.03,
) -> optax.GradientTransformation:
    """Builds the transform; its `update` needs `params`.

    Args:
      learning_rate: a share of each tensor, e.g. 0.03; a number, a traced scalar or a schedule over steps.
      b1: decay of the momentum.
      b2: decay of the second moment.
      eps: added to its root.
      floor: smallest root mean square that a tensor counts with.
    """

    def init(params):
        return RelativeAdamState(optax.tree.zeros_like(params, dtype=jnp.float32), init_second_moment(params))

    def update(updates, state, params: Any = None):
        if params is None:
            raise ValueError("relative_adam: update needs params; pass them as the third argument")
        direction, momentum, second_moment = adam_direction(updates, state.momentum, state.second_moment, b1, b2, eps)
        rate = rate_at(learning_rate, state.second_moment.count)
        moves = jax.tree.map(
            lambda d, g, p: (-rate * relative_size(p, floor) * d).astype(g.dtype), direction, updates, params
        )
        return moves, RelativeAdamState(momentum, second_moment)

    return optax.GradientTransformation(init, update)
