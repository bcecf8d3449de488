"""Adam with its four numbers meta-learned: 4 meta-parameters (Metz et al. 2022, arXiv 2203.11860).

    x <- x - lr mhat / (sqrt(rhat + 1e-8) + eps),   lr, eps = exp(log_lr, log_epsilon),   beta = 1 - exp(one_minus_beta)

with bias-corrected moments. As published, a fixed 1e-8 stands under the root beside the learned eps.

Deliberate deviations: gradients are clipped to +-1e9, so that their squares stay finite; a beta below 0, with which the
second moment need not be positive, counts as 0.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
import optax

from learned_opt.base import LearnedOptimizer
from learned_opt.per_parameter.adafac_features import LARGEST_GRADIENT
from learned_opt.per_parameter.bounds import check_between
from learned_opt.per_parameter.checked_transform import checked_transform
from learned_opt.per_parameter.moments import Moments, corrected_moments, init_moments, update_moments
from learned_opt.per_parameter.tensor_groups import close_updates, group_tensors, map_tensors, new_stacks, open_updates

if TYPE_CHECKING:
    from jaxtyping import Array, Int

_UNDER_ROOT = 1e-8


class LearnableAdamState(NamedTuple):
    """State of the transform.

    Attributes:
      num_updates: updates taken.
      accumulators: Adam's moments by group of tensors, leaves [tensors, *S], float32.
    """

    num_updates: Int[Array, ""]
    accumulators: dict[str, Moments]


def learnable_adam(
    initial_lr: float = 1e-3, initial_beta1: float = 0.9, initial_beta2: float = 0.999, initial_epsilon: float = 1e-8
) -> LearnedOptimizer:
    """A single-machine learned optimizer reading gradients.

    Args:
      initial_lr: learning rate before meta-training, above 0.
      initial_beta1: decay of the mean before meta-training, below 1.
      initial_beta2: decay of the second moment before meta-training, below 1.
      initial_epsilon: eps before meta-training, above 0.

    Returns:
      The optimizer; its state holds 2 floats per parameter.

    Raises:
      ValueError: a number out of bounds; by `update` without `params`, which give the updates their dtype.
    """
    check_between(0, math.inf, initial_lr=initial_lr, initial_epsilon=initial_epsilon)
    check_between(-math.inf, 1, initial_beta1=initial_beta1, initial_beta2=initial_beta2)
    logarithms = {
        "log_lr": math.log(initial_lr),
        "one_minus_beta1": math.log(1 - initial_beta1),
        "one_minus_beta2": math.log(1 - initial_beta2),
        "log_epsilon": math.log(initial_epsilon),
    }
    config = {
        "architecture": "learnable_adam",
        "initial_lr": initial_lr,
        "initial_beta1": initial_beta1,
        "initial_beta2": initial_beta2,
        "initial_epsilon": initial_epsilon,
    }
    return LearnedOptimizer(
        init=lambda key: {name: jnp.asarray(value, jnp.float32) for name, value in logarithms.items()},
        transform=lambda theta, num_steps=None: _transform(theta),
        config=config,
        reads="gradient",
    )


def _transform(theta):
    def init(params):
        return LearnableAdamState(jnp.zeros((), jnp.int32), new_stacks(group_tensors(params), init_moments))

    def update(updates, state, params, **extra: Any):
        del extra
        groups, gradients, _ = open_updates(updates, params)
        rate, epsilon = jnp.exp(theta["log_lr"]), jnp.exp(theta["log_epsilon"])
        betas = [1 - jnp.exp(jnp.minimum(theta[name], 0)) for name in ("one_minus_beta1", "one_minus_beta2")]
        count = jnp.asarray(optax.safe_increment(state.num_updates))

        def step_tensor(gradient, moments):
            moments = update_moments(moments, jnp.clip(gradient, -LARGEST_GRADIENT, LARGEST_GRADIENT), *betas)
            mean, square = corrected_moments(moments, count, *betas)
            return -rate * mean / (jnp.sqrt(square + _UNDER_ROOT) + epsilon), moments

        steps, accumulators = map_tensors(step_tensor, gradients, state.accumulators, num_results=2)
        return close_updates(groups, steps), LearnableAdamState(count, accumulators)

    return checked_transform(init, update)
