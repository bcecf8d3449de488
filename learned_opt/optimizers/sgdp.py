"""SGDP (Heo et al. 2021, arXiv 2006.08217): SGD with momentum whose step leaves out its radial part.

    b <- momentum b + g;   d = g + momentum b (nesterov), else b
    y <- y - lr (P(d) + r weight_decay y / (1 - momentum))

P and r are those of `radial_projection`, as in `adamp`. The weight decay is decoupled and as strong in the long run as
one that goes through the momentum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.optimizers.learning_rate import LearningRate, rate_at
from learned_opt.optimizers.radial_projection import without_radial_part

if TYPE_CHECKING:
    from jaxtyping import Array, Int, PyTree


class SGDPState(NamedTuple):
    """State of `sgdp`: steps taken, and b, float32."""

    count: Int[Array, ""]
    momentum: PyTree


def sgdp(
    learning_rate: LearningRate,
    momentum: float | Array = 0.9,
    weight_decay: float | Array = 0.0,
    delta: float | Array = 0.1,
    weight_decay_ratio: float | Array = 0.1,
    nesterov: bool = False,
) -> optax.GradientTransformation:
    """Builds the transform; its `update` needs `params`.

    Args:
      learning_rate: a number, a traced scalar or a schedule over steps.
      momentum: decay of the momentum, below 1.
      weight_decay: times the learning rate / (1 - momentum).
      delta: what counts as a right angle, see `radial_projection`.
      weight_decay_ratio: factor on the weight decay of weights that are projected.
      nesterov: look ahead, as Nesterov does.
    """

    def init(params):
        return SGDPState(jnp.zeros((), jnp.int32), optax.tree.zeros_like(params, dtype=jnp.float32))

    def update(updates, state, params: Any = None):
        if params is None:
            raise ValueError("sgdp: update needs params; pass them as the third argument")
        buffers = jax.tree.map(lambda g, b: momentum * b + g.astype(jnp.float32), updates, state.momentum)
        rate = rate_at(learning_rate, state.count)
        decay = weight_decay / (1 - momentum)

        def step(gradient, buffer, param):
            d = gradient.astype(jnp.float32) + momentum * buffer if nesterov else buffer
            d, ratio = without_radial_part(d, gradient, param, delta, weight_decay_ratio)
            return (-rate * (d + ratio * decay * param.astype(jnp.float32))).astype(gradient.dtype)

        steps = jax.tree.map(step, updates, buffers, params)
        return steps, SGDPState(jnp.asarray(optax.safe_increment(state.count)), buffers)

    return optax.GradientTransformation(init, update)
