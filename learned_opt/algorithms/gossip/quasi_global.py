"""QG-DSGDm-N (Lin et al. 2021, arXiv 2102.04761): gossip whose momentum is that of the models, not of the gradients.

    H times: g = grad(y_i) + wd y_i;  m = beta m^_i + g;  y_i <- y_i - eta (g + beta m)      Nesterov's form, "-N"
    x_i' = sum_j W_ij y_j
    m^_i <- mu m^_i + (1 - mu) (x_i - x_i') / (eta H);   x_i <- x_i'

In a round of rate 0, as the first of a warm-up is, the momentum stays: what the models moved says nothing of gradients.
m is thrown away after its step: what remains, m^, is built from how the averaged models moved, which on different data
is nearly the same for all workers where their gradients are not. Published with H = 1, and without momentum (beta = 0)
it is D-PSGD with SGD.
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
    """A worker's model, and its momentum m^, float32."""

    params: Params
    momentum: PyTree


def qg_dsgdm(
    learning_rate: Any,
    weights: Float[np.ndarray, "period n n"],
    *,
    beta: float | Array = 0.9,
    mu: float | Array = 0.9,
    weight_decay: float | Array = 1e-4,
) -> LocalAlgorithm:
    """QG-DSGDm-N; diagnostics have the `consensus_distance`, a mean square, before the average.

    Args:
      learning_rate: eta, a number or an optax schedule over rounds.
      weights: mixing matrices, see `topology`.
      beta: of the momentum in a step.
      mu: of the momentum that is kept.
      weight_decay: added to the gradient.

    Raises:
      ValueError: weights that do not sum to one or do not connect the workers; by `round`, for another number of them.
    """
    mixing = make_mixing(weights)

    def stepping(momentum, rate):
        def update(updates, state, params=None, **extra):
            del extra

            def step(g, m, y):
                g = (g + weight_decay * y).astype(jnp.float32)
                return (-rate * (g + beta * (beta * m + g))).astype(y.dtype)

            return jax.tree.map(step, updates, momentum, params), state

        return optax.GradientTransformationExtraArgs(lambda params: (), update)

    def init(params):
        momentum = jax.tree.map(lambda p: jnp.zeros(jnp.shape(p), jnp.float32), params)
        return RoundState(Shared(jnp.int32(0)), Worker(params, momentum))

    def round_fn(loss_fn, state, key, batches):
        (num_rounds,), (start, momentum) = state
        rate = at_round(learning_rate, num_rounds)
        worker_key = jax.random.fold_in(key, worker_index())
        params, _, losses, _ = local_steps(loss_fn, stepping(momentum, rate), start, (), worker_key, batches)
        params, everyone = mix_with_neighbours(mixing, num_rounds, params)
        stands = jnp.asarray(rate) == 0
        length = losses.shape[0] * jnp.where(stands, 1, rate)

        def moved(m, before, after):
            return jnp.where(stands, m, mu * m + (1 - mu) * (before - after).astype(jnp.float32) / length)

        momentum = jax.tree.map(moved, momentum, start, params)
        info = RoundInfo(losses, {"consensus_distance": consensus_distance(everyone)})
        return RoundState(Shared(num_rounds + 1), Worker(params, momentum)), info

    return LocalAlgorithm(init, round_fn, mean_params, mixing.bytes_sent, mixing.bytes_received)
