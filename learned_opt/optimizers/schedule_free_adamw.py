"""Schedule-Free AdamW (Defazio et al. 2024, arXiv 2405.15682): an average in the place of a schedule.

    y = (1 - b1) z + b1 x
    z <- z - lr (d(grad at y) + weight_decay y)
    x <- (1 - c) x + c z,   c = lr^2 / sum of lr^2 so far

d is the direction of Adam without momentum. Training goes on at y, the parameters of the loop; x is what its authors
evaluate, and what `data_parallel` returns as its parameters. Where it is the *local* optimizer of several workers it is
their y that are averaged and evaluated, and each keeps its z.

It is `optax.contrib.schedule_free` around `optax.adamw`, but a schedule counts steps from 0, for both of its uses, as
all others here do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import optax

from learned_opt.optimizers.learning_rate import LearningRate

if TYPE_CHECKING:
    from jaxtyping import Array


def schedule_free_adamw(
    learning_rate: LearningRate,
    b1: float | Array = 0.9,
    b2: float | Array = 0.999,
    eps: float | Array = 1e-8,
    weight_decay: float | Array = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Builds the transform; its `update` needs `params`.

    Args:
      learning_rate: constant, but for a warm-up; a number, a traced scalar or a schedule over steps.
      b1: where between z and x the gradients are taken, above 0.
      b2: decay of the second moment.
      eps: added to its root.
      weight_decay: times the learning rate.
    """
    base = optax.adamw(learning_rate, 0.0, b2, eps, weight_decay=weight_decay)
    # optax counts from 1 here, and from 0 in the optimizer inside.
    rate = (lambda count: learning_rate(count - 1)) if callable(learning_rate) else learning_rate
    return optax.contrib.schedule_free(base, rate, b1)
