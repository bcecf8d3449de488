"""FedDyn (Acar et al. 2021, arXiv 2111.04263): a regularizer that each worker adapts to where its own data pull.

    H times: y_k <- opt(y_k, g_k + mu (y_k - x) + mu h_k)
    h_k <- h_k + y_k - x;   x <- server(x, mean_k (x - (y_k + h_k)))

-mu h_k is the gradient of the worker's loss where its last local problem was solved, so that a point where the workers'
gradients add up to zero is at rest, whatever they are one by one. A worker sends y_k + h_k, one vector. All workers
take part in every round. h_k does not depend on mu, so that mu = 0 is not `local_sgd`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.algorithms.corrections.corrected import Correction, corrected
from learned_opt.algorithms.local_sgd import Shared
from learned_opt.algorithms.measured import measurable
from learned_opt.algorithms.round import (
    dense_bytes,
    evaluated_params,
    local_rates,
    local_steps,
    server_step,
    worker_index,
)
from learned_opt.argument_checks import check_transform
from learned_opt.base import LocalAlgorithm, RoundInfo, RoundState

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree


class Worker(NamedTuple):
    """The state of the local optimizer, and h_k, float32."""

    local_state: PyTree
    drift: PyTree


def feddyn(
    local_opt: optax.GradientTransformation,
    mu: float | Array = 0.1,
    server_opt: optax.GradientTransformation | None = None,
) -> LocalAlgorithm:
    """FedDyn.

    Args:
      local_opt: receives the corrected gradients.
      mu: weight of the regularizer.
      server_opt: as for `local_sgd`; None: plain averaging.
    """
    return dynamic_regularization(local_opt, mu, server_opt, lambda gradient, *_: gradient)


def dynamic_regularization(
    local_opt: optax.GradientTransformation,
    mu: float | Array,
    server_opt: optax.GradientTransformation | None,
    gradient_of: Correction,
) -> LocalAlgorithm:
    """FedDyn with another gradient for g_k, which `gradient_of` makes of it."""
    check_transform(local_opt, "local_opt")
    server = optax.with_extra_args_support(optax.sgd(1.0) if server_opt is None else server_opt)

    def init(params):
        drift = jax.tree.map(lambda p: jnp.zeros(jnp.shape(p), jnp.float32), params)
        return RoundState(Shared(params, server.init(params)), Worker(local_opt.init(params), drift))

    def one_round(measure, loss_fn, state, key, batches):
        (start, server_state), (local_state, drift) = state

        def correct(gradient, params, anchor, grad_fn):
            gradient = gradient_of(gradient, params, anchor, grad_fn)
            return jax.tree.map(
                lambda g, y, x, h: (g + mu * ((y - x).astype(jnp.float32) + h)).astype(g.dtype),
                gradient,
                params,
                anchor,
                drift,
            )

        worker_key = jax.random.fold_in(key, worker_index())
        _, local_state, losses, moved = local_steps(
            loss_fn,
            corrected(local_opt, correct),
            start,
            local_state,
            worker_key,
            batches,
            rates=local_rates(server_state),
        )
        drift = jax.tree.map(lambda h, delta: h - delta.astype(jnp.float32), drift, moved)
        sent = jax.tree.map(lambda delta, h: delta - h.astype(delta.dtype), moved, drift)
        updates, server_state, everyone = server_step(server, server_state, start, sent, losses)
        shared = Shared(optax.apply_updates(start, updates), server_state)
        return RoundState(shared, Worker(local_state, drift)), RoundInfo(losses, measure(everyone))

    return measurable(
        init,
        one_round,
        lambda state: evaluated_params(*state.shared[:2]),
        dense_bytes,
    )
