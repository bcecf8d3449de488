"""Every estimator against meta-gradients known in closed form; the figures at full size are under the slow marker.

`python -m pytest -m slow -s tests/meta_train/estimators/test_estimator_oracles.py` prints them.
"""

import functools
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train.estimators.unroll import Unroll, UnrollInfo
from tests.meta_train.estimators.linear_dynamics import (
    DATA,
    DECAY,
    EPISODE,
    EXACT_THETA,
    LINEAR,
    TARGET,
    THETA,
    TRUNCATION,
    begun_ages,
    build,
    exact_gradient,
    gradient_of_truncation,
    state_after,
)

RUNS, STEPS = 24, 6
QUICK = 128
FULL = pytest.param(8192, marks=pytest.mark.slow)
"""Pairs a run: 24 runs of 8192 make 196,608 estimates at each of six meta-steps."""
BY_TRUNCATION = ("pes", "nres", "es")


@functools.cache
def estimates(name, num_pairs, sigma=0.1):
    """Of independent runs: estimates and exact gradients of the episode and of the truncation alone, all
    [runs, steps, 2], and the standard deviation of single pairs' estimates [runs, steps]."""
    init, estimate = build(name, num_tasks=num_pairs, sigma=sigma, at_once=True)

    @jax.jit
    def run(key):
        def meta_step(state, step):
            ages = begun_ages(state) if name in BY_TRUNCATION else jnp.arange(0, EPISODE, TRUNCATION)
            gradient, state, info = estimate(THETA, state, jax.random.fold_in(key, step), step, DATA)
            return state, (gradient, ages, info.gradient_std)

        return jax.lax.scan(meta_step, init(THETA, key, DATA), jnp.arange(STEPS))[1]

    gradients, whole, alone, deviations = [], [], [], []
    for seed in range(RUNS):
        gradient, ages, deviation = run(jax.random.key(seed))
        gradients.append(np.asarray(gradient, np.float64))
        whole.append([exact_gradient(step, whole_episode=True) for step in np.asarray(ages)])
        alone.append([exact_gradient(step, whole_episode=False) for step in np.asarray(ages)])
        deviations.append(deviation)
    return np.asarray(gradients), np.asarray(whole), np.asarray(alone), np.asarray(deviations)


def standard_errors(errors):
    """How many standard errors the mean over runs [runs, ...] is away from zero."""
    return np.mean(errors, axis=0) / (np.std(errors, axis=0, ddof=1) / np.sqrt(len(errors)))


def assert_unbiased(errors):
    """Over all meta-steps within 3 standard errors; at each one within 4.5, which twelve draws of Student's t with 23
    degrees of freedom exceed with probability 0.2%."""
    assert np.max(np.abs(standard_errors(np.mean(errors, axis=1)))) < 3
    assert np.max(np.abs(standard_errors(errors))) < 4.5


@pytest.mark.parametrize("num_pairs", [QUICK, FULL])
@pytest.mark.parametrize("name", ["pes", "nres", "full_es"])
def test_unbiased(name, num_pairs):
    gradients, whole, _, _ = estimates(name, num_pairs)
    assert_unbiased(gradients - whole)


@pytest.mark.parametrize("num_pairs", [QUICK, FULL])
def test_truncated_es_is_the_gradient_of_the_truncation_and_biased(num_pairs):
    gradients, whole, alone, _ = estimates("es", num_pairs)
    assert_unbiased(gradients - alone)
    # Nothing is left out while all episodes are in their first truncation; the second entry's dynamics forget too fast.
    away = np.abs(standard_errors(gradients - whole))
    assert np.all(away[0] < 4.5) and np.all(away[1:, 0] > 20)


