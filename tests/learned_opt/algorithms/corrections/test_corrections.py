"""The corrections against NumPy loops of the published rules, their limits, and the optimum that they are for.

On quadratics of different minima and curvatures, local SGD with many local steps comes to rest off the minimum of the
mean loss; SCAFFOLD, FedDyn and FedSpeed come to rest at it.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
from learned_opt.algorithms.corrections.feddyn import feddyn
from learned_opt.algorithms.corrections.fedprox import fedprox
from learned_opt.algorithms.corrections.fedspeed import fedspeed
from learned_opt.algorithms.corrections.scaffold import scaffold
from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.algorithms.round import dense_bytes
from learned_opt.algorithms.server import diloco
from tests.learned_opt.algorithms.quadratics import (
    KEY,
    NUM_PARAMS,
    PARAMS,
    assert_close,
    draw_batches,
    gradient,
    start,
    train,
)

WORKERS, STEPS, ETA = 3, 4, 0.1
BATCHES = draw_batches(4, WORKERS, STEPS)
SGD = optax.sgd(ETA)


def test_fedprox_against_a_loop():
    mu, x, path = 0.5, start(), []
    for batches in BATCHES:
        ends = []
        for worker in batches:
            y = x
            for step in range(STEPS):
                y = y - ETA * (gradient(y, worker[step]) + mu * (y - x))
            ends.append(y)
        x = np.mean(ends, axis=0)
        path.append(x)
    assert_close(train(fedprox(SGD, mu), BATCHES)[0], path)


@pytest.mark.optimized
def test_fedprox_without_its_term_is_local_sgd():
    found, _, _ = train(fedprox(SGD, 0.0, diloco()), BATCHES)
    np.testing.assert_array_equal(found, train(local_sgd(SGD, diloco()), BATCHES)[0])


def test_scaffold_against_the_papers_option_two():
    eta_g, x, c, controls, path = 0.8, start(), np.zeros(NUM_PARAMS), np.zeros((WORKERS, NUM_PARAMS)), []
    for batches in BATCHES:
        ends, new_controls = [], []
        for k, worker in enumerate(batches):
            y = x
            for step in range(STEPS):
                y = y - ETA * (gradient(y, worker[step]) + c - controls[k])
            ends.append(y)
            new_controls.append(controls[k] - c + (x - y) / (STEPS * ETA))
        c = c + np.mean(np.asarray(new_controls) - controls, axis=0)
        controls = np.asarray(new_controls)
        x = x + eta_g * np.mean(np.asarray(ends) - x, axis=0)
        path.append(x)
    found, states, _ = train(scaffold(SGD, optax.sgd(eta_g)), BATCHES)
    assert_close(found, path)
    assert_close(states[-1].shared.control["b"].ravel(), c[1:5])
    assert_close(states[-1].worker.control["b"].reshape(WORKERS, 4), controls[:, 1:5])


def numpy_fedspeed(mu, rho, alpha):
    x, drifts, path = start(), np.zeros((WORKERS, NUM_PARAMS)), []
    for batches in BATCHES:
        sent = []
        for k, worker in enumerate(batches):
            y = x
            for step in range(STEPS):
                g1 = gradient(y, worker[step])
                g2 = gradient(y + rho * g1 / np.linalg.norm(g1), worker[step])
                y = y - ETA * ((1 - alpha) * g1 + alpha * g2 + mu * (y - x) + mu * drifts[k])
            drifts[k] += y - x
            sent.append(y + drifts[k])
        x = np.mean(sent, axis=0)
        path.append(x)
    return path


def test_fedspeed_against_a_loop():
    assert_close(train(fedspeed(SGD, 0.5, 0.3, 0.7), BATCHES)[0], numpy_fedspeed(0.5, 0.3, 0.7))


def test_feddyn_against_a_loop():
    assert_close(train(feddyn(SGD, 0.5), BATCHES)[0], numpy_fedspeed(0.5, 0.0, 0.0))


@pytest.mark.parametrize("settings", [{"rho": 0.0}, {"alpha": 0.0}])
def test_fedspeed_without_a_step_uphill_is_feddyn(settings):
    found = train(fedspeed(SGD, 0.5, **settings), BATCHES)[0]
    np.testing.assert_allclose(found, train(feddyn(SGD, 0.5), BATCHES)[0], rtol=1e-6, atol=1e-7)


def distance_to_the_optimum(algorithm, num_rounds=150):
    """Workers with losses 1/2 a_k (x - t_k)^2: the optimum is sum(a t) / sum(a)."""
    curvature, target = jnp.asarray([0.5, 1.0, 2.0]), jnp.asarray([1.0, -1.0, 3.0])

    def loss_fn(params, key, batch):
        del key
        return 0.5 * batch[0] * jnp.square(params - batch[1])

    workers = jnp.stack([curvature, target], axis=1)
    batches = jnp.broadcast_to(workers[:, None], (3, 10, 2))
    algorithm = learned_opt.simulate(algorithm, 3)
    state, _ = jax.lax.scan(
        lambda state, _: algorithm.round(loss_fn, state, KEY, batches),
        algorithm.init(jnp.float32(0)),
        length=num_rounds,
    )
    return abs(float(algorithm.params(state)) - float(jnp.sum(curvature * target) / jnp.sum(curvature)))


def test_the_corrections_come_to_rest_where_the_mean_loss_is_least():
    assert distance_to_the_optimum(local_sgd(optax.sgd(0.2), optax.sgd(1.0))) > 0.1
    # FedDyn's own step is 1 / mu, against curvatures of 0.5 to 2.
    for algorithm in (scaffold(optax.sgd(0.2)), feddyn(optax.sgd(0.2), 1.0), fedspeed(optax.sgd(0.2), 1.0, 0.0)):
        assert distance_to_the_optimum(algorithm) < 1e-4


def test_bytes():
    dense = dense_bytes(PARAMS)
    assert scaffold(SGD).bytes_sent(PARAMS) == 2 * dense
    assert [make(SGD).bytes_sent(PARAMS) for make in (fedprox, feddyn, fedspeed)] == [dense] * 3
