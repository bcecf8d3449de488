"""Gradient descent with a meta-learned learning rate: 1 meta-parameter (Metz et al. 2022, arXiv 2203.11860).

x <- x - exp(log_lr) g
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.base import LearnedOptimizer
from learned_opt.per_parameter.bounds import check_between
from learned_opt.per_parameter.checked_transform import checked_transform

if TYPE_CHECKING:
    from jaxtyping import Array, Int


class LearnableSgdState(NamedTuple):
    """State of the transform: `num_updates` updates are taken."""

    num_updates: Int[Array, ""]


def learnable_sgd(initial_lr: float = 0.01) -> LearnedOptimizer:
    """A single-machine learned optimizer reading gradients.

    Args:
      initial_lr: learning rate before meta-training, above 0.

    Returns:
      The optimizer.

    Raises:
      ValueError: initial_lr not above 0; by `update` without `params`, which give the updates their dtype.
    """
    check_between(0, math.inf, initial_lr=initial_lr)
    return LearnedOptimizer(
        init=lambda key: {"log_lr": jnp.asarray(math.log(initial_lr), jnp.float32)},
        transform=lambda theta, num_steps=None: _transform(theta),
        config={"architecture": "learnable_sgd", "initial_lr": initial_lr},
        reads="gradient",
    )


def _transform(theta):
    def init(params):
        del params
        return LearnableSgdState(jnp.zeros((), jnp.int32))

    def update(updates, state, params, **extra: Any):
        del extra
        rate = jnp.exp(theta["log_lr"])
        steps = jax.tree.map(
            lambda g, p: (-rate * jnp.asarray(g, jnp.float32)).astype(jnp.result_type(p)), updates, params
        )
        return steps, LearnableSgdState(jnp.asarray(optax.safe_increment(state.num_updates)))

    return checked_transform(init, update)
