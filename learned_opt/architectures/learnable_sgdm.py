"""Gradient descent with heavy-ball momentum, both rates meta-learned: 2 meta-parameters (Metz et al. 2022, arXiv
2203.11860).

    t <- g + (1 - exp(one_minus_momentum)) t;     x <- x - exp(log_lr) t
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
import optax

from learned_opt.base import LearnedOptimizer
from learned_opt.per_parameter.bounds import check_between
from learned_opt.per_parameter.checked_transform import checked_transform
from learned_opt.per_parameter.tensor_groups import close_updates, group_tensors, map_tensors, new_stacks, open_updates

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int


class LearnableSgdmState(NamedTuple):
    """State of the transform.

    Attributes:
      num_updates: updates taken.
      accumulators: t by group of tensors, [tensors, *S], float32.
    """

    num_updates: Int[Array, ""]
    accumulators: dict[str, Float[Array, "tensors ..."]]


def learnable_sgdm(initial_lr: float = 0.01, initial_momentum: float = 0.9) -> LearnedOptimizer:
    """A single-machine learned optimizer reading gradients.

    Args:
      initial_lr: learning rate before meta-training, above 0.
      initial_momentum: momentum before meta-training, below 1.

    Returns:
      The optimizer; its state holds 1 float per parameter.

    Raises:
      ValueError: a rate out of bounds; by `update` without `params`, which give the updates their dtype.
    """
    check_between(0, math.inf, initial_lr=initial_lr)
    check_between(-math.inf, 1, initial_momentum=initial_momentum)
    return LearnedOptimizer(
        init=lambda key: {
            "log_lr": jnp.asarray(math.log(initial_lr), jnp.float32),
            "one_minus_momentum": jnp.asarray(math.log(1 - initial_momentum), jnp.float32),
        },
        transform=lambda theta, num_steps=None: _transform(theta),
        config={"architecture": "learnable_sgdm", "initial_lr": initial_lr, "initial_momentum": initial_momentum},
        reads="gradient",
    )


def _transform(theta):
    def init(params):
        traces = new_stacks(group_tensors(params), lambda shape: jnp.zeros(shape, jnp.float32))
        return LearnableSgdmState(jnp.zeros((), jnp.int32), traces)

    def update(updates, state, params, **extra: Any):
        del extra
        groups, gradients, _ = open_updates(updates, params)
        rate, momentum = jnp.exp(theta["log_lr"]), 1 - jnp.exp(theta["one_minus_momentum"])
        traces = map_tensors(lambda gradient, trace: gradient + momentum * trace, gradients, state.accumulators)
        steps = {name: -rate * trace for name, trace in traces.items()}
        num_updates = jnp.asarray(optax.safe_increment(state.num_updates))
        return close_updates(groups, steps), LearnableSgdmState(num_updates, traces)

    return checked_transform(init, update)
