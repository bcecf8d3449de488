"""PES against the exact gradient of a quadratic problem, and its bookkeeping step by step."""

import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from meta_train.estimators.base import Particles
from meta_train.estimators.pairs import pair_estimator
from meta_train.estimators.particle_mesh import make_particle_mesh
from meta_train.estimators.pes import PES
from meta_train.estimators.truncation import constant_length, log_uniform_length
from meta_train.estimators.unroll import Unroll, UnrollInfo

TRUNCATION = 2
START = np.asarray([1.0, -0.5], np.float32)
THETA = jnp.asarray([0.3, 0.1], jnp.float32)


def quadratic_step(theta, state, key, data) -> Any:
    """x_{t+1} = x_t + theta, loss |x_{t+1}|^2 / 2: quadratic in every perturbation."""
    del key, data

    def one_round(x, _):
        x = x + theta
        return x, 0.5 * jnp.sum(jnp.square(x))

    x, losses = jax.lax.scan(one_round, state["x"], None, length=TRUNCATION)
    state = {"x": x, "rounds": state["rounds"] + TRUNCATION, "theta": theta}
    return state, UnrollInfo(losses, jnp.int32(0))


def quadratic_reset(theta, key, data, num_rounds) -> Any:
    del key, data
    return {"x": jnp.asarray(START), "rounds": jnp.int32(0), "theta": jnp.zeros_like(theta)}


QUADRATIC = Unroll(quadratic_reset, quadratic_step, TRUNCATION)


VARIED = log_uniform_length(2, 8, TRUNCATION)
CONSTANT = constant_length(8, TRUNCATION)


@functools.cache
def build(unroll=QUADRATIC, schedule=VARIED, num_pairs=16, sigma=0.5, num_devices=8):
    """(init, estimate), the latter compiled."""
    mesh = make_particle_mesh(num_pairs)
    assert mesh.size == 8
    mesh = jax.sharding.Mesh(mesh.devices[:num_devices], mesh.axis_names)
    estimator = pair_estimator(PES, unroll, schedule, Particles(num_pairs, mesh, sigma))
    return estimator.init, jax.jit(estimator.estimate)


def start_age(state):
    """Age at which each pair begins its next truncation: 0 if its episode has ended."""
    return np.where(state.age >= state.unroll_length, 0, state.age)


def exact_gradient(ages, perturbed_rounds):
    """Mean over pairs of d/dtheta of the mean loss of rounds age + 1, ..., age + TRUNCATION.

    The loss is quadratic, so smoothing it does not change its gradient: this is the gradient of
    full ES. `perturbed_rounds(age, t)`: how many of the t rounds so far count as following theta.
    """
    theta = np.asarray(THETA, np.float64)
    gradients = [
        perturbed_rounds(age, age + i) * (START + (age + i) * theta) for age in ages for i in range(1, TRUNCATION + 1)
    ]
    return np.mean(gradients, axis=0)


@functools.cache
def estimates(keep_accumulator: bool):
    """Estimates [runs, steps, 2] of independent runs; ages [runs, steps, pairs] they began at."""
    init, estimate = build(schedule=CONSTANT, num_pairs=256, sigma=0.1)
    gradients, ages = [], []
    for seed in range(24):
        key = jax.random.key(seed)
        state = init(THETA, key, None)
        for step in range(5):
            if not keep_accumulator:
                state = state._replace(accumulator=jax.tree.map(jnp.zeros_like, state.accumulator))
            ages.append(start_age(state))
            step_key = jax.random.fold_in(key, step)
            gradient, state, _ = estimate(THETA, state, step_key, jnp.int32(step), None)
            gradients.append(np.asarray(gradient, np.float64))
    return np.reshape(gradients, (24, 5, 2)), np.reshape(ages, (24, 5, 256))


def standard_errors(gradients, expected):
    """How many standard errors the mean over runs is away, [steps, 2]."""
    errors = gradients - expected
    return np.mean(errors, axis=0) / (np.std(errors, axis=0, ddof=1) / np.sqrt(len(errors)))


def over_runs(ages, perturbed_rounds):
    return np.asarray([[exact_gradient(a, perturbed_rounds) for a in run] for run in ages])


def test_mean_is_the_gradient_of_full_es():
    gradients, ages = estimates(keep_accumulator=True)
    assert np.all(ages[:, 0] == 0) and np.all(np.max(ages, axis=(0, 2))[1:4] == [2, 4, 6])
    # Student's t with 23 degrees of freedom: 10 draws exceed 4.5 with probability 0.2%.
    away = standard_errors(gradients, over_runs(ages, lambda age, t: t))
    assert np.max(np.abs(away)) < 4.5


def test_without_the_accumulator_it_is_the_truncated_gradient():
    gradients, ages = estimates(keep_accumulator=False)
    away = standard_errors(gradients, over_runs(ages, lambda age, t: t - age))
    assert np.max(np.abs(away)) < 4.5
    away_from_full = standard_errors(gradients, over_runs(ages, lambda age, t: t))
    assert np.all(np.abs(away_from_full[1:, 0]) > 20)


