"""D-PSGD (Lian et al. 2017, arXiv 1705.09056) with any local optimizer and H local steps.

    H times: y_i <- opt(y_i, grad);   x_i <- sum_j W_ij y_j

Published with H = 1. Models are averaged after the step, as in the code of its successors, where the paper averages
those before it and adds the step; with the complete graph it is then `local_sgd` with plain averaging, whatever the
data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.algorithms.gossip.mixing import consensus_distance, make_mixing, mean_params, mix_with_neighbours
from learned_opt.algorithms.round import local_steps, worker_index
from learned_opt.argument_checks import check_transform
from learned_opt.base import LocalAlgorithm, Params, RoundInfo, RoundState

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Array, Float, Int, PyTree


class Shared(NamedTuple):
    """Rounds that have passed."""

    num_rounds: Int[Array, ""]


class Worker(NamedTuple):
    """A worker's model, and the state of its optimizer."""

    params: Params
    local_state: PyTree


def dpsgd(local_opt: optax.GradientTransformation, weights: Float[np.ndarray, "period n n"]) -> LocalAlgorithm:
    """D-PSGD; diagnostics have the `consensus_distance` before the average.

    Args:
      local_opt: as for `local_sgd`; its state stays on its worker.
      weights: mixing matrices, see `topology`.

    Raises:
      ValueError: weights that do not sum to one or do not connect the workers; by `round`, for another number of them.
    """
    check_transform(local_opt, "local_opt")
    mixing = make_mixing(weights)

    def init(params):
        return RoundState(Shared(jnp.int32(0)), Worker(params, local_opt.init(params)))

    def round_fn(loss_fn, state, key, batches):
        (num_rounds,), (start, local_state) = state
        worker_key = jax.random.fold_in(key, worker_index())
        params, local_state, losses, _ = local_steps(loss_fn, local_opt, start, local_state, worker_key, batches)
        params, everyone = mix_with_neighbours(mixing.matrix(num_rounds), params)
        info = RoundInfo(losses, {"consensus_distance": consensus_distance(everyone)})
        return RoundState(Shared(num_rounds + 1), Worker(params, local_state)), info

    return LocalAlgorithm(init, round_fn, mean_params, mixing.bytes_sent, mixing.bytes_received)