@pytest.mark.parametrize("name", ["truncated_backprop", "full_backprop"])
def test_backprop_is_exact(name):
    init, estimate = build(name)
    state = init(THETA, jax.random.key(0), DATA)
    for step in range(STEPS):
        if name == "truncated_backprop":
            expected = exact_gradient(begun_ages(state), whole_episode=False)
        else:
            expected = exact_gradient(np.arange(0, EPISODE, TRUNCATION), whole_episode=True)
        gradient, state, _ = estimate(THETA, state, jax.random.key(step), jnp.int32(step), DATA)
        np.testing.assert_allclose(gradient, expected, rtol=1e-5)


@pytest.mark.parametrize("num_pairs", [256, pytest.param(131_072, marks=pytest.mark.slow)])
def test_es_is_the_gradient_of_the_smoothed_quadratic(num_pairs):
    """Smoothing adds sigma^2 / 2 times the trace of the Hessian to the loss, and leaves its gradient."""
    sigma = 0.5
    init, estimate = build("es", num_tasks=num_pairs, sigma=sigma, at_once=True)
    state = init(THETA, jax.random.key(0), DATA)
    gradients, losses = [], []
    for seed in range(RUNS):
        gradient, _, info = estimate(THETA, state, jax.random.key(seed), jnp.int32(0), DATA)
        gradients.append(np.asarray(gradient, np.float64))
        losses.append(info.meta_loss)
    rounds = range(1, TRUNCATION + 1)
    plain = [0.5 * np.sum(np.square(state_after(t) - TARGET)) for t in rounds]
    hessian = [np.sum(np.square(sum(np.float64(DECAY) ** k for k in range(t)))) for t in rounds]
    smoothed = np.mean(plain) + 0.5 * sigma**2 * np.mean(hessian)
    assert np.max(np.abs(standard_errors(np.array(gradients) - gradient_of_truncation(0, False)))) < 3
    assert abs(standard_errors(np.array(losses, np.float64) - smoothed)) < 3
    assert abs(standard_errors(np.array(losses, np.float64) - np.mean(plain))) > 20


@pytest.mark.parametrize("name", ["pes", "nres", "es", "full_es"])
def test_gradient_of_the_smoothed_quartic(name):
    """E (theta + sigma z)^4 has the gradient 4 theta^3 + 12 sigma^2 theta: here smoothing shows."""

    def step(theta, state, key, data):
        loss = jnp.sum(theta**4)
        return state, UnrollInfo(jnp.full(TRUNCATION, loss), jnp.int32(0))

    def reset(theta, key, data, num_rounds) -> Any:
        return {"x": jnp.zeros(2)}

    unroll = Unroll(reset, step, TRUNCATION)
    sigma = 0.5
    init, estimate = build(name, unroll, num_tasks=512, sigma=sigma, at_once=True)
    start = init(THETA, jax.random.key(0), DATA)
    gradients = []
    for seed in range(RUNS):
        state = start
        for meta_step in range(2):
            key = jax.random.fold_in(jax.random.key(seed), meta_step)
            gradient, state, _ = estimate(THETA, state, key, jnp.int32(meta_step), DATA)
            gradients.append(np.asarray(gradient, np.float64))
    errors = np.mean(np.reshape(gradients, (RUNS, 2, 2)), axis=1) - (4 * EXACT_THETA**3 + 12 * sigma**2 * EXACT_THETA)
    assert np.max(np.abs(standard_errors(errors))) < 3
    assert np.all(np.abs(standard_errors(errors + 12 * sigma**2 * EXACT_THETA)) > 5)


@pytest.mark.parametrize("name", ["pes", "nres", "es", "full_es"])
def test_reported_spread_is_that_of_repeated_estimates(name):
    gradients, whole, alone, deviations = estimates(name, QUICK)
    # The exact gradient moves with the ages drawn, which is part of the spread over pairs.
    observed = np.sqrt(np.sum(np.var(gradients - (alone if name == "es" else whole), axis=0, ddof=1), axis=-1))
    reported = np.sqrt(np.mean(np.square(deviations), axis=0) / QUICK)
    # 24 runs of two entries and six steps: the ratio of the pooled variances deviates by about 10%.
    ratio = np.sqrt(np.mean(np.square(observed)) / np.mean(np.square(reported)))
    assert 0.75 < ratio < 1.2


