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
        falls = np.stack(
            [_falls(algorithm, params, protocol.num_workers, num_rounds, num_steps, s) for s in (1.0, 2.0)]
        )
        if not np.any(falls):
            continue
        in_units = falls / np.array([[1.0], [4.0]])
        steps_a_round = protocol.num_local_steps if num_rounds == 1 else 1
        factors = _factors(protocol, np.arange(2), steps_a_round)
        eta = in_units[0, 0] / factors[0]
        if eta > 0 and np.allclose(in_units, eta * factors[None], rtol=TOLERANCE):
            return eta * _factors(protocol, (rounds - 1) * steps_a_round, steps_a_round)
        break
    return np.full(len(rounds), np.nan, np.float32)


def _factors(protocol: EvalProtocol, steps: Int[np.ndarray, "n"], steps_a_round: int) -> Float[np.ndarray, "n"]:
    total = protocol.num_rounds * steps_a_round
    return np.array([factor(protocol.schedule, step, total) for step in steps], np.float32)


def _falls(
    algorithm: LocalAlgorithm, params: PyTree, num_workers: int, num_rounds: int, num_steps: int, scale: float
) -> Float[np.ndarray, "2"]:
    """By how much the loss falls in the first two steps, over |c|^2."""
    simulated = simulate(algorithm, num_workers)
    leaves, tree = jax.tree.flatten(jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), params))
    keys = jax.random.split(jax.random.key(0), len(leaves))
    slope = tree.unflatten([jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)])

    def inner(x: PyTree, y: PyTree) -> Float[Array, ""]:
        products = jax.tree.map(lambda a, b: jnp.sum(a.astype(jnp.float32) * b.astype(jnp.float32)), x, y)
        return jnp.sum(jnp.stack(jax.tree.leaves(products)))

    def loss(x, key, batch):
        del key
        return scale * inner(x, slope) + 0 * jnp.sum(batch["x"])

    @jax.jit
    def losses(slope_norm):
        state, found = simulated.init(tree.unflatten(leaves)), []
        for number in range(num_rounds):
            batches = {"x": jnp.zeros((num_workers, num_steps, 1))}
            state, info = simulated.round(loss, state, jax.random.key(number), batches)
            found.append(jnp.reshape(info.losses[0], -1))
        return jnp.concatenate(found) / slope_norm

    return -np.diff(np.asarray(losses(inner(slope, slope)), np.float64))[:2]
