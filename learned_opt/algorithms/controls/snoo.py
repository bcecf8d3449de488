"""SNOO (2025, arXiv 2510.15830): Nesterov's step on the pseudo-gradient, with one worker.

    y <- x;  H times: y <- opt(y, mean_k grad loss(y; batch_{k,h}));
    m <- b m + (x - y);   x <- x - a (b m + (x - y))

DiLoCo without workers that drift: the control that tells what of DiLoCo's gain is its outer momentum and what its
communication costs. With b = 0 it is Lookahead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import optax

from learned_opt.algorithms.controls.lookahead import two_loops
from learned_opt.algorithms.server import diloco
from learned_opt.base import LocalAlgorithm

if TYPE_CHECKING:
    from jaxtyping import Array


def snoo(
    opt: optax.GradientTransformation,
    num_local_steps: int,
    learning_rate: float | Array = 0.7,
    momentum: float | Array = 0.8,
) -> LocalAlgorithm:
    """SNOO around `opt`; see `two_loops` for several workers.

    Args:
      opt: inner optimizer, of mean gradients.
      num_local_steps: H.
      learning_rate: a.
      momentum: b. The defaults are those of DiLoCo at K = 1 (Therien et al. 2025, arXiv 2505.23725).
    """
    return two_loops(opt, diloco(learning_rate, momentum), num_local_steps)
