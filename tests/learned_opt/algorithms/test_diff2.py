"""DIFF2 against a NumPy loop, in its limits, and its noise against its size."""

import itertools

import jax
import numpy as np
import optax
import pytest

from learned_opt.algorithms.data_parallel import data_parallel
from learned_opt.algorithms.diff2 import diff2
from tests.learned_opt.algorithms.quadratics import (
    NUM_PARAMS,
    PARAMS,
    assert_close,
    draw_batches,
    gradient,
    start,
    train,
)

WORKERS, STEPS, ETA = 2, 2, 0.1
BATCHES = draw_batches(6, WORKERS, STEPS)


def clip(x, size):
    return x * min(1, size / np.linalg.norm(x))


def test_against_a_loop():
    c1, c2, x, previous, v, path = 4.5, 1.7, start(), start(), np.zeros(NUM_PARAMS), []
    clipped = 0
    for t, batches in enumerate(BATCHES):
        worker_batches = [worker.reshape(-1, NUM_PARAMS) for worker in batches]
        if t % 4 == 0:
            sent = [gradient(x, batch) for batch in worker_batches]
            clipped += sum(np.linalg.norm(g) > c1 for g in sent)
            v = np.mean([clip(g, c1) for g in sent], axis=0)
        else:
            moved = np.linalg.norm(x - previous)
            sent = [gradient(x, batch) - gradient(previous, batch) for batch in worker_batches]
            clipped += sum(np.linalg.norm(g) > c2 * moved for g in sent)
            v = v + np.mean([clip(g, c2 * moved) for g in sent], axis=0)
        previous, x = x, x - ETA * v
        path.append(x)
    assert 4 < clipped < 12
    assert_close(train(diff2(optax.sgd(ETA), 4, gradient_clip=c1, difference_clip=c2), BATCHES)[0], path)


def test_a_restart_every_round_is_data_parallel():
    local_opt = optax.sgd(ETA, 0.9)
    assert_close(train(diff2(local_opt, 1), BATCHES)[0], train(data_parallel(local_opt), BATCHES)[0])


def test_without_noise_it_is_gradient_descent_on_data_that_stay():
    batches = np.broadcast_to(BATCHES[:1], BATCHES.shape)
    assert_close(train(diff2(optax.sgd(ETA), 1000), batches)[0], train(data_parallel(optax.sgd(ETA)), batches)[0])


def test_the_estimate_forgets_the_noise_of_single_batches_less_and_less():
    """Variance reduction: with a small step, a fresh batch moves the estimate by little."""
    many = draw_batches(40, WORKERS, STEPS)
    _, states, _ = train(diff2(optax.sgd(0.01), 1000), many)
    moves = np.diff([np.ravel(state.shared.estimate["b"]) for state in states], axis=0)
    fresh = [np.mean([gradient(start(), w.reshape(-1, NUM_PARAMS)) for w in batches], axis=0)[1:5] for batches in many]
    assert np.std(moves) < 0.2 * np.std(fresh)


@pytest.mark.parametrize("key_seed", [0, 1])
def test_noise_has_its_size(key_seed):
    key, zero = jax.random.key(key_seed), np.zeros((300, WORKERS, 1, 1, NUM_PARAMS), np.float32)
    params = jax.tree.map(np.zeros_like, PARAMS)
    # The step is -1 times the estimate, restarted every round from a gradient of 0: x is a sum of noise.
    found, _, _ = train(diff2(optax.sgd(1.0), 1, gradient_noise=0.5, gradient_clip=0.0), zero, params, key)
    noise = np.diff(found, axis=0)
    assert np.std(noise) == pytest.approx(0.5, rel=0.06)
    assert abs(np.corrcoef(noise[:, 1], noise[:, 2])[0, 1]) < 0.2


def test_noise_on_differences_is_that_of_the_step():
    zero = np.zeros((3, WORKERS, 1, 1, NUM_PARAMS), np.float32)
    algorithm = diff2(optax.sgd(ETA), 1000, difference_clip=0.0, difference_noise=0.5)
    _, states, _ = train(algorithm, zero)
    norms = [np.linalg.norm(_flat(s.shared.params) - _flat(s.shared.previous)) for s in states]
    moves = [np.linalg.norm(_flat(b.shared.estimate) - _flat(a.shared.estimate)) for a, b in itertools.pairwise(states)]
    # Six standard normal numbers have a norm of 2.4, nearly always between 0.5 and 5.
    for move, norm in zip(moves, norms, strict=False):
        assert 0.5 * 0.5 * norm < move < 0.5 * 5 * norm


def _flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def test_no_restart_is_named():
    with pytest.raises(ValueError, match="restart_every=0: use at least 1"):
        diff2(optax.sgd(ETA), 0)
