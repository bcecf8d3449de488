"""SAM, SA-SGD and SA-SAM against NumPy loops on a quadratic, where every gradient is known."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt.algorithms.data_parallel import data_parallel
from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.algorithms.round import simulate
from learned_opt.algorithms.server import fedavg
from learned_opt.optimizers.sam import sam
from learned_opt.optimizers.smoothness_adaptive import SMALLEST, sa_sam, sa_sgd

CURVATURES = np.array([1.0, 4.0, 0.5])
"""The batch b of a step gives the gradient c (y - b), of different batches different ones."""
BATCHES = np.random.default_rng(0).normal(size=(8, 3))


def run(optimizer):
    @jax.jit
    def whole(y):
        def step(carry, b):
            y, state = carry

            def grad_fn(y, _=None):
                return jnp.asarray(CURVATURES, jnp.float32) * (y - b)

            updates, state = optimizer.update(grad_fn(y), state, y, grad_fn=grad_fn)
            return (y + updates, state), y + updates

        return jax.lax.scan(step, (y, optimizer.init(y)), jnp.asarray(BATCHES, jnp.float32))[1]

    return whole(jnp.float32([1.0, -2.0, 0.5]))


def loop(rho_of_rate, rate=0.3, amplify=0.5, damp=2.0):
    y, before, history = np.array([1.0, -2.0, 0.5]), None, []
    theta = 1.0
    for b in BATCHES:
        g = CURVATURES * (y - b)
        if before is not None:
            bent = np.linalg.norm(g - CURVATURES * (before - b))
            new = min(np.sqrt(1 + amplify * theta) * rate, np.linalg.norm(y - before) / (damp * bent)) + SMALLEST
            theta, rate = new / rate, new
        up = y + rho_of_rate(rate) * g / np.linalg.norm(g)
        before, y = y, y - rate * CURVATURES * (up - b)
        history.append(y)
    return history


def test_sa_sgd_equals_a_loop():
    np.testing.assert_allclose(run(sa_sgd(0.3, amplify=0.5, damp=2.0)), loop(lambda rate: 0), rtol=2e-4, atol=1e-5)


def test_sa_sam_equals_a_loop():
    np.testing.assert_allclose(run(sa_sam(0.3, amplify=0.5, damp=2.0)), loop(np.sqrt), rtol=2e-4, atol=1e-5)


def test_sam_equals_a_loop():
    y, m = np.array([1.0, -2.0, 0.5]), 0.0
    for b, found in zip(BATCHES, run(sam(0.05, rho=0.2, momentum=0.5)), strict=True):
        g = CURVATURES * (y - b)
        m = 0.5 * m + CURVATURES * (y + 0.2 * g / np.linalg.norm(g) - b)
        y = y - 0.05 * m
        np.testing.assert_allclose(found, y, rtol=2e-4, atol=1e-5)


def test_one_curvature_gives_its_inverse_as_the_rate():
    """On c y^2 / 2 the rate is bounded by 1 / c from the second step on, which solves it at once."""
    y = jnp.float32([1.0, 2.0])
    optimizer: Any = sa_sgd(0.02)
    state = optimizer.init(y)
    for _ in range(2):
        updates, state = optimizer.update(4 * y, state, y, grad_fn=lambda y, _=None: 4 * y)
        y = y + updates
    assert state.rate == pytest.approx(0.02 * np.sqrt(1.02), rel=1e-5)
    large = optimizer.init(y)._replace(count=jnp.int32(1), rate=jnp.float32(9.0), previous=jnp.float32([1.0, 2.0]))
    _, large = optimizer.update(4 * y, large, y, grad_fn=lambda y, _=None: 4 * y)
    assert large.rate == pytest.approx(0.25, rel=1e-5)


def test_a_schedule_multiplies_the_steps_by_its_value_over_its_first():
    y = jnp.float32([1.0, 2.0])
    rates = jnp.float32([0.1, 0.05])
    steady: Any = sa_sgd(0.1)
    halved: Any = sa_sgd(lambda count: rates[count])
    state = steady.init(y)
    for share in (1.0, 0.5):
        one, after = steady.update(y, state, y, grad_fn=lambda y, _=None: y)
        other, _ = halved.update(y, state, y, grad_fn=lambda y, _=None: y)
        np.testing.assert_allclose(other, share * one, rtol=1e-6)
        state = after


@pytest.mark.parametrize("make", [sa_sgd, sa_sam])
def test_a_schedule_that_begins_at_zero_is_refused(make):
    with pytest.raises(ValueError, match="learning_rate begins at 0, .* a schedule that begins above 0"):
        make(optax.linear_schedule(0.0, 0.1, 10))


def quadratic(params, key, batch):
    del key
    return jnp.mean(jnp.sum(jnp.asarray(CURVATURES, jnp.float32)[None] * jnp.square(params[None] - batch), axis=-1)) / 2


@pytest.mark.parametrize("make", [lambda: sam(0.05), lambda: sa_sam(0.05)])
def test_both_drivers_pass_the_gradient_of_the_batch(make):
    """Where all workers have one batch, one local step is a data-parallel one; and it is that of the loop."""
    batches = jnp.broadcast_to(jnp.asarray(BATCHES[:2], jnp.float32), (2, 1, 2, 3))
    params = jnp.float32([1.0, -2.0, 0.5])
    found = []
    for algorithm in (local_sgd(make(), fedavg()), data_parallel(make())):
        driven = simulate(algorithm, 2)
        state, _ = jax.jit(driven.round, static_argnums=0)(quadratic, driven.init(params), jax.random.key(0), batches)
        found.append(driven.params(state))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)
    assert optax.tree.norm(found[0] - params) > 0.01
