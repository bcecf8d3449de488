"""One step for several calls is the step on their means, for every worker's updates too."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
from learned_opt.algorithms.accumulated import accumulated
from learned_opt.architectures.lagg_set import lagg_set
from learned_opt.base import LearnedOptimizer

K, N = 2, 3
PARAMS = {"w": np.asarray([[0.5, -1.0, 0.1], [0.2, 0.3, -0.4]], np.float32), "b": np.asarray([0.3, -0.6], np.float32)}


def reader(reads: Any = "workers"):
    """A server whose step shows everything that it was given."""

    def update(updates, state, params=None, *, worker_updates=None, value=None):
        workers = jax.tree.map(lambda w: w[0] - 2 * w[1], worker_updates) if worker_updates else updates
        return jax.tree.map(lambda u, w: u + 10 * w + value, updates, workers), state + 1

    tx: Any = optax.GradientTransformationExtraArgs(lambda params: jnp.int32(0), update)
    config = {"architecture": "reader"}
    return LearnedOptimizer(
        lambda key: {}, lambda theta, num_steps=None: tx, config, reads, K if reads == "workers" else None
    ), tx


def calls(num_calls) -> Any:
    rng = np.random.default_rng(0)
    workers = [
        jax.tree.map(lambda p: rng.normal(size=(K, *p.shape)).astype(np.float32), PARAMS) for _ in range(num_calls)
    ]
    return [(jax.tree.map(lambda w: np.mean(w, axis=0), own), own) for own in workers]


@pytest.mark.parametrize("reads", ["workers", "mean"])
def test_a_step_is_that_on_the_means(reads):
    lopt, tx = reader(reads)
    several: Any = accumulated(lopt, tx, N)
    state, given = several.init(PARAMS), calls(2 * N)
    update = jax.jit(several.update)
    for t, (updates, workers) in enumerate(given):
        found, state = update(updates, state, PARAMS, worker_updates=workers, value=jnp.float32(t))
        if t % N < N - 1:
            assert not any(np.any(leaf) for leaf in jax.tree.leaves(found))
            continue
        mean, own = jax.tree.map(lambda *x: sum(x) / N, *given[t - N + 1 : t + 1])
        workers = own if reads == "workers" else jax.tree.map(lambda u: np.stack([u, 0 * u]), mean)
        expected = jax.tree.map(lambda u, w, t=t: u + 10 * (w[0] - 2 * w[1]) + t, mean, workers)
        chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-5)
    assert state.inner == 2 and state.num_calls == 0


def test_lagg_reads_the_mean_of_each_worker():
    lopt = learned_opt.lagg_a(num_workers=K, hidden_size=2, step_mult=1.0)
    tx = lopt.transform(lopt.init(jax.random.key(0)))
    several: Any = accumulated(lopt, tx, 2)
    state, given = several.init(PARAMS), calls(2)
    update, found = jax.jit(several.update), None
    for updates, workers in given:
        found, state = update(updates, state, PARAMS, worker_updates=workers)
    mean, own = jax.tree.map(lambda *x: sum(x) / 2, *given)
    expected, _ = jax.jit(tx.update)(mean, tx.init(PARAMS), PARAMS, worker_updates=own)
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-5)


def test_one_call_is_the_transform_itself():
    lopt, tx = reader()
    ((updates, workers),) = calls(1)
    several: Any = accumulated(lopt, tx, 1)
    found, _ = several.update(updates, several.init(PARAMS), PARAMS, worker_updates=workers, value=0.0)
    expected, _ = tx.update(updates, jnp.int32(0), worker_updates=workers, value=0.0)
    chex.assert_trees_all_equal(found, expected)


def test_bfloat16_updates_are_averaged_in_float32():
    lopt, tx = reader("mean")
    several: Any = accumulated(lopt, tx, 256)
    params = {"w": jnp.ones(2, jnp.bfloat16)}
    state = several.init(params)
    one = {"w": jnp.full(2, 1 + 2**-7, jnp.bfloat16)}
    for _ in range(3):
        _, state = several.update(one, state, params, value=jnp.bfloat16(0))
    np.testing.assert_allclose(state.updates["w"], 1 + 2**-7, rtol=1e-6)
    assert state.updates["w"].dtype == jnp.float32


def test_mistakes_are_named():
    lopt, tx = reader()
    with pytest.raises(ValueError, match="num_calls=0"):
        accumulated(lopt, tx, 0)
    with pytest.raises(ValueError, match="lagg_set reads statistics of one round's workers: take more local steps"):
        accumulated(lagg_set(), tx, 2)
    several: Any = accumulated(lopt, tx, 2)
    with pytest.raises(ValueError, match="worker_updates is None: reader"):
        several.update(PARAMS, several.init(PARAMS), PARAMS)
