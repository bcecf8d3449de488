"""NoLoCo (Kolehmainen et al. 2025, arXiv 2506.10911): DiLoCo without a server, in random pairs.

    y_i <- x_i;  H times: y_i <- opt(y_i, grad);   a partner j is drawn anew every round
    m_i <- b m_i + a mean_{i,j}(y - x) + c (mean_{i,j}(x) - x_i);   x_i <- x_i + m_i

The last term draws the slow models x together, which differ between workers. With two workers they do not, and it is
`local_sgd` with heavy-ball momentum. Of an odd number of workers one stays alone in a round.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.algorithms.gossip.mixing import consensus_distance, mean_params
from learned_opt.algorithms.round import dense_bytes, gather, local_steps, num_workers, worker_index
from learned_opt.argument_checks import check_number, check_transform
from learned_opt.base import LocalAlgorithm, Params, RoundInfo, RoundState

if TYPE_CHECKING:
    from jaxtyping import Array, Int, PyTree


class Worker(NamedTuple):
    """A worker's slow model x_i, the state of its optimizer, and its momentum, float32."""

    params: Params
    local_state: PyTree
    momentum: PyTree


def noloco(
    local_opt: optax.GradientTransformation,
    learning_rate: float | Array = 0.7,
    momentum: float | Array = 0.5,
    consensus_rate: float | Array | None = None,
) -> LocalAlgorithm:
    """NoLoCo; diagnostics have the `consensus_distance`, a mean square, of the slow models at first.

    Args:
      local_opt: as for `local_sgd`; its state stays on its worker.
      learning_rate: a.
      momentum: b.
      consensus_rate: c; None: a, as in the authors' code.
    """
    check_transform(local_opt, "local_opt")
    check_number(learning_rate, "learning_rate")
    check_number(momentum, "momentum")
    pull = learning_rate if consensus_rate is None else consensus_rate

    def init(params):
        zeros = jax.tree.map(lambda p: jnp.zeros(jnp.shape(p), jnp.float32), params)
        return RoundState((), Worker(params, local_opt.init(params), zeros))

    def round_fn(loss_fn, state, key, batches):
        start, local_state, velocity = state.worker
        worker_key = jax.random.fold_in(key, worker_index())
        params, local_state, losses, _ = local_steps(loss_fn, local_opt, start, local_state, worker_key, batches)
        moved = jax.tree.map(jnp.subtract, params, start)
        everyone = gather((moved, start))
        # Beyond the keys of the workers.
        partner = draw_partners(jax.random.fold_in(key, num_workers()), num_workers())[worker_index()]
        their_moved, their_start = jax.tree.map(lambda x: x[partner], everyone)

        def accelerate(m, own_move, their_move, own, their):
            move = (own_move + their_move).astype(jnp.float32) / 2
            apart = (their - own).astype(jnp.float32) / 2
            return momentum * m + learning_rate * move + pull * apart

        velocity = jax.tree.map(accelerate, velocity, moved, their_moved, start, their_start)
        params = jax.tree.map(lambda x, m: x + m.astype(x.dtype), start, velocity)
        info = RoundInfo(losses, {"consensus_distance": consensus_distance(everyone[1])})
        return RoundState((), Worker(params, local_state, velocity)), info

    # The move and the slow model, from and to the partner.
    return LocalAlgorithm(
        init,
        round_fn,
        mean_params,
        lambda params: 2 * dense_bytes(params),
        bytes_received=lambda params, num_workers: 2 * dense_bytes(params),
    )


def draw_partners(key: jax.Array, num_workers: int) -> Int[Array, "n"]:
    """A partner for each worker: pairs of a random order; who is left over is its own."""
    order = jax.random.permutation(key, num_workers)
    place = jnp.arange(num_workers)
    neighbour = jnp.minimum(place + 1 - 2 * (place % 2), num_workers - 1)
    return jnp.zeros(num_workers, order.dtype).at[order].set(order[neighbour])
