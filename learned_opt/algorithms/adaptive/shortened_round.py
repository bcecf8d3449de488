"""Local SGD whose rounds take the first h of their H batches, where h is chosen by what came before.

    h times: y_k <- opt(y_k, grad);   x <- server(x, mean_k (x - y_k));   h for the next round

Steps beyond h are skipped, not masked: neither their gradient nor the optimizer is run. Their losses repeat the last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.algorithms.measured import measurable
from learned_opt.algorithms.round import (
    dense_bytes,
    evaluated_params,
    local_rates,
    local_steps,
    server_step,
    worker_index,
)
from learned_opt.argument_checks import check_transform, checked_loss
from learned_opt.base import LocalAlgorithm, Params, RoundInfo, RoundState

if TYPE_CHECKING:
    from jaxtyping import Array, Int, PyTree


class Shared(NamedTuple):
    """Global parameters, the state of the server, local steps taken so far, and those of the last round, 0 at first."""

    params: Params
    server_state: PyTree
    num_steps: Int[Array, ""]
    last_steps: Int[Array, ""]


class _Counting(NamedTuple):
    """State of a local optimizer, and its steps in this round."""

    local_state: Any
    step: Any


def shortened_rounds(
    local_opt: optax.GradientTransformation,
    server_opt: optax.GradientTransformation | None,
    first: Callable[[Shared], Any],
    following: Callable[[Any, Shared], Any] = lambda worker_updates, shared: shared.last_steps,
) -> LocalAlgorithm:
    """Builds the algorithm; diagnostics have `num_local_steps`, those that were taken.

    Args:
      local_opt: as for `local_sgd`.
      server_opt: as for `local_sgd`; None: plain averaging. `value` is the mean loss of the steps that were taken.
      first: state before a round -> local steps to take in it, cut to 1 to H.
      following: (pseudo-gradients of all workers [K, *shape], state with h of this round as `last_steps`) -> what to
        keep as `last_steps`.
    """
    check_transform(local_opt, "local_opt")
    server = optax.with_extra_args_support(optax.sgd(1.0) if server_opt is None else server_opt)
    local = optax.with_extra_args_support(local_opt)

    def init(params):
        shared = Shared(params, server.init(params), jnp.int32(0), jnp.int32(0))
        return RoundState(shared, local.init(params))

    def one_round(measure, loss_fn, state, key, batches):
        shared, local_state = state
        most = jax.tree.leaves(batches)[0].shape[0]
        num_steps = jnp.clip(jnp.asarray(first(shared)), 1, most).astype(jnp.int32)

        def loss_of_step(params, key, index_and_batch):
            index, batch = index_and_batch
            return jax.lax.cond(
                index < num_steps, lambda: checked_loss(loss_fn)(params, key, batch), lambda: jnp.zeros((), jnp.float32)
            )

        def update(updates, state, params=None, **extra):
            def skip():
                return jax.tree.map(jnp.zeros_like, updates), state.local_state

            def step():
                return local.update(updates, state.local_state, params, **extra)

            updates, local_state = jax.lax.cond(state.step < num_steps, step, skip)
            return updates, _Counting(local_state, state.step + 1)

        opt = optax.GradientTransformationExtraArgs(lambda params: _Counting(local.init(params), jnp.int32(0)), update)
        worker_key = jax.random.fold_in(key, worker_index())
        _, (local_state, _), losses, sent = local_steps(
            loss_of_step,
            opt,
            shared.params,
            _Counting(local_state, jnp.int32(0)),
            worker_key,
            (jnp.arange(most), batches),
            rates=local_rates(shared.server_state),
        )
        mean_loss = jnp.sum(losses)[None] / num_steps.astype(jnp.float32)
        losses = losses[jnp.minimum(jnp.arange(most), num_steps - 1)]
        updates, server_state, everyone = server_step(server, shared.server_state, shared.params, sent, mean_loss)
        shared = Shared(
            optax.apply_updates(shared.params, updates), server_state, shared.num_steps + num_steps, num_steps
        )
        kept = jnp.asarray(following(everyone, shared)).astype(jnp.int32)
        info = RoundInfo(losses, {"num_local_steps": num_steps} | measure(everyone))
        return RoundState(shared._replace(last_steps=kept), local_state), info

    return measurable(
        init,
        one_round,
        lambda state: evaluated_params(*state.shared[:2]),
        dense_bytes,
    )
