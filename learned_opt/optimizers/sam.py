"""SAM (Foret et al. 2021, arXiv 2010.01412): the gradient at the worst point near by, as optax has it, in one call.

    y <- y - lr m,   m <- momentum m + grad(y + rho g / |g|)

Both gradients are of the same batch, so `update` needs `grad_fn`, as `learned_opt.local_sgd` passes it. It is
`optax.contrib.sam` in its opaque mode, whose transparent one would take every other of the H local steps uphill.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import optax

from learned_opt.optimizers.learning_rate import LearningRate

if TYPE_CHECKING:
    from jaxtyping import Array

TINY = 1e-12
"""Added to |g|."""


def sam(
    learning_rate: LearningRate, rho: float | Array = 0.05, momentum: float | Array = 0.9
) -> optax.GradientTransformationExtraArgs:
    """Builds the transform, two gradients a step; its `update` needs `params` and `grad_fn`.

    Args:
      learning_rate: of the step down; a number, a traced scalar or a schedule over steps.
      rho: length of the step up.
      momentum: of the step down.
    """
    up = optax.chain(optax.normalize_by_update_norm(eps=TINY), optax.sgd(rho))
    made = optax.contrib.sam(optax.sgd(learning_rate, momentum), up, opaque_mode=True)

    def update(updates, state, params=None, *, grad_fn=None, **extra):
        del extra
        if params is None or grad_fn is None:
            raise ValueError(
                "sam: update needs params and grad_fn=, params -> gradient on the same batch; learned_opt.local_sgd "
                "and data_parallel pass both"
            )
        return made.update(updates, state, params, grad_fn=grad_fn)

    return optax.GradientTransformationExtraArgs(made.init, update)
