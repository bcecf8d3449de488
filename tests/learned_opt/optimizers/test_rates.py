"""diffGrad, normalised logistic regression and refined schedules against closed forms and NumPy loops."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt.optimizers.diffgrad import diffgrad
from learned_opt.optimizers.normalized_logistic import normalized_logistic
from learned_opt.optimizers.schedule_refinement import refined_factors, refined_schedule


def test_diffgrad_equals_a_loop():
    rng = np.random.default_rng(0)
    y, gradients = rng.normal(size=4), rng.normal(size=(6, 4))
    optimizer = diffgrad(0.1, b1=0.8, b2=0.9, eps=1e-6)
    found = jnp.asarray(y, jnp.float32)
    state, update = optimizer.init(found), jax.jit(optimizer.update)
    m = v = previous = np.zeros(4)
    for t, g in enumerate(gradients, start=1):
        updates, state = update(jnp.asarray(g, jnp.float32), state, found)
        found = found + updates
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g**2
        xi = 1 / (1 + np.exp(-np.abs(previous - g)))
        y = y - 0.1 * np.sqrt(1 - 0.9**t) / (1 - 0.8**t) * xi * m / (np.sqrt(v) + 1e-6)
        previous = g
        np.testing.assert_allclose(found, y, rtol=1e-5)


def test_diffgrad_takes_half_of_adams_steps_where_the_gradient_stands_still():
    ours: Any = diffgrad(0.1, eps=0.0)
    adam: Any = optax.adam(0.1, eps=0.0)
    g = jnp.float32([1.0, -3.0])
    states = [ours.init(g), adam.init(g)]
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(3):
            found, states[0] = ours.update(g, states[0], g)
            expected, states[1] = adam.update(g, states[1], g)
    np.testing.assert_allclose(found, 0.5 * expected, rtol=1e-5)


X = np.random.default_rng(1).normal(size=(12, 3))
X[:, 0] += np.where(X[:, 0] > 0, 0.5, -0.5)
Y = np.sign(X[:, 0])
"""Separable by the first coordinate."""


def logistic(w, x, y):
    return jnp.mean(jax.nn.softplus(-y * (x @ w)))


def trained(rate, examples, num_steps, w):
    """Normalised steps through the examples, `examples` of them at a time."""
    optimizer = normalized_logistic(rate)
    state = optimizer.init(w)

    @jax.jit
    def step(w, state, x, y):
        value, gradient = jax.value_and_grad(logistic)(w, x, y)
        updates, state = optimizer.update(gradient, state, w, value=value)
        return w + updates, state

    for t in range(num_steps):
        rows = np.arange(t * examples, (t + 1) * examples) % len(X)
        w, state = step(w, state, jnp.asarray(X[rows], jnp.float32), jnp.asarray(Y[rows], jnp.float32))
    return np.asarray(w)


def test_of_single_examples_every_weight_is_one():
    w = np.array([-0.3, 0.2, 0.1])
    found = trained(0.5, 1, 5, jnp.asarray(w, jnp.float32))
    for t in range(5):
        w = w + 0.5 * Y[t] * X[t]
    np.testing.assert_allclose(found, w, rtol=1e-4)


def test_small_losses_are_weighed_as_published():
    """Where all margins are large, s is the mean of the weights up to its square."""
    w = np.array([14.0, 0.2, -0.1])
    weights = 1 / (1 + np.exp(Y * (X @ w)))
    expected = w + 0.5 * (weights * Y) @ X / weights.sum()
    np.testing.assert_allclose(trained(0.5, 12, 1, jnp.asarray(w, jnp.float32)), expected, rtol=1e-3)


def test_normalised_steps_separate_the_data_long_after_plain_ones_have_slowed():
    start = jnp.float32([-0.5, 1.0, 1.0])
    w = trained(1.0, 12, 30, start)
    assert np.all(Y * (X @ w) > 0)
    plain = np.asarray(start, np.float64)
    for _ in range(30):
        plain = plain + (1 / (1 + np.exp(Y * (X @ plain))) * Y) @ X / len(X)
    assert np.linalg.norm(w) > 1.5 * np.linalg.norm(plain)


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_constant_norms_give_the_linear_decay(power):
    np.testing.assert_allclose(refined_factors(np.full(11, 3.0), power), np.linspace(1, 0, 11), atol=1e-12)


def test_refined_factors_equal_a_loop():
    norms = np.random.default_rng(0).lognormal(size=20)
    filtered = []
    for t in range(20):
        around = [norms[-1 - i if i < 0 else 39 - i if i > 19 else i] for i in range(t - 2, t + 3)]
        filtered.append(np.median(around))
    weights = np.array(filtered) ** -2.0
    factors = np.array([weights[t] * sum(weights[t + 1 :]) for t in range(20)])
    np.testing.assert_allclose(refined_factors(norms, width=5), factors / factors.max(), rtol=1e-9, atol=1e-12)


def test_large_first_gradients_give_a_warm_up():
    factors = refined_factors(np.concatenate([np.linspace(5, 1, 20), np.ones(80)]))
    # The median of a mirrored edge is flat.
    assert factors[0] < 0.1 and np.all(np.diff(factors[3:15]) > 0) and np.all(np.diff(factors[30:]) < 0)


def test_a_refined_schedule_drives_an_optimizer():
    optimizer = optax.sgd(refined_schedule(np.ones(5), 0.8))
    state, steps = optimizer.init(jnp.float32(0)), []
    for _ in range(6):
        updates, state = jax.jit(optimizer.update)(jnp.float32(1), state)
        steps.append(float(updates))
    np.testing.assert_allclose(steps, [-0.8, -0.6, -0.4, -0.2, 0, 0], atol=1e-7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0],), r"shape \(1,\): use one number for each of at least 2 steps"),
        (([1.0, 0.0, 2.0],), r"gradient_norms\[1\]=0.0: use positive"),
        (([1.0, np.nan],), r"gradient_norms\[1\]=nan: use positive"),
        (([1.0, 2.0], 2.0, 2), "width=2: use an odd"),
    ],
)
def test_norms_that_are_none_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        refined_factors(*arguments)
