"""Local updates inside a training loop that somebody else wrote.

    local steps:   y <- y + local_opt(grad)                        on every worker, H of them
    round's end:   Delta_k = x - y_k;  x <- x + server_opt(mean_k Delta_k, Delta_1..Delta_K);  y_k <- x

Any two optax transforms become one, which an existing step calls as it would call any other; workers are the members
of a named axis (of `jax.shard_map`, over the devices of one process or of many, or of `jax.vmap`). It is the algorithm
of `local_sgd` (Stich 2019, arXiv 1805.09767; server side: Reddi et al. 2021, arXiv 2003.00295) turned inside out: the
caller owns the loop, the gradients and the data. With local_opt = AdamW and server_opt = SGD with Nesterov momentum it
is DiLoCo (Douillard et al. 2023, arXiv 2311.08105).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int


class LocalUpdatesState(NamedTuple):
    """State of one worker; it may be saved and restored at any step, also within a round.

    Attributes:
      local_step: steps taken in this round, 0 to H - 1; equal on all workers.
      global_params: parameters after the last round; equal on all workers to the bit.
      local_state: of the local optimizer; the worker's own, kept between rounds.
      server_state: of the server optimizer; equal on all workers.
      value_sum: sum of the losses passed in this round.
    """

    local_step: Int[Array, ""]
    global_params: Any
    local_state: Any
    server_state: Any
    value_sum: Float[Array, ""]


def local_updates(
    local_opt: optax.GradientTransformation,
    server_opt: optax.GradientTransformation,
    num_local_steps: int,
    axis_name: str | Sequence[str] | None = None,
    gather: bool = True,
) -> optax.GradientTransformationExtraArgs:
    """Builds the transform.

    Its `update(gradient, state, params, *, value=None)` takes the gradient of the worker's own batch and, if the
    optimizers want it, the loss as `value`; it must be called on every worker at every step, and `init` must see equal
    parameters on all of them.

    A transform can only add to the parameters, and that sum is rounded: after a round the workers' parameters agree up
    to the last bit (exactly for H = 1). The state's `global_params` agree exactly, and pseudo-gradients are measured
    from them; save and evaluate those.

    Args:
      local_opt: applied to every gradient; receives `value`.
      server_opt: applied to the mean pseudo-gradient at the round's end; receives `worker_updates` [K, *shape] when
        gathering, and as `value` the mean loss over workers and steps.
      num_local_steps: H, steps between two communications.
      axis_name: named axis, or axes, whose members are the workers; None for a single worker.
      gather: collect all workers' updates and average them in worker order: the same bits for every layout of the
        workers, and what LAgg reads. False averages with a collective mean, which needs 1/K of the memory, passes no
        `worker_updates`, and sums in an order of the backend's choice.

    Raises:
      ValueError: H below 1; from `update`, no params.
    """
    if num_local_steps < 1:
        raise ValueError(f"num_local_steps={num_local_steps}: use at least 1")
    local = optax.with_extra_args_support(local_opt)
    server = optax.with_extra_args_support(server_opt)

    def init(params):
        return LocalUpdatesState(
            local_step=jnp.int32(0),
            global_params=jax.tree.map(jnp.asarray, params),
            local_state=local.init(params),
            server_state=server.init(params),
            value_sum=jnp.float32(0),
        )

    def communicate(updates, state, params, local_state, losses):
        """The server step, as the update that takes this worker's params to the new global ones."""
        start = state.global_params
        if num_local_steps == 1:
            # The worker is still at the global parameters, so no bits are lost to a subtraction.
            delta = jax.tree.map(jnp.negative, updates)
        else:
            delta = jax.tree.map(jnp.subtract, start, optax.apply_updates(params, updates))
        extra: dict[str, Any] = {} if losses is None else {"value": losses / num_local_steps}
        if axis_name is None:
            extra["worker_updates"] = jax.tree.map(lambda d: d[None], delta)
            pseudo_gradient = delta
        elif gather:
            if losses is not None:
                extra["value"] = jnp.mean(jax.lax.all_gather(extra["value"], axis_name))
            extra["worker_updates"] = jax.tree.map(lambda d: jax.lax.all_gather(d, axis_name), delta)
            pseudo_gradient = jax.tree.map(lambda d: jnp.mean(d, axis=0), extra["worker_updates"])
        else:
            extra, pseudo_gradient = jax.lax.pmean((extra, delta), axis_name)
        server_updates, server_state = server.update(pseudo_gradient, state.server_state, start, **extra)
        target = optax.apply_updates(start, server_updates)
        new_state = LocalUpdatesState(jnp.int32(0), target, local_state, server_state, jnp.float32(0))
        if num_local_steps == 1:
            return server_updates, new_state
        return jax.tree.map(jnp.subtract, target, params), new_state

    def update(updates, state, params=None, *, value=None, **extra):
        if params is None:
            raise ValueError("local_updates needs the parameters: call update(gradient, state, params)")
        local_extra = extra if value is None else {**extra, "value": value}
        updates, local_state = local.update(updates, state.local_state, params, **local_extra)
        losses = None if value is None else state.value_sum + jnp.asarray(value, jnp.float32)
        if num_local_steps == 1:
            return communicate(updates, state, params, local_state, losses)

        def keep(updates, state, params, local_state, losses):
            kept = state.value_sum if losses is None else losses
            return updates, LocalUpdatesState(
                state.local_step + 1, state.global_params, local_state, state.server_state, kept
            )

        last = state.local_step == num_local_steps - 1
        return jax.lax.cond(last, communicate, keep, updates, state, params, local_state, losses)

    return optax.GradientTransformationExtraArgs(init, update)
