"""QG-DAdam (Lin et al. 2021, arXiv 2102.04761): gossip with Adam whose moments are those of how the models moved.

    H times: m = b1 m^_i + (1 - b1) g;   v = b2 v^_i + (1 - b2) g^2
             y_i <- y_i - eta m / (sqrt(v) + eps), bias-corrected
    x_i' = sum_j W_ij y_j;   d_i = (x_i - x_i') / norm(x_i - x_i'), over all parameters
    m^_i <- b1 m^_i + (1 - b1) d_i;   v^_i <- b2 v^_i + (1 - b2) d_i^2;   x_i <- x_i'

m and v are thrown away after their step. The authors' code adds g to the first moment with weight 1; Adam's 1 - b1 is
taken here, with which the first step is Adam's. Published with H = 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.algorithms.gossip.dpsgd import Shared
from learned_opt.algorithms.gossip.mixing import (
    at_round,
    consensus_distance,
    make_mixing,
    mean_params,
    mix_with_neighbours,
)
from learned_opt.algorithms.round import local_steps, worker_index
from learned_opt.base import LocalAlgorithm, Params, RoundInfo, RoundState

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Array, Float, PyTree


class Worker(NamedTuple):
    """A worker's model, and its moments m^ and v^, float32."""

    params: Params
    mean: PyTree
    second_moment: PyTree


def qg_adam(
    learning_rate: Any,
    weights: Float[np.ndarray, "period n n"],
    *,
    b1: float | Array = 0.9,
    b2: float | Array = 0.999,
    eps: float | Array = 1e-8,
) -> LocalAlgorithm:
    """QG-DAdam; diagnostics have the `consensus_distance`, a mean square, before the average.

    Args:
      learning_rate: eta, a number or an optax schedule over rounds.
      weights: mixing matrices, see `topology`.
      b1: decay of the mean.
      b2: decay of the second moment.
      eps: added to sqrt(v).

    Raises:
      ValueError: weights that do not sum to one or do not connect the workers; by `round`, for another number of them.
    """
    mixing = make_mixing(weights)

    def stepping(mean, second_moment, num_rounds):
        rate = at_round(learning_rate, num_rounds)
        # Moments that have met num_rounds moves, and one gradient.
        count = (num_rounds + 1).astype(jnp.float32)
        correct_mean, correct_second = 1 - b1**count, 1 - b2**count

        def update(updates, state, params=None, **extra):
            del extra, params

            def step(g, m, v):
                wide = g.astype(jnp.float32)
                m = (b1 * m + (1 - b1) * wide) / correct_mean
                v = (b2 * v + (1 - b2) * jnp.square(wide)) / correct_second
                return (-rate * m / (jnp.sqrt(v) + eps)).astype(g.dtype)

            return jax.tree.map(step, updates, mean, second_moment), state

        return optax.GradientTransformationExtraArgs(lambda params: (), update)

    def init(params):
        zeros = jax.tree.map(lambda p: jnp.zeros(jnp.shape(p), jnp.float32), params)
        return RoundState(Shared(jnp.int32(0)), Worker(params, zeros, zeros))

    def round_fn(loss_fn, state, key, batches):
        (num_rounds,), (start, mean, second_moment) = state
        opt = stepping(mean, second_moment, num_rounds)
        worker_key = jax.random.fold_in(key, worker_index())
        params, _, losses, _ = local_steps(loss_fn, opt, start, (), worker_key, batches)
        params, everyone = mix_with_neighbours(mixing, num_rounds, params)
        direction = unit(jax.tree.map(lambda before, after: (before - after).astype(jnp.float32), start, params))
        mean = jax.tree.map(lambda m, d: b1 * m + (1 - b1) * d, mean, direction)
        second_moment = jax.tree.map(lambda v, d: b2 * v + (1 - b2) * jnp.square(d), second_moment, direction)
        info = RoundInfo(losses, {"consensus_distance": consensus_distance(everyone)})
        return RoundState(Shared(num_rounds + 1), Worker(params, mean, second_moment)), info

    return LocalAlgorithm(init, round_fn, mean_params, mixing.bytes_sent, mixing.bytes_received)


def unit(tree: Any) -> Any:
    """The tree divided by its norm; zeros stay zeros."""
    norm = optax.tree.norm(tree)
    return jax.tree.map(lambda x: x / jnp.where(norm > 0, norm, 1), tree)
