"""The update of theta against a hand-written AdamW, and safe from meta-gradients that are not finite."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt.base import LearnedOptimizer
from meta_train.estimators.base import EstimatorInfo, GradientEstimator
from meta_train.estimators.particle_mesh import make_particle_mesh
from meta_train.flat_theta import flat_form
from meta_train.meta_optimizers import clipped_adamw, normalized_momentum
from meta_train.meta_update import meta_update
from meta_train.mixture import BuiltComponent, mixture_trainer


@pytest.fixture(autouse=True)
def standard_promotion():
    # optax's AdamW raises a float to an integer power.
    with jax.numpy_dtype_promotion("standard"):
        yield


def scripted(gradients, average_decay=0.9, weight_decay=0.1):
    """A trainer of a theta of ones whose meta-gradients are given, one per step; the first two entries are always 1."""
    script = jnp.asarray(gradients, jnp.float32)

    def estimate(theta, state, key, meta_step, data):
        del theta, key, data
        gradient = jnp.concatenate([jnp.ones(2), script[meta_step]])
        return gradient, state + 1, EstimatorInfo(*[jnp.float32(0)] * len(EstimatorInfo._fields))

    lopt = LearnedOptimizer(
        lambda key: {"a": jnp.ones(2), "b": jnp.ones(3)},
        lambda theta, num_steps=None: optax.with_extra_args_support(optax.identity()),
        {},
    )
    component = BuiltComponent(GradientEstimator(lambda theta, key, data: jnp.int32(0), estimate), lambda step: {})
    rate = optax.constant_schedule(0.1)
    update = meta_update(
        clipped_adamw(rate, weight_decay, max_gradient_norm=1.0),
        rate,
        average_decay,
        flat_form(lopt),
        make_particle_mesh(1),
    )
    return mixture_trainer(lopt, {"only": component}, update)


def walk(trainer, state, num_steps):
    infos = []
    for _ in range(num_steps):
        state, info = trainer.step(state)
        infos.append(jax.tree.map(np.asarray, info))
    return state, infos


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
def test_non_finite_meta_gradients_never_reach_theta(bad):
    good = [1.0, 2.0, 3.0]
    trainer = scripted([good, [1.0, bad, 2.0], [bad, bad, bad], good])
    state, _ = walk(trainer, trainer.init(jax.random.key(0)), 1)
    before = jax.tree.map(np.array, (state.theta, state.theta_average, state.opt_state))
    for in_row in (1, 2):
        state, (info,) = walk(trainer, state, 1)
        assert info.num_skipped == 1 and info.num_skipped_in_row == in_row
        chex.assert_trees_all_equal((state.theta, state.theta_average, state.opt_state), before)
    assert state.step == 3 and state.particles["only"] == 3
    state, (info,) = walk(trainer, state, 1)
    assert info.num_skipped == 0 and state.num_skipped_in_row == 0
    assert np.all(state.theta[2:] != before[0][2:])
    assert np.all(np.isfinite(state.theta))


def test_adamw_on_clipped_gradients_and_running_average():
    gradients = np.asarray([[3.0, 0.0, -4.0], [0.1, 0.2, 0.3], [9.0, 9.0, 9.0]])
    trainer = scripted(gradients, average_decay=0.15)
    state, infos = walk(trainer, trainer.init(jax.random.key(0)), 3)
    theta = np.ones(5)
    average, m, v = theta.copy(), np.zeros(5), np.zeros(5)
    for t, row in enumerate(gradients):
        g = np.concatenate([np.ones(2), row])
        norm = np.linalg.norm(g)
        np.testing.assert_allclose(infos[t].gradient_norm, norm, rtol=1e-5)
        np.testing.assert_allclose(infos[t].learning_rate, 0.1, rtol=1e-6)
        g = g / max(norm, 1.0)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        corrected = m / (1 - 0.9 ** (t + 1)), v / (1 - 0.999 ** (t + 1))
        step = corrected[0] / (np.sqrt(corrected[1]) + 1e-8)
        theta = theta - 0.1 * (step + 0.1 * theta)
        decay = min(0.15, (1 + t) / (10 + t))
        average = decay * average + (1 - decay) * theta
    np.testing.assert_allclose(state.theta, theta, rtol=1e-5)
    np.testing.assert_allclose(state.theta_average, average, rtol=1e-5)
    tree = trainer.unravel(state.theta)
    np.testing.assert_array_equal(np.concatenate([tree["a"], tree["b"]]), state.theta)


def test_theta_that_cannot_be_flat():
    def lopt(theta):
        return LearnedOptimizer(lambda key: theta, lambda theta, num_steps=None: optax.identity(), {})  # pyright: ignore

    with pytest.raises(ValueError, match="leaf mlp/steps of dtype int32: use float32"):
        flat_form(lopt({"mlp": {"steps": jnp.int32(3), "w": jnp.zeros(2)}}))
    with pytest.raises(ValueError, match="theta is empty"):
        flat_form(lopt({}))


def test_normalized_momentum_equals_a_loop_whatever_the_scale():
    rng = np.random.default_rng(0)
    # The first entry never has a gradient: it does not count, and only decays.
    gradients = np.concatenate([np.zeros((4, 1)), rng.normal(size=(4, 5))], axis=1)
    gradients[2] *= 1e6
    for scale in (1.0, 1e-25):
        optimizer: Any = normalized_momentum(optax.linear_schedule(0.1, 0.0, 10), 0.5, 1.0)
        theta, expected, m = jnp.ones(6), np.ones(6), np.zeros(6)
        state = optimizer.init(theta)
        for t, h in enumerate(gradients):
            updates, state = optimizer.update(jnp.asarray(scale * h, jnp.float32), state, theta)
            theta = theta + updates
            m = 0.9 * m + 0.1 * h
            expected = expected - 0.1 * (1 - t / 10) * (np.sqrt(5) * m / np.linalg.norm(m) + 0.5 * expected)
            np.testing.assert_allclose(theta, expected, rtol=1e-5, atol=1e-6)


def test_without_a_gradient_there_is_no_step():
    optimizer = normalized_momentum(optax.constant_schedule(0.1), 0.0, 1.0)
    updates, _ = optimizer.update(jnp.zeros(3), optimizer.init(jnp.ones(3)), jnp.ones(3))
    assert not np.any(np.asarray(updates))
