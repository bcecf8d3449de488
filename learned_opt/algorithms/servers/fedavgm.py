"""FedAvgM (Hsu, Qi & Brown 2019, arXiv 1909.06335): heavy-ball momentum over rounds.

    m <- b m + Delta;   x <- x - a m

It is SlowMo (Wang et al. 2020, arXiv 1910.00643) with a constant local learning rate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import optax

from learned_opt.algorithms.server import slowmo

if TYPE_CHECKING:
    from jaxtyping import Array


def fedavgm(learning_rate: Any = 1.0, momentum: float | Array = 0.9) -> optax.GradientTransformation:
    """FedAvgM.

    Args:
      learning_rate: a, the server's; a number or an optax schedule over rounds.
      momentum: b.
    """
    return slowmo(learning_rate, momentum)
