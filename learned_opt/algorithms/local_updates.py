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

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.algorithms.round import AxisName, local_rates, scale_by_rates, server_step
from learned_opt.argument_checks import (
    check_axis_name,
    check_count,
    check_like,
    check_transform,
    check_within_axis,
    explained_state,
)

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int


class LocalUpdatesState(NamedTuple):
    """State of one worker; it may be saved and restored at any step, also within a round.

    Attributes:
      local_step: steps taken in this round, 0 to H - 1; equal on all workers.
      global_params: parameters after the last round; equal on all workers to the bit.
      local_state: of the local optimizer; the worker's own, kept between rounds.
      upload_state: of the upload; the worker's own.
      server_state: of the server optimizer; equal on all workers.
      losses: passed in this round so far; entries from `local_step` on are those of the round before.
    """

    local_step: Int[Array, ""]
    global_params: Any
    local_state: Any
    upload_state: Any
    server_state: Any
    losses: Float[Array, "steps"]


def local_updates(
    local_opt: optax.GradientTransformation,
    server_opt: optax.GradientTransformation,
    num_local_steps: int,
    axis_name: AxisName | None = None,
    gather: bool = True,
    upload: optax.GradientTransformation | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Builds the transform.

    Its `update(gradient, state, params, *, value=None)` takes the gradient of the worker's own batch and, if the
    optimizers want it, the loss as `value`; it must be called on every worker at every step, and `init` must see equal
    parameters on all of them.

    A transform can only add to the parameters, and that sum is rounded: after a round the workers' parameters agree up
    to the last bit (exactly for H = 1). The state's `global_params` agree exactly, and pseudo-gradients are measured
    from them; save and evaluate those.

    Args:
      local_opt: applied to every gradient; receives `value`, `anchor` (the global parameters) and whatever else
        `update` is called with.
      server_opt: applied to the mean pseudo-gradient at the round's end; receives `worker_updates` [K, *shape] when
        gathering, and as `value` the mean loss over workers and steps.
      num_local_steps: H, steps between two communications.
      axis_name: named axis, or axes, whose members are the workers; None for a single worker.
      gather: collect all workers' updates and average them in worker order: the same bits for every layout of the
        workers, and what LAgg reads. False averages with a collective mean, which needs 1/K of the memory, passes no
        `worker_updates`, and sums in an order of the backend's choice.
      upload: transform of the worker's own pseudo-gradient before it is sent, as in `local_sgd`.

    Raises:
      ValueError: H below 1, something that is no optax transform, or no name of an axis; from `update`, no params,
        gradients of other tensors, a call from outside the axis, a value that is no scalar, or a state of another
        optimizer.
    """
    check_transform(local_opt, "local_opt")
    check_transform(server_opt, "server_opt")
    if upload is not None:
        check_transform(upload, "upload")
    num_local_steps = check_count(num_local_steps, "num_local_steps")
    check_axis_name(axis_name)
    local = optax.with_extra_args_support(local_opt)
    server = optax.with_extra_args_support(server_opt)
    sender = None if upload is None else optax.with_extra_args_support(upload)

    def init(params):
        return LocalUpdatesState(
            local_step=jnp.int32(0),
            global_params=jax.tree.map(jnp.asarray, params),
            local_state=local.init(params),
            upload_state=() if sender is None else sender.init(params),
            server_state=server.init(params),
            losses=jnp.zeros(num_local_steps, jnp.float32),
        )

    def update(updates, state, params=None, *, value=None, **extra):
        _check_call(updates, state, params, value, axis_name)
        with explained_state(state, init, params, "local_updates"):
            return one_step(updates, state, params, value, extra)

    def one_step(updates, state, params, value, extra):
        extra |= {"anchor": state.global_params} if value is None else {"anchor": state.global_params, "value": value}
        updates, local_state = local.update(updates, state.local_state, params, **extra)
        rates = local_rates(state.server_state)
        if rates is not None:
            updates = scale_by_rates(updates, rates)
        losses = state.losses
        if value is not None:
            losses = losses.at[state.local_step].set(jnp.asarray(value, jnp.float32))
        state = state._replace(local_state=local_state, losses=losses)

        def end(updates, state, params):
            losses = None if value is None else state.losses
            return _communicate(updates, state, params, losses, server, sender, num_local_steps, axis_name, gather)

        def keep(updates, state, params):
            del params
            return updates, state._replace(local_step=state.local_step + 1)

        if num_local_steps == 1:
            return end(updates, state, params)
        return jax.lax.cond(state.local_step == num_local_steps - 1, end, keep, updates, state, params)

    return optax.GradientTransformationExtraArgs(init, update)


def _check_call(updates, state, params, value, axis_name) -> None:
    """ValueError for what `update` cannot be called with."""
    if params is None:
        raise ValueError("local_updates needs the parameters: call update(gradient, state, params)")
    if not isinstance(state, LocalUpdatesState):
        raise ValueError(f"state is a {type(state).__name__}, not one of local_updates: use its own init")
    check_like(updates, params, "the gradient")
    check_within_axis(axis_name)
    if value is not None and jnp.shape(value) != ():
        raise ValueError(f"value has shape {jnp.shape(value)}: pass the loss, the mean over the batch")


def _communicate(
    updates, state, params, losses, server, sender, num_local_steps, axis_name, gather
) -> tuple[Any, LocalUpdatesState]:
    """The end of the round, as the update that takes this worker's params to the new global ones."""
    start = state.global_params
    if num_local_steps == 1:
        # The worker is still at the global parameters, so no bits need be lost to a subtraction.
        sent = jax.tree.map(jnp.negative, updates)
    else:
        sent = jax.tree.map(jnp.subtract, start, optax.apply_updates(params, updates))
    upload_state = state.upload_state
    if sender is not None:
        sent, upload_state = sender.update(sent, upload_state, start)
    server_updates, server_state, _ = server_step(
        server, state.server_state, start, sent, losses, axis_name=axis_name, collect=gather
    )
    target = optax.apply_updates(start, server_updates)
    new_state = state._replace(
        local_step=jnp.int32(0), global_params=target, upload_state=upload_state, server_state=server_state
    )
    if num_local_steps == 1:
        return server_updates, new_state
    return jax.tree.map(jnp.subtract, target, params), new_state
