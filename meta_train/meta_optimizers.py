"""What moves theta, by name: two answers to meta-gradients whose norms have heavy tails.

    clipped_adamw        AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101) on gradients clipped by their global norm
    normalized_momentum  m <- b m + (1 - b) h;   theta <- theta - eta (sqrt(n) m / |m| + weight_decay theta)

Clipping keeps one outlier out of both moments of AdamW. The other is the step of BO-REP (Hao, Gong & Liu 2024, arXiv
2401.09587), made for bilevel problems whose smoothness grows with the gradient: the length of a step is its learning
rate whatever the gradient's. Here sqrt(n), n the number of entries that have moved, makes the rate the root mean square
of an entry's step, as Adam's is, so that the rates of presets carry over; published it is the step's norm. Nothing is
clipped.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from learned_opt.names import hint

MOMENTUM = 0.9
"""b, as in AdamW."""


class NormalizedMomentumState(NamedTuple):
    """State of `normalized_momentum`: steps taken, and m."""

    count: Int[Array, ""]
    momentum: Float[Array, "n"]


def clipped_adamw(
    learning_rate: optax.Schedule, weight_decay: float, max_gradient_norm: float
) -> optax.GradientTransformation:
    """AdamW with decoupled weight decay, on gradients whose global norm is scaled down to `max_gradient_norm`."""
    return optax.chain(
        optax.clip_by_global_norm(max_gradient_norm),
        optax.adamw(learning_rate, weight_decay=weight_decay),
    )


def normalized_momentum(
    learning_rate: optax.Schedule, weight_decay: float, max_gradient_norm: float
) -> optax.GradientTransformation:
    """Steps along the momentum, of a length that is the learning rate; of a vector.

    Args:
      learning_rate: over meta-steps, the root mean square of what an entry moves.
      weight_decay: times the learning rate.
      max_gradient_norm: not used.
    """
    del max_gradient_norm

    def init(params):
        return NormalizedMomentumState(jnp.zeros((), jnp.int32), jnp.zeros_like(params))

    def update(updates, state, params: Any = None):
        momentum = MOMENTUM * state.momentum + (1 - MOMENTUM) * updates
        # Divided by its largest entry first: squares of tiny meta-gradients would be zero.
        peak = jnp.max(jnp.abs(momentum))
        scaled = momentum / jnp.where(peak > 0, peak, 1)
        mean_square = jnp.sum(jnp.square(scaled)) / jnp.maximum(jnp.count_nonzero(scaled), 1)
        direction = scaled / jnp.where(peak > 0, jnp.sqrt(mean_square), 1)
        rate: Any = learning_rate(state.count)
        steps = -rate * (direction + weight_decay * params)
        return steps, NormalizedMomentumState(jnp.asarray(optax.safe_increment(state.count)), momentum)

    return optax.GradientTransformation(init, update)


META_OPTIMIZERS: dict[str, Callable[[optax.Schedule, float, float], optax.GradientTransformation]] = {
    "clipped_adamw": clipped_adamw,
    "normalized_momentum": normalized_momentum,
}
"""Name -> (learning rate, weight decay, ceiling of the meta-gradient's norm) -> transform of a vector."""


def check_meta_optimizer(name: str) -> None:
    """ValueError for a name of none."""
    if name not in META_OPTIMIZERS:
        raise ValueError(f"meta_optimizer={name!r}: {hint(name, META_OPTIMIZERS)}")
