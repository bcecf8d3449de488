"""One communication round of local SGD (Stich 2019, arXiv 1805.09767) with any local and any server optimizer.

    y_k <- x;  H times: y_k <- local_opt(y_k, grad loss(y_k; batch_{k,h}));
    Delta_k = x - y_k;   x <- server_opt(x, mean_k Delta_k, Delta_1..Delta_K)

The server side is an ordinary optax transform over the mean pseudo-gradient (Reddi et al. 2021, arXiv 2003.00295),
which may also read the workers' own in the extra argument `worker_updates`. Local optimizer state stays on its worker
between rounds. Workers are vmapped; with `axis_name` the same body runs inside shard_map, where each device holds K /
devices of them and the updates are gathered before they are averaged, so every layout adds the same numbers in the
same order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

if TYPE_CHECKING:
    from jaxtyping import Array, Float, PyTree

LossFn = Callable[[Any, jax.Array, Any], jax.Array]
"""(params, key, batch) -> scalar loss, the mean over the batch."""


class RoundState(NamedTuple):
    """State between rounds.

    Attributes:
      params: global parameters.
      local_state: local optimizer states, leading axis [workers] (those of this device inside shard_map).
      server_state: state of the server optimizer.
    """

    params: PyTree
    local_state: PyTree
    server_state: PyTree


class RoundInfo(NamedTuple):
    """Diagnostics of one round.

    Attributes:
      losses: [workers, local steps] minibatch losses, each before its local step; column 0 is at the global
        parameters.
    """

    losses: Float[Array, "workers steps"]


class LocalAlgorithm(NamedTuple):
    """A communication-efficient training algorithm.

    Attributes:
      init: params -> RoundState.
      round: (loss_fn, state, key, batches) -> (RoundState, RoundInfo); leaves of `batches` are
        [workers, local steps, batch, ...].
    """

    init: Callable[[Any], RoundState]
    round: Callable[[LossFn, RoundState, jax.Array, Any], tuple[RoundState, RoundInfo]]


def local_sgd(
    local_opt: optax.GradientTransformation,
    server_opt: optax.GradientTransformation,
    num_workers: int,
    num_local_steps: int,
    axis_name: str | None = None,
) -> LocalAlgorithm:
    """Builds the algorithm.

    Args:
      local_opt: applied to minibatch gradients on each worker; receives `value=loss`.
      server_opt: applied to the mean pseudo-gradient; receives `worker_updates=` [K, *shape] and `value=` the mean
        minibatch loss of the round.
      num_workers: K.
      num_local_steps: H.
      axis_name: mesh axis that holds the workers when `round` runs inside shard_map.

    Raises:
      ValueError: for K or H below 1, K not divisible by the axis size, or batches of another leading shape.
    """
    for name, value in (("num_workers", num_workers), ("num_local_steps", num_local_steps)):
        if value < 1:
            raise ValueError(f"{name}={value}: use at least 1")
    local = optax.with_extra_args_support(local_opt)
    server = optax.with_extra_args_support(server_opt)

    def init(params):
        local_state = jax.tree.map(lambda x: jnp.broadcast_to(x, (num_workers, *jnp.shape(x))), local.init(params))
        return RoundState(params, local_state, server.init(params))

    def round_fn(loss_fn, state, key, batches):
        worker_ids = _worker_ids(num_workers, axis_name)
        for leaf in jax.tree.leaves(batches):
            if leaf.shape[:2] != (worker_ids.shape[0], num_local_steps):
                raise ValueError(
                    f"batches has a leaf of leading shape {leaf.shape[:2]}, expected [workers, local steps] = "
                    f"{(worker_ids.shape[0], num_local_steps)}"
                )

        def train_worker(worker_id, local_state, worker_batches):
            worker_key = jax.random.fold_in(key, worker_id)

            def local_step(carry, step_inputs):
                params, opt_state = carry
                index, batch = step_inputs
                step_key = jax.random.fold_in(worker_key, index)
                loss, gradient = jax.value_and_grad(loss_fn)(params, step_key, batch)
                updates, opt_state = local.update(gradient, opt_state, params, value=loss)
                return (optax.apply_updates(params, updates), opt_state), loss

            (params, local_state), losses = jax.lax.scan(
                local_step,
                (state.params, local_state),
                (jnp.arange(num_local_steps), worker_batches),
            )
            return jax.tree.map(jnp.subtract, state.params, params), local_state, losses

        worker_updates, local_state, losses = jax.vmap(train_worker)(worker_ids, state.local_state, batches)
        if axis_name is not None:
            worker_updates, losses = jax.tree.map(
                lambda x: jax.lax.all_gather(x, axis_name, tiled=True), (worker_updates, losses)
            )
        pseudo_gradient = jax.tree.map(lambda x: jnp.mean(x, axis=0), worker_updates)
        updates, server_state = server.update(
            pseudo_gradient,
            state.server_state,
            state.params,
            worker_updates=worker_updates,
            value=jnp.mean(losses),
        )
        params = optax.apply_updates(state.params, updates)
        return RoundState(params, local_state, server_state), RoundInfo(losses)

    return LocalAlgorithm(init, round_fn)


def _worker_ids(num_workers, axis_name):
    if axis_name is None:
        return jnp.arange(num_workers)
    num_devices = jax.lax.axis_size(axis_name)
    if num_workers % num_devices:
        raise ValueError(
            f"num_workers={num_workers} is not divisible by the {num_devices} devices of mesh axis {axis_name!r}"
        )
    on_device = num_workers // num_devices
    return jax.lax.axis_index(axis_name) * on_device + jnp.arange(on_device)
