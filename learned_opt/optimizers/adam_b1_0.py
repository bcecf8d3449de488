"""Adam without momentum (Kingma & Ba 2015, arXiv 1412.6980, with b1 = 0), for local steps.

    v <- b2 v + (1 - b2) g^2;   y <- y - lr g / (sqrt(v / (1 - b2^t)) + eps)

Momentum on both sides adds up: under a server optimizer with momentum (DiLoCo), that of local Adam made training slower
than none on the three families it was tried on (Fashion-MNIST MLP, Markov transformer, Omniglot ResNet). Checkpoints
and settings of earlier versions call it "rmsprop"; it is not `optax.rmsprop`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import optax

from learned_opt.optimizers.learning_rate import LearningRate, rate_at
from learned_opt.optimizers.second_moment import init_second_moment, second_moment_direction

if TYPE_CHECKING:
    from jaxtyping import Array


def adam_b1_0(
    learning_rate: LearningRate, b2: float | Array = 0.999, eps: float | Array = 1e-8
) -> optax.GradientTransformation:
    """Equals `optax.adam(learning_rate, b1=0)`, with one float32 per parameter as state.

    Args:
      learning_rate: about the size of a step of every parameter; a number, a traced scalar or a schedule over steps.
      b2: decay of the second moment.
      eps: added to its root.
    """

    def update(updates, state, params: Any = None):
        del params
        direction, new_state = second_moment_direction(updates, state, b2, eps)
        rate = rate_at(learning_rate, state.count)
        return jax.tree.map(lambda d, g: (-rate * d).astype(g.dtype), direction, updates), new_state

    return optax.GradientTransformation(init_second_moment, update)