@pytest.mark.slow
def test_variance_ranking():
    """Prints bias and spread of each estimator: of one estimate, and at the price of one truncation."""
    print(
        f"\nepisodes of {EPISODE} rounds, truncations of {TRUNCATION}, sigma 0.1, {RUNS * 8192} estimates a meta-step"
    )
    print(f"{'estimator':<10}{'bias / |gradient|':>20}{'std':>10}{'std at equal rounds':>22}")
    spread = {}
    for name in ("es", "nres", "pes", "full_es"):
        gradients, whole, _, deviations = estimates(name, 8192)
        # Ages are those of a long run once every first episode has ended.
        late = slice(EPISODE // TRUNCATION, None)
        bias = np.linalg.norm(np.mean(gradients[:, late] - whole[:, late], axis=(0, 1)))
        bias /= np.linalg.norm(np.mean(whole[:, late], axis=(0, 1)))
        spread[name] = np.sqrt(np.mean(np.square(deviations[:, late])))
        factor = np.sqrt(EPISODE / TRUNCATION) if name == "full_es" else 1.0
        print(f"{name:<10}{bias:>20.4f}{spread[name]:>10.3f}{factor * spread[name]:>22.3f}")
    assert spread["es"] < spread["nres"] < spread["pes"]


@pytest.mark.parametrize("name", ["pes", "nres"])
@jax.numpy_rank_promotion("allow")
@jax.numpy_dtype_promotion("standard")
def test_agrees_with_evosax(name):
    """On the same perturbations; needs evosax 0.3, which draws its own with `jax.random.normal`."""
    evosax = pytest.importorskip("evosax.algorithms.distribution_based")
    algorithm_type = {"pes": "persistent_es.PersistentES", "nres": "noise_reuse_es.NoiseReuseES"}[name]
    module, algorithm_type = algorithm_type.split(".")
    sigma, num_pairs = 0.3, 8
    algorithm = getattr(getattr(evosax, module), algorithm_type)(
        2 * num_pairs, jnp.zeros(2), optax.sgd(1.0), optax.constant_schedule(sigma)
    )
    params = algorithm.default_params.replace(T=EPISODE, K=TRUNCATION)
    theirs = algorithm.init(jax.random.key(0), jnp.asarray(EXACT_THETA, jnp.float32), params)
    init, estimate = build(name, num_tasks=num_pairs, sigma=sigma)
    state = init(THETA, jax.random.key(0), DATA)
    # Episodes that have just ended all begin again together, as evosax's do.
    state = state._replace(age=state.age + EPISODE, unroll_length=state.unroll_length + EPISODE)
    inner: Any = None
    for step in range(2 * EPISODE // TRUNCATION):
        gradient, state, _ = estimate(THETA, state, jax.random.key(step), jnp.int32(step), DATA)
        eps = state.inner["theta"][:, 0] - EXACT_THETA.astype(np.float32)
        with mock.patch("jax.random.normal", return_value=eps / sigma):
            population, theirs = algorithm._ask(jax.random.key(0), theirs, params)
        if step % (EPISODE // TRUNCATION) == 0:
            inner = jax.vmap(LINEAR.reset, in_axes=(0, None, None, None))(
                population, jax.random.key(0), DATA, jnp.int32(EPISODE)
            )
        inner, info = jax.vmap(LINEAR.step, in_axes=(0, 0, None, None))(population, inner, jax.random.key(0), DATA)
        before = theirs.mean
        theirs = algorithm._tell(jax.random.key(0), population, jnp.mean(info.losses, axis=1), theirs, params)
        np.testing.assert_allclose(gradient, before - theirs.mean, rtol=1e-4, atol=1e-5)
        theirs = theirs.replace(mean=before)
