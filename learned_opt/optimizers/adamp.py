"""AdamP (Heo et al. 2021, arXiv 2006.08217): Adam whose step leaves out its radial part on scale-invariant weights.

    d = m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)                      as in Adam
    y <- y - lr (P(d) + r weight_decay y)

P and r are those of `radial_projection`: where the gradient is at right angles to the weights, P removes the part of d
along them and r is `weight_decay_ratio`; elsewhere P(d) = d and r = 1. A channel is what shares the last index.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.optimizers.learning_rate import LearningRate, rate_at
from learned_opt.optimizers.radial_projection import without_radial_part
from learned_opt.optimizers.second_moment import SecondMomentState, adam_direction, init_second_moment

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree


class AdamPState(NamedTuple):
    """State of `adamp`: m, float32, and the second moment with the count of steps."""

    momentum: PyTree
    second_moment: SecondMomentState


def adamp(
    learning_rate: LearningRate,
    b1: float | Array = 0.9,
    b2: float | Array = 0.999,
    eps: float | Array = 1e-8,
    weight_decay: float | Array = 0.0,
    delta: float | Array = 0.1,
    weight_decay_ratio: float | Array = 0.1,
) -> optax.GradientTransformation:
    """Builds the transform; its `update` needs `params`.

    Args:
      learning_rate: a number, a traced scalar or a schedule over steps.
      b1: decay of the momentum.
      b2: decay of the second moment.
      eps: added to its root.
      weight_decay: times the learning rate.
      delta: what counts as a right angle, see `radial_projection`.
      weight_decay_ratio: factor on the weight decay of weights that are projected.
    """

    def init(params):
        return AdamPState(optax.tree.zeros_like(params, dtype=jnp.float32), init_second_moment(params))

    def update(updates, state, params: Any = None):
        if params is None:
            raise ValueError("adamp: update needs params; pass them as the third argument")
        direction, momentum, second_moment = adam_direction(updates, state.momentum, state.second_moment, b1, b2, eps)
        rate = rate_at(learning_rate, state.second_moment.count)

        def step(d, gradient, param):
            d, ratio = without_radial_part(d, gradient, param, delta, weight_decay_ratio)
            return (-rate * (d + ratio * weight_decay * param.astype(jnp.float32))).astype(gradient.dtype)

        return jax.tree.map(step, direction, updates, params), AdamPState(momentum, second_moment)

    return optax.GradientTransformation(init, update)
