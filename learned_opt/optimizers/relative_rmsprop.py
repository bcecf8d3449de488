"""RMSProp with steps relative to each tensor, for local steps at any scale of the parameters.

    y <- y - lr max(rms(y), floor) d,    d the direction of Adam with b1 = 0

One learning rate serves tensors of every size: where the parameters of a network are multiplied by a constant and the
gradients divided by it, the steps are multiplied by it. The factor is Adafactor's (Shazeer & Stern 2018, arXiv
1804.04235, section 8) with a larger floor; LARS (You, Gitman & Ginsburg 2017, arXiv 1708.03888) and Fromage (Bernstein
et al. 2020, arXiv 2002.03432) give the reasons for such a factor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import optax

from learned_opt.optimizers.learning_rate import LearningRate, rate_at
from learned_opt.optimizers.relative_size import relative_size
from learned_opt.optimizers.second_moment import init_second_moment, second_moment_direction

if TYPE_CHECKING:
    from jaxtyping import Array


def relative_rmsprop(
    learning_rate: LearningRate,
    b2: float | Array = 0.999,
    eps: float | Array = 1e-8,
    floor: float | Array = 0.03,
) -> optax.GradientTransformation:
    """Builds the transform; its `update` needs `params`.

    Args:
      learning_rate: a share of each tensor, e.g. 0.03; a number, a traced scalar or a schedule over steps.
      b2: decay of the second moment.
      eps: added to its root.
      floor: smallest root mean square that a tensor counts with.
    """

    def update(updates, state, params: Any = None):
        if params is None:
            raise ValueError("relative_rmsprop: update needs params; pass them as the third argument")
        direction, new_state = second_moment_direction(updates, state, b2, eps)
        rate = rate_at(learning_rate, state.count)
        steps = jax.tree.map(
            lambda d, g, p: (-rate * relative_size(p, floor) * d).astype(g.dtype), direction, updates, params
        )
        return steps, new_state

    return optax.GradientTransformation(init_second_moment, update)
