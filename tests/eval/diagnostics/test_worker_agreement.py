"""Agreement of workers against the definitions, written out in NumPy, and in limit cases."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from eval.diagnostics.table import round_measure
from eval.diagnostics.worker_agreement import WORKER_AGREEMENT
from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.algorithms.measured import measured
from learned_opt.algorithms.round import simulate


def worker_diagnostics(updates):
    measure = round_measure(("worker_agreement",), 4)
    assert measure is not None
    return measure(updates)


def by_definition(updates):
    """updates: [workers, parameters] float64."""
    mean = updates.mean(axis=0)
    consensus = np.mean([np.sum((u - mean) ** 2) for u in updates])
    cosines = [a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) for a, b in itertools.combinations(updates, 2)]
    trace = np.sum(np.var(updates, axis=0, ddof=1))
    return {
        "consensus_distance": consensus,
        "relative_consensus": consensus / np.sum(mean**2),
        "worker_cosine": np.mean(cosines),
        "coherence": np.sum(mean**2) / np.mean(np.sum(updates**2, axis=1)),
        "noise_scale": trace / (np.sum(mean**2) - trace / len(updates)),
    }


def test_definitions():
    updates = np.random.default_rng(0).normal(size=(5, 12)) + 1.0
    tree = {"a": jnp.float32(updates[:, :8]).reshape(5, 2, 4), "b": jnp.float32(updates[:, 8:])}
    found = worker_diagnostics(tree)
    assert list(found) == [diagnostic.name for diagnostic in WORKER_AGREEMENT]
    for name, expected in by_definition(updates).items():
        np.testing.assert_allclose(found[name], expected, rtol=2e-5, err_msg=name)


def test_limit_cases():
    equal = worker_diagnostics({"w": jnp.ones((3, 4))})
    assert equal["consensus_distance"] == 0 and equal["worker_cosine"] == pytest.approx(1)
    assert equal["coherence"] == pytest.approx(1) and equal["noise_scale"] == 0
    orthogonal = worker_diagnostics({"w": jnp.eye(4)})
    assert orthogonal["coherence"] == pytest.approx(1 / 4) and orthogonal["worker_cosine"] == pytest.approx(0)


def test_the_noise_scale_is_unbiased_enough_to_find_the_truth():
    # Signal of squared norm 1, noise of total variance 3: the noise scale is 3.
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(2000, 8, 30)) * np.sqrt(3 / 30)
    updates = np.float32(noise + np.eye(30)[0])
    found = jax.vmap(lambda u: worker_diagnostics({"w": u}))(jnp.asarray(updates))
    ratio = np.mean(found["consensus_distance"]) * 8 / 7
    signal = np.mean(found["consensus_distance"] / found["relative_consensus"]) - ratio / 8
    assert ratio / signal == pytest.approx(3, rel=0.05)


def test_they_are_those_of_what_the_workers_sent_and_change_nothing():
    def loss(params, key, batch):
        del key
        return jnp.mean((params["w"][None] - batch["x"]) ** 2)

    params = {"w": jnp.arange(3.0)}
    batches = {"x": jnp.float32(np.random.default_rng(0).normal(size=(4, 2, 5, 3)))}
    key = jax.random.key(0)
    one_worker = local_sgd(optax.sgd(0.5), optax.sgd(0.5, 0.9))
    plain, watched = simulate(one_worker, 4), simulate(measured(one_worker, worker_diagnostics), 4)
    state, _ = plain.round(loss, plain.init(params), key, batches)
    watched_state, info = watched.round(loss, watched.init(params), key, batches)
    jax.tree.map(np.testing.assert_array_equal, watched_state, state)
    # SGD on the squared distance: y <- y - 0.5 * 2 / 3 (y - mean of the batch), twice.
    sent = []
    for worker in np.asarray(batches["x"], np.float64):
        y = np.arange(3.0)
        for batch in worker:
            y = y - (y - batch.mean(axis=0)) / 3
        sent.append(np.arange(3.0) - y)
    for name, expected in by_definition(np.array(sent)).items():
        np.testing.assert_allclose(info.diagnostics[name], expected, rtol=1e-4, err_msg=name)
