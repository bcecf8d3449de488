"""Synchronous training at every local step: H steps a round, each with the mean gradient of all workers.

    H times:  x <- opt(x, mean_k grad loss(x; batch_{k,h}))

What local SGD would be if communication were free: the same batches, the same number of steps, no drift between
workers. With AdamW or Muon it is the data-parallel baseline of DiLoCo's and MuLoCo's papers (Douillard et al. 2023,
arXiv 2311.08105; Therien et al. 2025, arXiv 2505.23725). `data_parallel` takes one step a round on the same examples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import optax

from learned_opt.algorithms.data_parallel import Shared
from learned_opt.algorithms.round import dense_bytes, gather, mean_of_workers, scale_by_rates, worker_index
from learned_opt.argument_checks import check_count, check_transform, checked_loss
from learned_opt.base import LocalAlgorithm, LossFn, Params, RoundInfo, RoundState

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def synchronous(opt: optax.GradientTransformation, num_local_steps: int) -> LocalAlgorithm:
    """H synchronous steps of `opt` a round.

    Args:
      opt: any optax transform of gradients; it receives `value=loss`, the mean over the workers.
      num_local_steps: H, which the batches must have; a worker sends a gradient at each step.

    Raises:
      ValueError: H below 1; by `round`, batches of another number of steps.
    """
    check_transform(opt, "opt")
    opt, num_local_steps = optax.with_extra_args_support(opt), check_count(num_local_steps, "num_local_steps")

    def round_fn(loss_fn, state, key, batches):
        params, opt_state = state.shared
        params, opt_state, losses = synchronous_steps(loss_fn, opt, params, opt_state, key, batches, num_local_steps)
        return RoundState(Shared(params, opt_state), ()), RoundInfo(losses, {})

    return LocalAlgorithm(
        lambda params: RoundState(Shared(params, opt.init(params)), ()),
        round_fn,
        lambda state: state.shared.params,
        lambda params: num_local_steps * dense_bytes(params),
        bytes_received=lambda params, num_workers: num_local_steps * dense_bytes(params),
        peak_bytes=dense_bytes,
    )


def synchronous_steps(
    loss_fn: LossFn,
    opt: optax.GradientTransformationExtraArgs,
    params: Params,
    opt_state: Any,
    key: jax.Array,
    batches: Any,
    num_local_steps: int,
    rates: Any = None,
) -> tuple[Params, Any, Float[Array, "steps"]]:
    """The steps of one round, as `local_steps`, but with the mean gradient of all workers.

    Returns:
      (x after H steps and the optimizer's state, equal on all workers; this worker's own losses [H]).
    """

    def step(carry, index_and_batch):
        params, opt_state = carry
        loss, mean_loss, gradient = mean_gradient(loss_fn, params, key, *index_and_batch)
        updates, opt_state = opt.update(gradient, opt_state, params, value=mean_loss)
        updates = updates if rates is None else scale_by_rates(updates, rates)
        return (optax.apply_updates(params, updates), opt_state), loss

    (params, opt_state), losses = jax.lax.scan(step, (params, opt_state), numbered(batches, num_local_steps))
    return params, opt_state, losses


def mean_gradient(
    loss_fn: LossFn, params: Params, key: jax.Array, index: Any, batch: Any
) -> tuple[Float[Array, ""], Float[Array, ""], Any]:
    """(this worker's loss, the mean loss, the mean gradient) at local step `index` of the round of `key`."""
    loss_key = jax.random.fold_in(jax.random.fold_in(key, worker_index()), index)
    own = jax.value_and_grad(checked_loss(loss_fn))(params, loss_key, batch)
    mean_loss, gradient = mean_of_workers(gather(own))
    return own[0], mean_loss, gradient


def numbered(batches: Any, num_local_steps: int) -> tuple[Any, Any]:
    """(0 to H - 1, batches), to scan over.

    Raises:
      ValueError: batches of another number of steps.
    """
    found = jax.tree.leaves(batches)[0].shape[0]
    if found != num_local_steps:
        raise ValueError(f"num_local_steps={num_local_steps}: the batches have {found} local steps; use {found}")
    return jax.numpy.arange(num_local_steps), batches
