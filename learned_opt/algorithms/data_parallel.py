"""Synchronous data parallelism: as many gradients as local SGD takes in a round, and one step.

    x <- opt(x, mean_k grad loss(x; the H B examples of worker k))

Workers send one gradient a round, so the bytes are those of local SGD too. Where an optimizer averages (Schedule-Free,
or one with a field `averaged_params` in its state), the average is what `params` returns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.algorithms.round import dense_bytes, evaluated_params, gather, mean_of_workers, worker_index
from learned_opt.argument_checks import check_transform, checked_loss, explained_state
from learned_opt.base import LocalAlgorithm, Params, RoundInfo, RoundState

if TYPE_CHECKING:
    from jaxtyping import PyTree


class Shared(NamedTuple):
    """Parameters, and the state of the optimizer."""

    params: Params
    opt_state: PyTree


def data_parallel(opt: optax.GradientTransformation) -> LocalAlgorithm:
    """One step of `opt` a round, on all K H B examples of it.

    Args:
      opt: any optax transform of gradients; it receives `value=loss`, the mean over the workers, and `grad_fn`: other
        parameters -> their gradient on the same examples, for which the workers communicate again.

    Returns:
      The algorithm; `RoundInfo.losses` holds the loss of the whole batch in every place.

    Raises:
      ValueError: something that is no optax transform; by `round`, a loss that is not (params, key, batch) -> scalar,
        or a state of another optimizer.
    """
    check_transform(opt, "opt")
    opt = optax.with_extra_args_support(opt)

    def init(params):
        return RoundState(Shared(params, opt.init(params)), worker=())

    def round_fn(loss_fn, state, key, batches):
        if not isinstance(state, RoundState) or not isinstance(state.shared, Shared):
            raise ValueError("state is not one of data_parallel: use what this algorithm's own init and round return")
        params, opt_state = state.shared
        loss_fn = checked_loss(loss_fn)
        num_steps = jax.tree.leaves(batches)[0].shape[0]
        batch = jax.tree.map(lambda x: x.reshape((-1, *x.shape[2:])), batches)
        worker_key = jax.random.fold_in(key, worker_index())
        everyone = gather(jax.value_and_grad(loss_fn)(params, worker_key, batch))
        loss, gradient = mean_of_workers(everyone)

        # A second argument as in `local_steps`.
        def grad_fn(params, _=None):
            return mean_of_workers(gather(jax.grad(loss_fn)(params, worker_key, batch)))

        with explained_state(opt_state, opt.init, params, "data_parallel"):
            updates, opt_state = opt.update(gradient, opt_state, params, value=loss, grad_fn=grad_fn)
        shared = Shared(optax.apply_updates(params, updates), opt_state)
        return RoundState(shared, ()), RoundInfo(jnp.full((num_steps,), loss), {})

    return LocalAlgorithm(init, round_fn, lambda state: evaluated_params(*state.shared), dense_bytes)