def test_bookkeeping_of_every_step():
    init, estimate = build()
    zero = jnp.zeros_like(THETA)
    state = init(zero, jax.random.key(0), None)
    resets = 0
    for step in range(6):
        ended = np.asarray(state.age >= state.unroll_length)
        old, resets = jax.tree.map(np.asarray, state), resets + ended.sum()
        gradient, state, info = estimate(
            zero, state, jax.random.fold_in(jax.random.key(1), step), jnp.int32(step), None
        )
        # theta is 0, so the pair was run with exactly +eps and -eps.
        eps = np.asarray(state.inner["theta"][:, 0])
        np.testing.assert_array_equal(state.inner["theta"][:, 1], -eps)
        assert len(np.unique(eps)) == eps.size
        xi = np.where(ended[:, None], eps, old.accumulator + eps)
        np.testing.assert_array_equal(state.accumulator[ended], eps[ended])
        np.testing.assert_allclose(state.accumulator, xi, rtol=1e-6, atol=1e-7)
        age = np.where(ended, 0, old.age) + TRUNCATION
        np.testing.assert_array_equal(state.age, age)
        np.testing.assert_array_equal(state.inner["rounds"], np.stack([age, age], axis=1))
        np.testing.assert_array_equal(np.where(ended, 0, state.unroll_length), np.where(ended, 0, old.unroll_length))
        assert np.all(age <= state.unroll_length)
        # Episodes that all began at step 0 do not end together.
        assert len(set(np.asarray(state.unroll_length))) > 1
        x = np.where(ended[:, None, None], START, old.inner["x"])
        signed = np.stack([eps, -eps], axis=1)
        rounds = np.stack([x + signed, x + 2 * signed])
        losses = 0.5 * np.sum(np.square(rounds), axis=-1)
        difference = np.mean(losses[..., 0] - losses[..., 1], axis=0)
        expected = np.mean(xi * difference[:, None] / (2 * 0.5**2), axis=0)
        np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(info.meta_loss, np.mean(losses), rtol=1e-5)
        np.testing.assert_allclose(info.mean_age, np.mean(age), rtol=1e-6)
    assert resets > 16


def test_perturbations_have_standard_deviation_sigma():
    init, estimate = build(schedule=CONSTANT, num_pairs=256, sigma=0.1)
    state = init(THETA, jax.random.key(0), None)
    _, state, _ = estimate(THETA, state, jax.random.key(1), jnp.int32(0), None)
    eps = np.asarray(state.accumulator)
    # 512 draws: 4 standard errors of the deviation are 12.5%, of the mean 0.18 sigma.
    np.testing.assert_allclose(np.std(eps), 0.1, rtol=0.125)
    assert abs(np.mean(eps)) < 0.018
    plus, minus = np.asarray(state.inner["theta"][:, 0]), np.asarray(state.inner["theta"][:, 1])
    np.testing.assert_allclose((plus + minus) / 2, np.tile(THETA, (256, 1)), rtol=1e-6)


def test_a_pair_shares_every_key():
    def reset(theta, key, data, num_rounds) -> Any:
        del theta, data
        return {"reset": jax.random.key_data(key), "step": jnp.zeros_like(jax.random.key_data(key))}

    def step(theta, state, key, data) -> Any:
        del theta, data
        losses = jax.random.uniform(key, (TRUNCATION,))
        return {**state, "step": jax.random.key_data(key)}, UnrollInfo(losses, jnp.int32(1))

    init, estimate = build(Unroll(reset, step, TRUNCATION), CONSTANT)
    state = init(THETA, jax.random.key(0), None)
    seen = []
    for t in range(3):
        key = jax.random.fold_in(jax.random.key(1), t)
        gradient, state, info = estimate(THETA, state, key, jnp.int32(t), None)
        # Losses that depend on keys alone cancel exactly within a pair.
        assert not np.any(gradient)
        assert info.meta_loss > 0.1 and info.num_clamped == 2 * 16
        seen += [state.inner["step"]] if t else [state.inner["reset"], state.inner["step"]]
    keys = np.stack(seen)
    np.testing.assert_array_equal(keys[:, :, 0], keys[:, :, 1])
    assert len(np.unique(keys[:, :, 0].reshape(-1, keys.shape[-1]), axis=0)) == 4 * 16


def test_same_bits_on_one_and_eight_devices():
    def two_steps(init, estimate):
        state = init(THETA, jax.random.key(0), None)
        for step in range(2):
            key = jax.random.fold_in(jax.random.key(1), step)
            gradient, state, info = estimate(THETA, state, key, jnp.int32(step), None)
        return jax.tree.map(np.asarray, (gradient, state, info))

    chex.assert_trees_all_equal(two_steps(*build(num_devices=1)), two_steps(*build()))
