"""A server optimizer that steps once for several calls, on the mean of what they gave it.

    u = mean of `updates` over n calls,  w_k = mean of worker k's over the same calls;   x <- x + server(u, w_1 .. w_K)

`optax.MultiSteps` averages `updates` and hands on every other argument of the last call: an optimizer that reads
`worker_updates` would see one call's workers beside the mean of all. Here both are averaged. In between the updates are
zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.argument_checks import check_count
from learned_opt.base import LearnedOptimizer

if TYPE_CHECKING:
    from jaxtyping import Array, Int, PyTree


class AccumulatedState(NamedTuple):
    """State of `accumulated`.

    Attributes:
      num_calls: since the last step, 0 to n - 1.
      updates: their mean, float32.
      worker_updates: theirs, float32 with a leading [workers] axis; None for an optimizer that does not read them.
      inner: state of the optimizer.
    """

    num_calls: Int[Array, ""]
    updates: PyTree
    worker_updates: PyTree
    inner: PyTree


def accumulated(
    lopt: LearnedOptimizer, step: optax.GradientTransformation, num_calls: int
) -> optax.GradientTransformationExtraArgs:
    """Wraps the transform of a learned optimizer.

    Args:
      lopt: the optimizer.
      step: its transform, or one around it.
      num_calls: n. Arguments other than `updates` and `worker_updates` are those of the n-th call.

    Raises:
      ValueError: n below 1, or an optimizer that reads other statistics of the workers, which cannot be averaged over
        calls (take more local steps instead); by `update`, no `worker_updates` where they are read.
    """
    check_count(num_calls, "num_calls")
    name = lopt.config["architecture"]
    if lopt.reads == "statistics":
        raise ValueError(f"{name} reads statistics of one round's workers: take more local steps instead")
    workers = lopt.num_workers if lopt.reads == "workers" else None
    inner = optax.with_extra_args_support(step)

    def zeros(params, *leading):
        return jax.tree.map(lambda p: jnp.zeros((*leading, *jnp.shape(p)), jnp.float32), params)

    def init(params):
        worker_updates = None if workers is None else zeros(params, workers)
        return AccumulatedState(jnp.int32(0), zeros(params), worker_updates, inner.init(params))

    def update(updates, state, params=None, *, worker_updates=None, **extra: Any):
        if workers is not None and worker_updates is None:
            raise ValueError(f"worker_updates is None: {name} reads every worker's pseudo-gradient")
        share = 1 / (state.num_calls + 1).astype(jnp.float32)

        def averaged(means, new):
            return jax.tree.map(lambda mean, x: mean + share * (x.astype(jnp.float32) - mean), means, new)

        updates_mean = averaged(state.updates, updates)
        worker_mean = None if workers is None else averaged(state.worker_updates, worker_updates)

        def take(state):
            given = jax.tree.map(lambda mean, x: mean.astype(x.dtype), updates_mean, updates)
            if workers is not None:
                extra["worker_updates"] = worker_mean
            steps, inner_state = inner.update(given, state.inner, params, **extra)
            zero, worker_zero = jax.tree.map(jnp.zeros_like, (updates_mean, worker_mean))
            return steps, AccumulatedState(jnp.int32(0), zero, worker_zero, inner_state)

        def wait(state):
            shapes = jax.eval_shape(take, state)[0]
            steps = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
            return steps, AccumulatedState(state.num_calls + 1, updates_mean, worker_mean, state.inner)

        return jax.lax.cond(state.num_calls == num_calls - 1, take, wait, state)

    return optax.GradientTransformationExtraArgs(init, update)
