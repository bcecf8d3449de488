"""FedProx (Li et al. 2020, arXiv 1812.06127): local steps that are held to the global parameters.

    y_k <- opt(y_k, g_k + mu (y_k - x))

With mu = 0 it is `local_sgd`. It costs no memory and no bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import optax

from learned_opt.algorithms.corrections.corrected import corrected
from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.base import LocalAlgorithm

if TYPE_CHECKING:
    from jaxtyping import Array


def fedprox(
    local_opt: optax.GradientTransformation,
    mu: float | Array = 0.1,
    server_opt: optax.GradientTransformation | None = None,
) -> LocalAlgorithm:
    """FedProx.

    Args:
      local_opt: receives the corrected gradients.
      mu: weight of the proximal term, 0.1 or 0.01 in use.
      server_opt: as for `local_sgd`; None: plain averaging.
    """

    def correct(gradient, params, anchor, grad_fn):
        del grad_fn
        return jax.tree.map(lambda g, y, x: (g + mu * (y - x)).astype(g.dtype), gradient, params, anchor)

    return local_sgd(corrected(local_opt, correct), optax.sgd(1.0) if server_opt is None else server_opt)
