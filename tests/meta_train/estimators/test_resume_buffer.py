"""Episodes that go on from stored states: still unbiased, the rule against a slow loop, and the state to the bit."""

import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.estimators import ESTIMATORS
from meta_train.estimators.particle_mesh import make_particle_mesh
from meta_train.estimators.resume_buffer import Slot, draw_slot, empty_buffer, store
from meta_train.estimators.truncation import ResumeRule
from meta_train.runs.state_arrays import from_arrays, to_arrays
from tests.meta_train.estimators.linear_dynamics import (
    CONSTANT,
    DATA,
    EPISODE,
    THETA,
    TRUNCATION,
    VARIED,
    build,
    exact_gradient,
    linear_unroll,
)

RESUMED = CONSTANT._replace(resume=ResumeRule(0.8, 2))
NUM_STEPS = 16
FULL_PES, FULL_NRES = (pytest.param(name, 8192, marks=pytest.mark.slow) for name in ("pes", "nres"))
BY_TRUNCATION = ("pes", *(pytest.param(name, marks=pytest.mark.slow) for name in ("nres", "es")))


@functools.cache
def estimates(name: str, num_pairs: int, forget: bool = False):
    """Errors [runs, steps, 2] of the meta-gradient in the second half of a walk, and the largest age it began at;
    `forget`: the accumulators of what is stored are lost."""
    init, estimate = build(name, schedule=RESUMED, num_tasks=num_pairs, sigma=0.05, at_once=True)

    def forgetful(state):
        slots = tuple(slot._replace(accumulator=jnp.zeros_like(slot.accumulator)) for slot in state.buffer.slots)
        return state._replace(buffer=state.buffer._replace(slots=slots))

    @jax.jit
    def run(key):
        def meta_step(state, step):
            state = forgetful(state) if forget else state
            gradient, state, _ = estimate(THETA, state, jax.random.fold_in(key, step), step, DATA)
            return state, (gradient, state.age - TRUNCATION)

        return jax.lax.scan(meta_step, init(THETA, key, DATA), jnp.arange(NUM_STEPS))[1]

    errors, oldest = [], 0
    for seed in range(24):
        gradients, ages = jax.tree.map(np.asarray, run(jax.random.key(seed)))
        exact = [exact_gradient(step, whole_episode=True) for step in ages]
        errors.append((gradients.astype(np.float64) - exact)[NUM_STEPS // 2 :])
        oldest = max(oldest, int(np.max(ages)))
    return np.asarray(errors), oldest


def standard_errors(errors):
    """How many standard errors the mean over runs and steps is from zero; runs are independent, steps are not."""
    of_runs = np.mean(errors, axis=1)
    return np.abs(np.mean(of_runs, axis=0)) / (np.std(of_runs, axis=0, ddof=1) / np.sqrt(len(of_runs)))


@pytest.mark.parametrize(
    ("name", "num_pairs"), [("pes", 256), pytest.param("nres", 256, marks=pytest.mark.slow), FULL_PES, FULL_NRES]
)
def test_mean_is_the_gradient_of_whole_trainings(name, num_pairs):
    errors, oldest = estimates(name, num_pairs)
    # Trainings go on far past the episode, whose last truncation begins at age 6.
    assert oldest >= 3 * EPISODE
    assert np.max(standard_errors(errors)) < 3


def test_without_the_stored_accumulator_it_is_biased():
    errors, _ = estimates("pes", 256, forget=True)
    assert np.max(standard_errors(errors)) > 10


@pytest.mark.parametrize("name", BY_TRUNCATION)
def test_restored_state_continues_identically(name):
    init, estimate = build(name, linear_unroll(spread=1.0), VARIED._replace(resume=ResumeRule(0.8, 2)))

    def walk(state, steps):
        gradients = []
        for step in steps:
            gradient, state, _ = estimate(THETA, state, jax.random.key(step), jnp.int32(step), DATA)
            gradients.append(np.asarray(gradient))
        return gradients, state

    start = init(THETA, jax.random.key(0), DATA)
    first, half = walk(start, range(6))
    saved = {name: np.array(array) for name, array in to_arrays(half).items()}
    assert any("buffer/slots/1/inner" in array for array in saved)
    rest, end = walk(half, range(6, 12))
    again, same_end = walk(from_arrays(saved, init(THETA, jax.random.key(9), DATA)), range(6, 12))
    chex.assert_trees_all_equal(again, rest)
    chex.assert_trees_all_equal(to_arrays(same_end), to_arrays(end))
    assert np.any(np.asarray(end.buffer.num_stored) > 2) and np.all(np.isfinite(first))


@pytest.mark.parametrize("name", BY_TRUNCATION)
def test_off_there_is_no_buffer_and_no_other_bit(name):
    """A buffer that is never drawn from changes nothing but for what it stores."""
    never = VARIED._replace(resume=ResumeRule(0.0))

    def walk(schedule):
        init, estimate = build(name, linear_unroll(spread=1.0), schedule)
        state, gradients = init(THETA, jax.random.key(0), DATA), []
        for step in range(5):
            gradient, state, _ = estimate(THETA, state, jax.random.key(step), jnp.int32(step), DATA)
            gradients.append(np.asarray(gradient))
        return gradients, state

    (plain, state), (watched, other) = walk(VARIED), walk(never)
    assert state.buffer == () and not any("buffer" in name for name in to_arrays(state))
    chex.assert_trees_all_close(watched, plain, rtol=1e-6)
    chex.assert_trees_all_equal(other.age, state.age)


def slow_cusum(losses_of_truncations, lost, num_rounds_each):
    """Which truncations a pair stores, by hand; each entry: losses, whether it begins and ends an episode."""
    stored, cusum, peak, last = [], 0.0, 0.0, 0.0
    for index, (losses, begins, ends) in enumerate(losses_of_truncations):
        if begins:
            cusum, peak, last = 0.0, 0.0, losses[0]
        before = peak
        for loss in losses:
            cusum = max(0.0, cusum + loss - last)
            peak, last = max(peak, cusum), loss
        if (peak > before or ends) and not lost[index]:
            stored.append(index)
    return stored


def test_what_is_stored_against_a_slow_loop():
    rng = np.random.default_rng(0)
    lengths = (3, 1, 4, 2, 5)
    truncations = []
    for length in lengths:
        for place in range(length):
            losses = rng.normal(1 - 0.1 * place, 0.1, size=4).astype(np.float32)
            truncations.append((losses, place == 0, place == length - 1))
    lost = rng.random(len(truncations)) < 0.2
    expected = slow_cusum(truncations, lost, 4)
    assert 3 < len(expected) < len(truncations)
    buffer = empty_buffer(Slot(jnp.float32(-1), jnp.full(2, -1.0), jnp.int32(-1)), 2)
    kept: list[int] = []
    for index, (losses, begins, ends) in enumerate(truncations):
        before = Slot(jnp.float32(index), jnp.full(2, index, jnp.float32), jnp.int32(index))
        arguments = (jnp.asarray(losses), jnp.bool(begins), jnp.bool(ends), jnp.bool(lost[index]))
        buffer = store(buffer, before, *arguments)
        kept += [index] if index in expected else []
        # The two newest, in a ring.
        assert int(buffer.num_stored) == len(kept)
        assert {int(slot.age) for slot in buffer.slots} == set(([-1, -1, *kept])[-2:])
        assert all(float(slot.inner) == int(slot.age) == float(slot.accumulator[1]) for slot in buffer.slots)


def test_how_often_and_from_where():
    buffer: Any = empty_buffer(Slot(jnp.float32(0), (), jnp.int32(0)), 3)
    keys = jax.random.split(jax.random.key(0), 2000)
    draw = jax.jit(jax.vmap(lambda buffer, key: draw_slot(buffer, ResumeRule(0.8, 3), key), in_axes=(None, 0)))
    for num_stored in (0, 1, 2, 7):
        slots = tuple(Slot(jnp.float32(i), (), jnp.int32(i)) for i in range(3))
        filled = buffer._replace(num_stored=jnp.int32(num_stored), slots=slots)
        resumes, slot = draw(filled, keys)
        # 4 standard deviations of 2,000 draws.
        assert abs(np.mean(resumes) - (0.8 if num_stored else 0)) < 0.036
        places, counts = np.unique(slot.age, return_counts=True)
        assert places.tolist() == list(range(min(max(num_stored, 1), 3)))
        assert np.all(np.abs(counts - 2000 / len(places)) < 4 * np.sqrt(500))


@pytest.mark.slow
def test_a_lost_pair_is_not_stored():
    plain = linear_unroll()

    def clamped_step(theta, state, key, data) -> Any:
        state, info = plain.step(theta, state, key, data)
        return state, info._replace(num_clamped=jnp.int32(TRUNCATION))

    init, estimate = build("pes", plain._replace(step=clamped_step), RESUMED)
    state = init(THETA, jax.random.key(0), DATA)
    for step in range(6):
        _, state, _ = estimate(THETA, state, jax.random.key(step), jnp.int32(step), DATA)
    assert not np.any(state.buffer.num_stored) and np.max(state.age) <= EPISODE


def test_a_resumed_training_is_told_its_new_length():
    plain = linear_unroll()

    def reset(theta, key, data, num_rounds) -> Any:
        return {**plain.reset(theta, key, data, num_rounds), "told": num_rounds}  # pyright: ignore[reportGeneralTypeIssues]

    def step(theta, state, key, data) -> Any:
        inner, info = plain.step(theta, {name: state[name] for name in state if name != "told"}, key, data)  # pyright: ignore[reportArgumentType]
        return {**inner, "told": state["told"]}, info  # pyright: ignore[reportGeneralTypeIssues]

    telling = plain._replace(
        reset=reset, step=step, lengthen=lambda state, num_rounds: {**state, "told": num_rounds + 0 * state["told"]}
    )
    init, estimate = build("pes", telling, RESUMED)
    state = init(THETA, jax.random.key(0), DATA)
    for index in range(12):
        _, state, _ = estimate(THETA, state, jax.random.key(index), jnp.int32(index), DATA)
        told: Any = state.inner
        np.testing.assert_array_equal(told["told"], np.stack([state.unroll_length] * 2, axis=1))
        np.testing.assert_array_equal(told["rounds"], np.stack([state.age] * 2, axis=1))
    assert np.max(state.unroll_length) > EPISODE


def test_pairs_that_share_a_task_are_refused():
    from meta_train.estimators.base import Particles

    particles = Particles(8, make_particle_mesh(8), 0.1, pairs_per_task=2)
    with pytest.raises(ValueError, match="pairs_per_task=2: use 1 where episodes are resumed"):
        ESTIMATORS["pes"]().build(linear_unroll(), RESUMED, particles)
