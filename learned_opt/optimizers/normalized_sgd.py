"""SGD whose step is a share of each tensor.

    y <- y - lr max(rms(y), 1e-3) g / rms(g),    tensor by tensor

The layer-wise ratio of LARS (You, Gitman & Ginsburg 2017, arXiv 1708.03888) with the root mean square and the floor of
Adafactor's relative step (Shazeer & Stern 2018, arXiv 1804.04235). It has no state (but the count of a schedule), and
one learning rate serves architectures and losses of any scale.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from learned_opt.optimizers.learning_rate import LearningRate
from learned_opt.optimizers.relative_size import relative_size, root_mean_square

RMS_FLOOR = 1e-3
"""Smallest root mean square that a tensor counts with, so that one that starts at zero moves."""


def normalized_sgd(learning_rate: LearningRate) -> optax.GradientTransformation:
    """SGD with steps of root mean square `learning_rate` times that of the tensor; its `update` needs `params`.

    Args:
      learning_rate: a share, e.g. 0.03; a number, a traced scalar or a schedule over steps.
    """

    def init(params: Any) -> Any:
        del params
        return optax.ScaleByScheduleState(jnp.zeros((), jnp.int32)) if callable(learning_rate) else optax.EmptyState()

    def update(updates, state, params=None):
        if params is None:
            raise ValueError("normalized_sgd: update needs params; pass them as the third argument")
        rate: Any = learning_rate(state.count) if callable(learning_rate) else learning_rate

        def scaled(gradient, param):
            size = relative_size(param, RMS_FLOOR)
            wide = gradient.astype(jnp.float32)
            # Divided by its largest entry first: squares of a tiny gradient would be zero. One of zeros stays zeros.
            peak = jnp.max(jnp.abs(wide), initial=0.0)
            unit = wide / jnp.where(peak > 0, peak, 1)
            return (unit * (-rate * size / jnp.where(peak > 0, root_mean_square(unit), 1))).astype(gradient.dtype)

        steps = jax.tree.map(scaled, updates, params)
        if callable(learning_rate):
            state = optax.ScaleByScheduleState(jnp.asarray(optax.safe_increment(state.count)))
        return steps, state

    return optax.GradientTransformation(init, update)
