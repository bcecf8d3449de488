"""Normalised gradient descent for logistic losses (Tyurin 2024, arXiv 2412.08424): weights of examples that sum to 1.

    y <- y - lr g / s,    s the mean over the batch of sigma_i = 1 - exp(-loss_i)

The gradient of a logistic (or cross-entropy) loss weighs every example by sigma_i, the probability that the model gives
to a wrong answer. As the loss falls all weights vanish, and gradient descent with them; divided by their mean, steps
keep their size. With an infinite learning rate gradient descent on separable data is the perceptron.

A transform sees the mean loss of the batch and not that of an example, so s is 1 - exp(-value) here. That is exact for
a batch of one example, or of equal losses, and in the limit of small losses; elsewhere it is above the mean (Jensen),
and steps are shorter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import optax

from learned_opt.optimizers.learning_rate import LearningRate, rate_at

if TYPE_CHECKING:
    from jaxtyping import Array, Int

SMALLEST = 1e-30
"""Least s that is divided by."""


def normalized_logistic(learning_rate: LearningRate) -> optax.GradientTransformationExtraArgs:
    """Builds the transform; its `update` needs `value`, the loss of the batch, as `learned_opt.local_sgd` passes it.

    Args:
      learning_rate: a number, a traced scalar or a schedule over steps.
    """

    def init(params: Any) -> optax.ScaleByScheduleState:
        del params
        return optax.ScaleByScheduleState(_zero())

    def update(updates, state, params: Any = None, *, value: Any = None, **extra):
        del params, extra
        if value is None:
            raise ValueError(
                "normalized_logistic: update needs value=, the loss; learned_opt.local_sgd and data_parallel pass it"
            )
        share = jnp.maximum(-jnp.expm1(-jnp.asarray(value, jnp.float32)), SMALLEST)
        rate = rate_at(learning_rate, state.count) / share
        steps = jax.tree.map(lambda g: (-rate * g.astype(jnp.float32)).astype(g.dtype), updates)
        return steps, optax.ScaleByScheduleState(jnp.asarray(optax.safe_increment(state.count)))

    return optax.GradientTransformationExtraArgs(init, update)


def _zero() -> Int[Array, ""]:
    return jnp.zeros((), jnp.int32)
