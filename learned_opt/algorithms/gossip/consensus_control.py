"""Consensus control (Kong et al. 2021, arXiv 2102.04828): as many averages as it takes to keep the workers together.

    H times: y_i <- opt(y_i, grad)
    repeat  y_i <- sum_j W_ij y_j   until  Xi <= target,   Xi^2 = mean_i norm(y_i - mean y)^2

The target is a fraction of how far the workers move in a round, as a running mean, so that it falls with the steps: the
paper's adaptive form, with moves in the place of gradients. At least one average and at most a given number are taken;
`communications` counts them, and each costs `bytes_sent`. An infinite fraction is D-PSGD.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.algorithms.gossip.dpsgd import Worker
from learned_opt.algorithms.gossip.mixing import (
    consensus_distance,
    make_mixing,
    mean_params,
    root_mean_square_norm,
)
from learned_opt.algorithms.round import gather, local_steps, worker_index
from learned_opt.argument_checks import check_count, check_transform
from learned_opt.base import LocalAlgorithm, RoundInfo, RoundState

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Array, Float, Int


class Shared(NamedTuple):
    """Rounds and averages that have passed, and the sum of moves of which the running mean is made."""

    num_rounds: Int[Array, ""]
    num_communications: Int[Array, ""]
    move: Float[Array, ""]


def consensus_control(
    local_opt: optax.GradientTransformation,
    weights: Float[np.ndarray, "period n n"],
    fraction: float | Array = 0.25,
    *,
    max_communications: int = 16,
    decay: float = 0.9,
) -> LocalAlgorithm:
    """D-PSGD with controlled consensus; diagnostics: `communications`, and `consensus_distance`, Xi^2, after the last.

    Args:
      local_opt: as for `local_sgd`; its state stays on its worker.
      weights: mixing matrices, see `topology`.
      fraction: of the mean move of a round, that Xi must not exceed.
      max_communications: averages of a round, at most.
      decay: of the running mean of the moves, a round; bias-corrected.

    Raises:
      ValueError: as `dpsgd`; no communications.
    """
    check_transform(local_opt, "local_opt")
    mixing = make_mixing(weights)
    check_count(max_communications, "max_communications")

    def init(params):
        shared = Shared(jnp.int32(0), jnp.int32(0), jnp.float32(0))
        return RoundState(shared, Worker(params, local_opt.init(params)))

    def round_fn(loss_fn, state, key, batches):
        (num_rounds, before, move), (start, local_state, _) = state
        worker_key = jax.random.fold_in(key, worker_index())
        params, local_state, losses, _ = local_steps(loss_fn, local_opt, start, local_state, worker_key, batches)
        everyone, moves = gather((params, jax.tree.map(jnp.subtract, params, start)))
        move = decay * move + (1 - decay) * root_mean_square_norm(moves)
        target = fraction * move / (1 - decay ** (num_rounds + 1).astype(jnp.float32))

        def is_apart(carry):
            _, count, distance = carry
            return (count == 0) | ((jnp.sqrt(distance) > target) & (count < max_communications))

        def average(carry):
            everyone, count, _ = carry
            workers = jnp.arange(jax.tree.leaves(everyone)[0].shape[0])
            mixed = jax.vmap(lambda worker: mixing.average(before + count, worker, everyone))(workers)
            return mixed, count + 1, consensus_distance(mixed)

        everyone, count, distance = jax.lax.while_loop(is_apart, average, (everyone, jnp.int32(0), jnp.float32(0)))
        params = jax.tree.map(lambda x: x[worker_index()], everyone)
        info = RoundInfo(losses, {"communications": count, "consensus_distance": distance})
        return RoundState(Shared(num_rounds + 1, before + count, move), Worker(params, local_state)), info

    return LocalAlgorithm(init, round_fn, mean_params, mixing.bytes_sent, mixing.bytes_received)
