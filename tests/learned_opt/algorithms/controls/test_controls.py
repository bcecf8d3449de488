"""The controls against NumPy loops, optax's lookahead, and each other in their limits."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
from learned_opt.algorithms.controls.gpa import gpa
from learned_opt.algorithms.controls.lookahead import lookahead
from learned_opt.algorithms.controls.snoo import snoo
from learned_opt.algorithms.controls.synchronous import synchronous
from learned_opt.algorithms.round import dense_bytes
from tests.learned_opt.algorithms.quadratics import (
    KEY,
    NUM_PARAMS,
    PARAMS,
    assert_close,
    draw_batches,
    gradient,
    loss_fn,
    start,
    train,
)

STEPS = 3
BATCHES = draw_batches(4, 2, STEPS)


def mean_gradient(x, batches, step):
    return np.mean([gradient(x, worker[step]) for worker in batches], axis=0)


def test_synchronous_steps_are_sgd_on_the_mean_gradient():
    x, path = start(), []
    for batches in BATCHES:
        for step in range(STEPS):
            x = x - 0.1 * mean_gradient(x, batches, step)
        path.append(x)
    assert_close(train(synchronous(optax.sgd(0.1), STEPS), BATCHES)[0], path)


def test_losses_are_a_workers_own_before_each_step():
    _, _, infos = train(synchronous(optax.sgd(0.1), STEPS), BATCHES)
    assert infos[0].losses.shape == (2, STEPS)
    expected = [loss_fn(PARAMS, KEY, jnp.asarray(worker[0])) for worker in BATCHES[0]]
    np.testing.assert_allclose(infos[0].losses[:, 0], expected, rtol=1e-6)


def test_lookahead_of_one_worker_is_optax_lookahead():
    batches = draw_batches(4, 1, STEPS)
    inner = optax.sgd(0.1, 0.9)
    tx = optax.lookahead(inner, sync_period=STEPS, slow_step_size=0.3)
    params: Any = optax.LookaheadParams.init_synced(PARAMS)
    state, path = tx.init(params), []
    with jax.numpy_dtype_promotion("standard"):
        for batch in batches[:, 0]:
            for step in range(STEPS):
                g = jax.grad(loss_fn)(params.fast, KEY, jnp.asarray(batch[step]))
                updates, state = tx.update(g, state, params)
                params = optax.apply_updates(params, updates)
            path.append(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(params.slow)]))
    assert_close(train(lookahead(inner, STEPS, 0.3), batches)[0], path)


def test_lookahead_with_a_whole_slow_step_is_its_optimizer():
    inner = optax.sgd(0.1, 0.9)
    assert_close(train(lookahead(inner, STEPS, 1.0), BATCHES)[0], train(synchronous(inner, STEPS), BATCHES)[0])


def test_snoo_against_a_loop():
    a, b, x, m, path = 0.6, 0.8, start(), np.zeros(NUM_PARAMS), []
    for batches in BATCHES:
        y = x
        for step in range(STEPS):
            y = y - 0.1 * mean_gradient(y, batches, step)
        m = b * m + (x - y)
        x = x - a * (b * m + (x - y))
        path.append(x)
    assert_close(train(snoo(optax.sgd(0.1), STEPS, a, b), BATCHES)[0], path)


def test_snoo_without_momentum_is_lookahead():
    snoo_path = train(snoo(optax.sgd(0.1), STEPS, 0.5, 0.0), BATCHES)[0]
    np.testing.assert_array_equal(snoo_path, train(lookahead(optax.sgd(0.1), STEPS, 0.5), BATCHES)[0])


def test_gpa_against_a_loop():
    mu_x, mu_y, decay, x, z, path = 0.8, 0.7, 0.05, start(), start(), []
    for batches in BATCHES:
        for step in range(STEPS):
            y = mu_y * x + (1 - mu_y) * z
            # Decay acts where the gradient is taken.
            z = z - 0.1 * (mean_gradient(y, batches, step) + decay * y)
            x = mu_x * x + (1 - mu_x) * z
        path.append(x)
    opt = optax.chain(optax.add_decayed_weights(decay), optax.sgd(0.1))
    assert_close(train(gpa(opt, STEPS, mu_x, mu_y), BATCHES)[0], path)


def test_gpa_without_averaging_is_its_optimizer():
    inner = optax.sgd(0.1, 0.9)
    found = train(gpa(inner, STEPS, averaging=0.0), BATCHES)[0]
    assert_close(found, train(synchronous(inner, STEPS), BATCHES)[0])


@pytest.mark.parametrize(("num_local_steps", "published"), [(8, 0.9869), (32, 0.9967), (64, 0.9984)])
def test_gpa_averages_as_published_for_its_number_of_local_steps(num_local_steps, published):
    algorithm = learned_opt.simulate(gpa(optax.sgd(0.0), num_local_steps), 1)
    state = algorithm.init(PARAMS)
    state = state._replace(shared=state.shared._replace(iterate=jax.tree.map(jnp.zeros_like, PARAMS)))
    state, _ = algorithm.round(loss_fn, state, KEY, jnp.zeros((1, num_local_steps, 1, NUM_PARAMS)))
    # With z held at 0, H steps shrink x by mu_x^H.
    np.testing.assert_allclose(algorithm.params(state)["b"], 0.9 * PARAMS["b"], rtol=1e-5)
    np.testing.assert_allclose(0.9 ** (1 / num_local_steps), published, atol=5e-5)


@pytest.mark.parametrize("make", [synchronous, lookahead, snoo, gpa])
def test_gradients_are_sent_at_every_step_and_its_number_must_fit(make):
    algorithm = make(optax.sgd(0.1), STEPS)
    assert algorithm.bytes_sent(PARAMS) == STEPS * dense_bytes(PARAMS) == STEPS * 4 * NUM_PARAMS
    with pytest.raises(ValueError, match="num_local_steps=3: the batches have 2 local steps; use 2"):
        train(algorithm, draw_batches(1, 2, 2))
    with pytest.raises(ValueError, match="num_local_steps=0: use at least 1"):
        make(optax.sgd(0.1), 0)
