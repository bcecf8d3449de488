"""Longer rounds by the norm test: when the workers' noise drowns their mean, average more before communicating.

    h <- max(h, ceil(h Var / (K tolerance^2 norm(Delta)^2))),   Var = sum of the elements' variances over the workers

The test of adaptive batch sizes (Byrd et al. 2012; AdAdaGrad: Lau et al. 2024, arXiv 2402.11215; for local SGD: Lau et
al. 2024, arXiv 2406.13936), which asks for batches whose mean gradient has a relative error of at most `tolerance`.
Here a round is the batch: its examples are K h B, and variances are those of the workers' pseudo-gradients, not of
single examples. h never falls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import optax

from learned_opt.algorithms.adaptive.shortened_round import shortened_rounds
from learned_opt.argument_checks import check_count
from learned_opt.base import LocalAlgorithm

if TYPE_CHECKING:
    from jaxtyping import Array


def norm_test(
    local_opt: optax.GradientTransformation,
    tolerance: float | Array = 0.5,
    min_local_steps: int = 1,
    server_opt: optax.GradientTransformation | None = None,
) -> LocalAlgorithm:
    """Local SGD whose rounds grow by the norm test; diagnostics have `num_local_steps`.

    Args:
      local_opt: as for `local_sgd`.
      tolerance: relative error of the mean pseudo-gradient that is allowed; infinite: rounds never grow.
      min_local_steps: of the first round.
      server_opt: as for `local_sgd`; None: plain averaging.

    Raises:
      ValueError: no local steps.
    """
    check_count(min_local_steps, "min_local_steps")

    def first(shared):
        return jnp.maximum(shared.last_steps, min_local_steps)

    def following(worker_updates, shared):
        variance, square = jnp.float32(0), jnp.float32(0)
        num_workers = 1
        for leaf in jax.tree.leaves(worker_updates):
            num_workers, wide = leaf.shape[0], leaf.astype(jnp.float32)
            mean = jnp.mean(wide, axis=0)
            variance += jnp.sum(jnp.square(wide - mean[None])) / max(num_workers - 1, 1)
            square += jnp.sum(jnp.square(mean))
        bound = num_workers * jnp.square(tolerance) * square
        factor = jnp.where(variance > 0, variance / jnp.where(bound > 0, bound, 1), 0)
        factor = jnp.where((variance > 0) & (bound == 0), jnp.inf, factor)
        wanted = jnp.minimum(jnp.ceil(shared.last_steps.astype(jnp.float32) * factor), 2.0**30)
        return jnp.maximum(wanted.astype(jnp.int32), shared.last_steps)

    return shortened_rounds(local_opt, server_opt, first, following)
