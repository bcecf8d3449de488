"""Synchronous data parallelism as a `LocalAlgorithm`: as many gradients, one step a round.

The batches of a round, K workers x H steps x B examples, make one batch of K H B, and one gradient
step on it. Workers send one gradient a round, so the bytes are those of local SGD too.
"""

import jax
import jax.numpy as jnp
import optax

from learned_opt.algorithms.local_sgd import LocalAlgorithm, RoundInfo, RoundState


def data_parallel(opt: optax.GradientTransformation, num_workers: int, num_local_steps: int) -> LocalAlgorithm:
    """One step of `opt` a round, on all K H B examples of it.

    Args:
      opt: any optax transform of gradients; it receives `value=loss`.
      num_workers: K.
      num_local_steps: H.

    Returns:
      The algorithm; `RoundInfo.losses` [K, H] holds the loss of the whole batch in every place.
    """
    opt = optax.with_extra_args_support(opt)

    def init(params):
        return RoundState(params, local_state=(), server_state=opt.init(params))

    def round_fn(loss_fn, state, key, batches):
        batch = jax.tree.map(lambda x: x.reshape((-1, *x.shape[3:])), batches)
        loss, gradient = jax.value_and_grad(loss_fn)(state.params, key, batch)
        updates, opt_state = opt.update(gradient, state.server_state, state.params, value=loss)
        params = optax.apply_updates(state.params, updates)
        info = RoundInfo(jnp.full((num_workers, num_local_steps), loss))
        return RoundState(params, (), opt_state), info

    return LocalAlgorithm(init, round_fn)
