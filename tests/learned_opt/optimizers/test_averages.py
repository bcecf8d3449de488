"""Averaged SGD and Schedule-Free: the averages, and that they are what is evaluated."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt.algorithms.data_parallel import data_parallel
from learned_opt.algorithms.round import simulate
from learned_opt.optimizers.asgd import asgd
from learned_opt.optimizers.schedule_free_adamw import schedule_free_adamw

TARGETS = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)


@pytest.fixture(autouse=True)
def standard_promotion():
    # optax's Adam raises a float to an integer power.
    with jax.numpy_dtype_promotion("standard"):
        yield


def half_square(params, key, batch):
    del key
    return jnp.mean(jnp.sum(jnp.square(params[None] - batch), axis=-1)) / 2


def evaluated(optimizer, num_rounds=6):
    """What data-parallel training returns after every round, and what it trains."""
    driven = simulate(data_parallel(optimizer), 1)
    state, history = driven.init(jnp.float32([1.0, -2.0, 3.0])), []
    round_fn = jax.jit(driven.round, static_argnums=0)
    for target in TARGETS[:num_rounds]:
        state, _ = round_fn(half_square, state, jax.random.key(0), jnp.asarray(target)[None, None, None])
        history.append((driven.params(state), state.shared.params))
    return history


@pytest.mark.parametrize("start", [0, 2])
def test_the_average_of_a_dense_network_is_that_of_its_iterates(start):
    y, iterates = np.array([1.0, -2.0, 3.0]), []
    for target, (average, found) in zip(TARGETS, evaluated(asgd(0.3, start)), strict=True):
        y = y - 0.3 * (y - target)
        iterates.append(y)
        np.testing.assert_allclose(found, y, rtol=1e-5)
        expected = np.mean(iterates[start:], axis=0) if len(iterates) > start else y
        np.testing.assert_allclose(average, expected, rtol=1e-5, atol=1e-6)


def test_the_average_of_a_weight_that_was_grown_holds_nothing_from_before():
    """Weight 0 lives on; weight 1 is pruned for two steps and grown again; weight 2 is never grown."""
    optimizer: Any = asgd(0.5)
    y = jnp.float32([1.0, 1.0, 0.0])
    state, masks = optimizer.init(y), [[1, 1, 0], [1, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 0], [1, 1, 0]]
    history = []
    for t, mask in enumerate(masks):
        updates, state = optimizer.update(jnp.float32([0.1, 0.2, 0.3]) * (t + 1), state, y)
        y = (y + updates) * jnp.float32(mask)
        history.append(np.asarray(y))
    history = np.stack(history)
    np.testing.assert_array_equal(state.weight_counts, [6, 2, 0])
    # Grown in the fourth step, counted from the fifth on.
    expected = [history[:, 0].mean(), history[4:, 1].mean(), 0]
    np.testing.assert_allclose(state.averaged_params, expected, rtol=1e-6)


def test_schedule_free_equals_a_loop_and_its_x_is_evaluated():
    rates, b1, b2 = np.array([0.1, 0.2, 0.3, 0.3, 0.3, 0.3]), 0.8, 0.9
    history = evaluated(schedule_free_adamw(lambda count: jnp.asarray(rates, jnp.float32)[count], b1, b2))
    x = z = y = np.array([1.0, -2.0, 3.0])
    v, total = 0.0, 0.0
    for t, (target, (found_x, found_y)) in enumerate(zip(TARGETS, history, strict=True)):
        g = y - target
        v = b2 * v + (1 - b2) * g**2
        z = z - rates[t] * g / (np.sqrt(v / (1 - b2 ** (t + 1))) + 1e-8)
        total += rates[t] ** 2
        x = x + rates[t] ** 2 / total * (z - x)
        y = (1 - b1) * z + b1 * x
        np.testing.assert_allclose(found_y, y, rtol=1e-4)
        np.testing.assert_allclose(found_x, x, rtol=1e-4)


def test_any_schedule_free_of_optax_is_evaluated_at_its_x():
    made = optax.chain(optax.clip(10.0), optax.contrib.schedule_free_sgd(0.1))
    (x, y), *_ = evaluated(made, 1)
    # c = 1 in the first step: x = z, and so is y.
    np.testing.assert_allclose(x, y, rtol=1e-6)
    (x, y) = evaluated(made, 4)[-1]
    assert np.max(np.abs(x - y)) > 0.001
