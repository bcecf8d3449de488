"""perpGrad, also OrthoGrad (Prieto et al. 2025, arXiv 2501.04697): the gradient without its part along the weights.

    g' = g - (w . g) / (w . w) w,   then scaled to the norm of g,   tensor by tensor

Once a homogeneous network classifies everything, gradient descent mostly makes its weights longer, the loss falls
below what floats resolve ("softmax collapse"), and training stops before it generalizes. Without that part it groks
with no weight decay. It goes in front of any optimizer; `perp_adam` is Adam behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import optax

from learned_opt.optimizers.learning_rate import LearningRate

if TYPE_CHECKING:
    from jaxtyping import Array

TINY = 1e-30


def perp_grad() -> optax.GradientTransformation:
    """The projection, without state; its `update` needs `params`. A gradient along the weights alone, such as any of a
    scalar, becomes one of zeros."""

    def update(updates, state, params: Any = None):
        if params is None:
            raise ValueError("perp_grad: update needs params; pass them as the third argument")

        def projected(gradient, param):
            g, w = gradient.astype(jnp.float32), param.astype(jnp.float32)
            rest = g - jnp.sum(w * g) / (jnp.sum(w * w) + TINY) * w
            scale = jnp.sqrt(jnp.sum(g * g)) / (jnp.sqrt(jnp.sum(rest * rest)) + TINY)
            return (scale * rest).astype(gradient.dtype)

        return jax.tree.map(projected, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def perp_adam(
    learning_rate: LearningRate,
    b1: float | Array = 0.9,
    b2: float | Array = 0.999,
    eps: float | Array = 1e-8,
) -> optax.GradientTransformation:
    """Adam on projected gradients, without weight decay.

    Args:
      learning_rate: a number, a traced scalar or a schedule over steps.
      b1: decay of the momentum.
      b2: decay of the second moment.
      eps: added to its root.
    """
    return optax.chain(perp_grad(), optax.adam(learning_rate, b1, b2, eps))
