"""The learning rate of a training algorithm whose steps are plain gradient steps, found by trying.

On the linear loss s <c, x> a gradient step with rate eta lowers the loss by eta s^2 |c|^2, and the next one by as much.
Two steps at s = 1 and s = 2 tell such steps from all others: Adam's and Muon's fall does not grow with s^2, and with
momentum the second step is larger than the first. What is tried first are the local steps of a round, then rounds of
one step, for what steps once a round.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from eval.protocol import EvalProtocol
from eval.schedules import factor
from learned_opt.algorithms.round import simulate
from learned_opt.base import LocalAlgorithm

SCALES = (1.0, 2.0)

TOLERANCE = 1e-3
"""Relative; of float32 sums."""


def sgd_rates(
    algorithm: LocalAlgorithm, params: PyTree, protocol: EvalProtocol, rounds: Int[np.ndarray, "points"]
) -> Float[np.ndarray, "points"]:
    """eta in each of these rounds; nan for an algorithm whose steps are not y <- y - eta g.

    Args:
      algorithm: of one worker, its settings are numbers.
      params: of the task, for their shapes.
      protocol: of the comparison; its schedule was applied by who made the algorithm.
      rounds: counted from one.
    """
    for num_rounds, num_steps in ((1, 3), (3, 1)):
        falls = _falls(algorithm, params, protocol.num_workers, num_rounds, num_steps)
        if not np.any(falls):
            continue
        steps_a_round = protocol.num_local_steps if num_rounds == 1 else 1
        factors = _factors(protocol, np.arange(2), steps_a_round)
        eta = falls[0, 0] / factors[0]
        if eta > 0 and np.allclose(falls, eta * factors[None], rtol=TOLERANCE):
            return eta * _factors(protocol, (rounds - 1) * steps_a_round, steps_a_round)
        break
    return np.full(len(rounds), np.nan, np.float32)


def _factors(protocol: EvalProtocol, steps: Int[np.ndarray, "n"], steps_a_round: int) -> Float[np.ndarray, "n"]:
    total = protocol.num_rounds * steps_a_round
    return np.array([factor(protocol.schedule, step, total) for step in steps], np.float32)


def _falls(
    algorithm: LocalAlgorithm, params: PyTree, num_workers: int, num_rounds: int, num_steps: int
) -> Float[np.ndarray, "scales steps"]:
    """By how much the loss falls in the first two steps, over s^2 |c|^2, for each s of SCALES."""
    simulated = simulate(algorithm, num_workers)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), params)
    rng = np.random.default_rng(0)
    slope = jax.tree.map(lambda x: jnp.asarray(rng.standard_normal(x.shape), jnp.float32), params)
    square = sum(float(np.sum(np.square(leaf))) for leaf in jax.tree.leaves(slope))

    @jax.jit
    def losses(scale: Float[Array, ""], slope: PyTree) -> Float[Array, "losses"]:
        def loss(x, key, batch):
            del key
            products = [jnp.sum(a * b) for a, b in zip(jax.tree.leaves(x), jax.tree.leaves(slope), strict=True)]
            return scale * jnp.sum(jnp.stack(products)) + 0 * jnp.sum(batch["x"])

        state, found = simulated.init(zeros), []
        for number in range(num_rounds):
            batches = {"x": jnp.zeros((num_workers, num_steps, 1))}
            state, info = simulated.round(loss, state, jax.random.key(number), batches)
            found.append(jnp.reshape(info.losses[0], -1))
        return jnp.concatenate(found)

    found = [np.asarray(losses(jnp.float32(scale), slope), np.float64) / (scale**2 * square) for scale in SCALES]
    return -np.diff(np.stack(found), axis=1)[:, :2]
