"""Schedules at points where their factor is known, and as transforms."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from eval.schedules import SCHEDULES, factor, scheduled


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ("constant", {0: 1, 50: 1, 99: 1}),
        ("cosine", {0: 1, 50: 0.5, 25: (1 + 2**-0.5) / 2, 99: (1 + np.cos(np.pi * 0.99)) / 2}),
        ("linear", {0: 1, 25: 0.75, 99: 0.01}),
        ("wsd", {0: 0.2, 3: 0.8, 4: 1, 40: 1, 80: 1, 90: 0.5, 99: 0.05}),
    ],
)
def test_factors(schedule, factors):
    for step, expected in factors.items():
        assert float(factor(schedule, step, 100)) == pytest.approx(expected, abs=1e-6), step
    assert float(factor(schedule, 1000, 100)) == float(factor(schedule, 99, 100))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("num_steps", [1, 2, 7])
def test_factors_are_positive_and_at_most_one(schedule, num_steps):
    found = np.array([factor(schedule, step, num_steps) for step in range(num_steps)])
    assert np.all(found > 0) and np.all(found <= 1)


def test_a_scheduled_transform_is_optax_s_own_with_that_learning_rate():
    params = {"w": jnp.ones(3)}
    for make in (lambda lr: optax.sgd(lr, 0.9, nesterov=True), lambda lr: optax.adamw(lr, weight_decay=0.1)):
        ours = scheduled(make(0.1), "linear", 10)
        theirs = make(lambda step: 0.1 * (1 - step / 10))
        state, other_state = ours.init(params), theirs.init(params)
        for step in range(4):
            gradient = {"w": jnp.arange(3.0) + step}
            # optax's Adam raises a float to an integer power.
            with jax.numpy_dtype_promotion("standard"):
                updates, state = ours.update(gradient, state, params)
                expected, other_state = theirs.update(gradient, other_state, params)
            for ours_w, theirs_w in zip(jax.tree.leaves(updates), jax.tree.leaves(expected), strict=True):
                np.testing.assert_allclose(ours_w, theirs_w, rtol=1e-6)


def test_a_constant_schedule_changes_no_bit_and_has_no_state():
    transform = optax.sgd(0.1, 0.9)
    assert scheduled(transform, "constant", 10).init({"w": 0.0}) == transform.init({"w": 0.0})
