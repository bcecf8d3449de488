"""Rounds that do not wait: pseudo-gradients of late workers are left out of the mean.

    x <- server(x, mean over the workers k that are in time of (x - y_k))

An upload, the last one, for any algorithm that takes one: `local_sgd(local_opt, server_opt, late_workers(chain))`,
after a compression `optax.chain(compression, late_workers(chain))`. In the place of a late worker's pseudo-gradient
stands the mean of those in time: the mean is then over these, and a server that reads the workers one by one finds no
gap. If all are late nothing arrives, and pseudo-gradients are zero. A late worker begins the next round from the new
parameters, with its own local state; what its error feedback took for sent is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.algorithms.round import gather
from learned_opt.algorithms.stragglers.gilbert_elliott import GilbertElliott, check_chain, next_state
from learned_opt.algorithms.weighted_sum import weighted_sum
from learned_opt.base import LocalAlgorithm

if TYPE_CHECKING:
    from jaxtyping import Array, Bool


class LateWorkersState(NamedTuple):
    """`is_slow`: whether this worker was late in the last round."""

    is_slow: Bool[Array, ""]


def late_workers(chain: GilbertElliott) -> optax.GradientTransformationExtraArgs:
    """The upload; all workers begin fast. To be used inside the named axis "workers".

    Raises:
      ValueError: a chain whose numbers are no probabilities.
    """
    check_chain(chain)

    def update(updates, state, params=None, *, key=None, **extra):
        del params, extra
        if key is None:
            raise ValueError("late_workers: update needs key, one for each worker and round; use it in local_sgd")
        is_slow = next_state(chain, key, state.is_slow)
        everyone, is_here = gather((updates, ~is_slow))
        weights = is_here.astype(jnp.float32) / jnp.maximum(jnp.sum(is_here.astype(jnp.float32)), 1)
        mean = weighted_sum(weights, everyone)
        return jax.tree.map(lambda m, u: jnp.where(is_slow, m, u), mean, updates), LateWorkersState(is_slow)

    return optax.GradientTransformationExtraArgs(lambda params: LateWorkersState(jnp.zeros((), bool)), update)


def local_sgd_without_late_workers(
    local_opt: optax.GradientTransformation,
    server_opt: optax.GradientTransformation | None = None,
    chain: GilbertElliott | None = None,
) -> LocalAlgorithm:
    """Local SGD that does not wait.

    Args:
      local_opt: as for `local_sgd`.
      server_opt: as for `local_sgd`; None: plain averaging.
      chain: which workers are late; None: its defaults.
    """
    upload = late_workers(GilbertElliott() if chain is None else chain)
    return local_sgd(local_opt, optax.sgd(1.0) if server_opt is None else server_opt, upload)._replace(waits=False)
