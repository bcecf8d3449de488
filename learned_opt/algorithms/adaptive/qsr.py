"""QSR, the quadratic synchronization rule (Gu et al. 2024, arXiv 2310.14423): longer rounds as the learning rate falls.

    h = max(H_base, floor((growth / eta_t)^2))

eta_t is the local learning rate at the round's first step, times the mean of the rates that a server has set. At most
as many steps are taken as the round has batches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import optax

from learned_opt.algorithms.adaptive.shortened_round import shortened_rounds
from learned_opt.algorithms.round import local_rates
from learned_opt.argument_checks import check_count
from learned_opt.base import LocalAlgorithm

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int


def qsr(
    local_opt: optax.GradientTransformation,
    learning_rate: float | Array | Callable[[Int[Array, ""]], Float[Array, ""]],
    growth: float | Array,
    min_local_steps: int = 4,
    server_opt: optax.GradientTransformation | None = None,
) -> LocalAlgorithm:
    """Local SGD under the quadratic synchronization rule; diagnostics have `num_local_steps`.

    Args:
      local_opt: of the workers, with the schedule `learning_rate`, which it counts itself.
      learning_rate: a number or an optax schedule over local steps.
      growth: the rule's alpha, in units of the learning rate; 0 is `local_sgd` with H_base steps.
      min_local_steps: H_base.
      server_opt: as for `local_sgd`; None: plain averaging.

    Raises:
      ValueError: H_base below 1.
    """
    check_count(min_local_steps, "min_local_steps")

    def first(shared):
        rate = learning_rate(shared.num_steps) if callable(learning_rate) else learning_rate
        factors = jax.tree.leaves(local_rates(shared.server_state))
        if factors:
            rate *= jnp.mean(jnp.stack(factors))
        wanted = jnp.floor(jnp.square(growth / jnp.asarray(rate, jnp.float32)))
        # Within integers also where the learning rate has come to 0.
        return jnp.maximum(jnp.minimum(wanted, 2.0**30).astype(jnp.int32), min_local_steps)

    return shortened_rounds(local_opt, server_opt, first)
