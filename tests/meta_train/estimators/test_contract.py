"""What every estimator promises, whatever it estimates."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.estimators import ESTIMATORS
from meta_train.estimators.averaging import ParticleEstimate, average, merge_infos
from meta_train.estimators.base import EstimatorInfo
from meta_train.estimators.unroll import Unroll, UnrollInfo
from meta_train.runs.state_arrays import from_arrays, to_arrays
from tests.meta_train.estimators.linear_dynamics import (
    DATA,
    EPISODE,
    LINEAR,
    THETA,
    TRUNCATION,
    VARIED,
    build,
    linear_unroll,
)

NAMES = tuple(ESTIMATORS)
PERTURBING = tuple(name for name in NAMES if not ESTIMATORS[name]().differentiates)
TASKS = linear_unroll(spread=1.0)
INTEGERS = ("num_clamped", "num_diverged", "num_skipped_estimates", "max_age")


def walk(name, num_steps=3, state=None, first=0, **settings):
    """Gradients and diagnostics of some meta-steps, and the state after them."""
    init, estimate = build(name, TASKS, VARIED, **settings)
    state = init(THETA, jax.random.key(0), DATA) if state is None else state
    results = []
    for step in range(first, first + num_steps):
        key = jax.random.fold_in(jax.random.key(1), step)
        gradient, state, info = estimate(THETA, state, key, jnp.int32(step), DATA)
        results.append(jax.tree.map(np.asarray, (gradient, info)))
    return results, state


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("num_devices", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 4))])
def test_same_bits_as_on_8_devices(name, num_devices):
    (results, state), (others, other_state) = walk(name), walk(name, num_devices=num_devices)
    chex.assert_trees_all_equal(others, results)
    chex.assert_trees_all_equal(to_arrays(other_state), to_arrays(state))


@pytest.mark.parametrize("name", NAMES)
def test_diagnostics_and_state_keep_their_types(name):
    init, _ = build(name, TASKS, VARIED)
    before = init(THETA, jax.random.key(0), DATA)
    results, after = walk(name)
    chex.assert_trees_all_equal_shapes_and_dtypes(before, after)
    for gradient, info in results:
        chex.assert_trees_all_equal_shapes_and_dtypes(gradient, THETA)
        for field, value in info._asdict().items():
            integer = field in INTEGERS
            assert value.shape == () and value.dtype == (np.int32 if integer else np.float32), field
            assert np.isfinite(value), field
        assert info.num_skipped_estimates == info.num_clamped == info.num_diverged == 0
        assert TRUNCATION <= info.mean_age <= info.max_age <= EPISODE and info.max_age % TRUNCATION == 0
        norm = np.linalg.norm(gradient)
        np.testing.assert_allclose(info.standard_error, info.gradient_std / np.sqrt(16), rtol=1e-6)
        np.testing.assert_allclose(info.snr, norm / info.standard_error, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_restored_state_continues_identically(name):
    whole, state = walk(name, 5)
    _, half = walk(name, 2)
    template = build(name, TASKS, VARIED)[0](THETA, jax.random.key(9), DATA)
    rest, restored = walk(name, 3, from_arrays(to_arrays(half), template), first=2)
    chex.assert_trees_all_equal(rest, whole[2:])
    chex.assert_trees_all_equal(to_arrays(restored), to_arrays(state))


@pytest.mark.parametrize("name", ["pes", "es", "nres", "truncated_backprop"])
def test_only_first_episodes_are_shortened(name):
    init, estimate = build(name, num_tasks=64)
    state = init(THETA, jax.random.key(0), DATA)
    # A mixture may call an estimator for the first time at any meta-step.
    for step in range(3, 3 + EPISODE // TRUNCATION):
        _, state, _ = estimate(THETA, state, jax.random.key(step), jnp.int32(step), DATA)
        lengths, counts = np.unique(state.unroll_length, return_counts=True)
        if step == 3:
            # A binomial of 64 draws with mean 16 lies outside 4 .. 28 with probability 0.1%.
            assert lengths.tolist() == [2, 4, 6, 8] and np.all((counts >= 4) & (counts <= 28))
    assert np.all(np.asarray(state.unroll_length)[np.asarray(state.age) < EPISODE] == EPISODE)
    assert len(np.unique(state.age)) == EPISODE // TRUNCATION


def telling_reset(theta, key, data, num_rounds) -> Any:
    inner: Any = TASKS.reset(theta, key, data, num_rounds)
    return {**inner, "told": num_rounds}


def telling_step(theta, state, key, data) -> Any:
    """Losses are the rounds that the episode was said to last."""
    inner: Any = {name: state[name] for name in state if name != "told"}
    inner, info = TASKS.step(theta, inner, key, data)
    return {**inner, "told": state["told"]}, info._replace(losses=jnp.full(TRUNCATION, state["told"], jnp.float32))


TELLING = Unroll(telling_reset, telling_step, TRUNCATION)


@pytest.mark.parametrize("name", NAMES)
def test_training_is_told_how_long_it_lasts(name):
    init, estimate = build(name, TELLING, VARIED)
    state, seen = init(THETA, jax.random.key(0), DATA), set()
    for step in range(4):
        _, state, info = estimate(THETA, state, jax.random.key(step), jnp.int32(step), DATA)
        if ESTIMATORS[name]().whole_episodes:
            assert float(info.meta_loss) == int(info.max_age)
            seen.add(int(info.max_age))
        else:
            told = np.reshape(state.inner["told"], (16, -1))
            np.testing.assert_array_equal(told, np.broadcast_to(state.unroll_length[:, None], told.shape))
            np.testing.assert_allclose(info.meta_loss, np.mean(state.unroll_length), rtol=1e-6)
            seen |= set(np.asarray(state.unroll_length).tolist())
    assert len(seen) > 1


@pytest.mark.parametrize("name", ["pes", "es", "nres"])
def test_pairs_of_a_task_share_all_but_the_noise(name):
    init, estimate = build(name, TASKS, VARIED, num_tasks=4, pairs_per_task=4)
    state = init(THETA, jax.random.key(0), DATA)
    for step in range(3):
        key = jax.random.fold_in(jax.random.key(1), step)
        _, state, info = estimate(THETA, state, key, jnp.int32(step), DATA)
        for leaf in (state.age, state.unroll_length, state.inner["z"], state.inner["key"]):
            by_task = np.reshape(leaf, (4, 4, -1))
            np.testing.assert_array_equal(by_task, np.broadcast_to(by_task[:, :1], by_task.shape))
        for name in ("z", "key"):
            assert len(np.unique(np.reshape(state.inner[name], (16, -1)), axis=0)) == 4
        assert len(np.unique(np.reshape(state.inner["theta"], (16, -1)), axis=0)) == 16
        assert np.isfinite(info.snr)


def breaking_step(theta, state, key, data) -> Any:
    """Tasks whose z is above the threshold have losses that are not finite, and their rounds count as clamped."""
    broken = state["z"][0] > data["threshold"]
    state, info = TASKS.step(theta, state, key, data)
    losses = info.losses * jnp.where(broken, jnp.inf, 1)
    return state, UnrollInfo(losses, jnp.where(broken, TRUNCATION, 0).astype(jnp.int32))


BREAKING = Unroll(TASKS.reset, breaking_step, TRUNCATION)


@pytest.mark.parametrize("name", NAMES)
def test_estimates_that_are_not_finite_count_as_zero(name):
    init, estimate = build(name, BREAKING)

    def first_step(threshold):
        data = {**DATA, "threshold": np.float32(threshold)}
        state = init(THETA, jax.random.key(0), data)
        gradient, _, info = estimate(THETA, state, jax.random.key(1), jnp.int32(0), data)
        return np.asarray(gradient, np.float64), info

    gradient, info = first_step(0.0)
    assert 2 <= info.num_skipped_estimates <= 14 and np.isfinite(info.gradient_std)
    particles, rounds = (2 if name in PERTURBING else 1), (EPISODE if ESTIMATORS[name]().whole_episodes else TRUNCATION)
    assert info.num_diverged == particles * info.num_skipped_estimates
    assert info.num_clamped == rounds * info.num_diverged
    assert np.all(np.isfinite(gradient)) and np.all(gradient)
    # With none left the step must be skipped, not taken along a gradient of zero.
    gradient, info = first_step(-100.0)
    assert info.num_skipped_estimates == 16 and np.all(np.isnan(gradient))


@pytest.mark.parametrize("pairs_per_task", [1, 3])
def test_spread_against_its_definition(pairs_per_task):
    rng = np.random.default_rng(0)
    gradients = rng.normal(1.0, 2.0, size=(12, 5)) + np.repeat(
        rng.normal(size=(12 // pairs_per_task, 5)), pairs_per_task, 0
    )
    finite = np.arange(12) != 7
    count = jnp.arange(12, dtype=jnp.int32)
    estimates = ParticleEstimate(
        jnp.where(finite[:, None], jnp.asarray(gradients, jnp.float32), jnp.nan),
        jnp.asarray(finite),
        jnp.full(12, 0.5),
        count,
        count,
        count,
    )
    gradient, info = average(estimates, pairs_per_task)
    gradients[7] = 0
    np.testing.assert_allclose(gradient, np.mean(gradients, axis=0), rtol=1e-5)
    np.testing.assert_allclose(info.gradient_std, np.sqrt(np.trace(np.cov(gradients.T))), rtol=1e-5)
    tasks = np.mean(np.reshape(gradients, (-1, pairs_per_task, 5)), axis=1)
    standard_error = np.sqrt(np.trace(np.cov(tasks.T)) / len(tasks))
    np.testing.assert_allclose(info.standard_error, standard_error, rtol=1e-5)
    np.testing.assert_allclose(info.snr, np.linalg.norm(np.mean(gradients, axis=0)) / standard_error, rtol=1e-5)
    assert (info.num_skipped_estimates, info.num_clamped, info.max_age, info.mean_age) == (1, 66, 11, 5.5)


def test_spread_of_a_single_estimate_is_unknown():
    one = jnp.ones(1, jnp.int32)
    gradient, info = average(ParticleEstimate(jnp.ones((1, 3)), jnp.ones(1, bool), jnp.ones(1), one, one, one), 1)
    np.testing.assert_array_equal(gradient, np.ones(3))
    assert np.isnan(info.gradient_std) and np.isnan(info.standard_error) and np.isnan(info.snr)


def test_infos_of_several_gradients():
    infos = [EstimatorInfo(*[jnp.float32(value)] * len(EstimatorInfo._fields)) for value in (1, 5, 3)]
    merged = merge_infos(infos)._asdict()
    sums = ("num_clamped", "num_diverged", "num_skipped_estimates")
    expected = {name: 9 if name in sums else 5 if name == "max_age" else 3 for name in merged}
    assert {name: float(value) for name, value in merged.items()} == expected


@pytest.mark.parametrize("name", PERTURBING)
@pytest.mark.parametrize(
    "settings, message",
    [
        ({"num_tasks": 0}, "num_tasks=0: use at least 1"),
        ({"pairs_per_task": 0}, "pairs_per_task=0: use at least 1"),
        ({"sigma": 0.0}, "sigma=0.0: use a positive number"),
        ({"sigma": float("nan")}, "sigma=nan: use a positive number"),
    ],
)
def test_wrong_settings_are_named(name, settings, message):
    with pytest.raises(ValueError, match=message):
        build(name, LINEAR, **settings)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in PERTURBING])
def test_backpropagation_has_no_pairs(name):
    with pytest.raises(ValueError, match="pairs_per_task=2: use 1"):
        build(name, LINEAR, pairs_per_task=2)
    with pytest.raises(ValueError, match="num_tasks=0: use at least 1"):
        build(name, LINEAR, num_tasks=0)
