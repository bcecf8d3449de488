"""SCAFFOLD (Karimireddy et al. 2020, arXiv 1910.06378): control variates against the drift of the workers.

    H times: y_k <- opt(y_k, g_k + c - c_k)
    c_k' = mean of g_k over the H steps;   c <- c + mean_k (c_k' - c_k);   c_k <- c_k'
    x <- server(x, mean_k (x - y_k))

c_k' is the paper's option II, c_k - c + (x - y_k) / (H eta): for SGD with learning rate eta that is the mean of the
uncorrected gradients. Written so it needs no eta and holds for any local optimizer. All workers take part in every
round. A worker sends two vectors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.algorithms.corrections.corrected import plus
from learned_opt.algorithms.measured import measurable
from learned_opt.algorithms.round import (
    dense_bytes,
    evaluated_params,
    gather,
    local_rates,
    local_steps,
    mean_of_workers,
    server_step,
    worker_index,
)
from learned_opt.argument_checks import check_transform
from learned_opt.base import LocalAlgorithm, Params, RoundInfo, RoundState

if TYPE_CHECKING:
    from jaxtyping import PyTree


class Shared(NamedTuple):
    """Global parameters, the state of the server, and c, float32."""

    params: Params
    server_state: PyTree
    control: PyTree


class Worker(NamedTuple):
    """The state of the local optimizer, and c_k, float32."""

    local_state: PyTree
    control: PyTree


class _Summing(NamedTuple):
    """State of a local optimizer, and the sum of the uncorrected gradients of the round."""

    local_state: Any
    gradients: Any


def scaffold(
    local_opt: optax.GradientTransformation, server_opt: optax.GradientTransformation | None = None
) -> LocalAlgorithm:
    """SCAFFOLD.

    Args:
      local_opt: receives the corrected gradients; SGD in the paper.
      server_opt: as for `local_sgd`; None: plain averaging, the paper's eta_g = 1.
    """
    check_transform(local_opt, "local_opt")
    local = optax.with_extra_args_support(local_opt)
    server = optax.with_extra_args_support(optax.sgd(1.0) if server_opt is None else server_opt)

    def summing(correction):
        def init(params):
            return _Summing(local.init(params), _zeros(params))

        def update(updates, state, params=None, **extra):
            gradients = jax.tree.map(lambda s, g: s + g.astype(jnp.float32), state.gradients, updates)
            steps, local_state = local.update(plus(updates, correction), state.local_state, params, **extra)
            return steps, _Summing(local_state, gradients)

        return optax.GradientTransformationExtraArgs(init, update)

    def init(params):
        zeros = _zeros(params)
        return RoundState(Shared(params, server.init(params), zeros), Worker(local.init(params), zeros))

    def one_round(measure, loss_fn, state, key, batches):
        (start, server_state, control), (local_state, own_control) = state
        opt = summing(jax.tree.map(jnp.subtract, control, own_control))
        worker_key = jax.random.fold_in(key, worker_index())
        _, (local_state, gradients), losses, sent = local_steps(
            loss_fn,
            opt,
            start,
            _Summing(local_state, _zeros(start)),
            worker_key,
            batches,
            rates=local_rates(server_state),
        )
        new_control = jax.tree.map(lambda total: total / losses.shape[0], gradients)
        change = mean_of_workers(gather(jax.tree.map(jnp.subtract, new_control, own_control)))
        updates, server_state, everyone = server_step(server, server_state, start, sent, losses)
        shared = Shared(optax.apply_updates(start, updates), server_state, jax.tree.map(jnp.add, control, change))
        return RoundState(shared, Worker(local_state, new_control)), RoundInfo(losses, measure(everyone))

    return measurable(
        init,
        one_round,
        lambda state: evaluated_params(*state.shared[:2]),
        lambda params: 2 * dense_bytes(params),
        # x and c.
        bytes_received=lambda params, num_workers: 2 * dense_bytes(params),
    )


def _zeros(params):
    return jax.tree.map(lambda p: jnp.zeros(jnp.shape(p), jnp.float32), params)
