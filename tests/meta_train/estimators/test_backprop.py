"""Backpropagation against finite differences, jax.grad of a plain loop, and its promise of memory."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.base import LearnedOptimizer
from meta_train.estimators.backprop import full_backprop, truncated_backprop
from meta_train.estimators.base import Particles
from meta_train.estimators.particle_mesh import make_particle_mesh
from meta_train.estimators.truncation import constant_length, log_uniform_length
from meta_train.estimators.unroll import Unroll, UnrollInfo, make_unroll
from meta_train.flat_theta import flat_form
from tasks.base import Task, TaskFamily
from tests.meta_train.estimators.linear_dynamics import DATA, EPISODE, THETA, TRUNCATION, VARIED, build

MIXING = np.asarray([[0.9, -1.3], [0.7, 1.1]])
ROUNDS = 2


def curved_unroll() -> Unroll:
    """x_{t+1} = tanh(M x_t + theta), loss sum of cubes and squares; every task starts elsewhere."""

    def reset(theta, key, data, num_rounds) -> Any:
        return {"x": data["starts"][jax.random.randint(key, (), 0, 64)], "began_at": jnp.zeros_like(theta)}

    def step(theta, state, key, data) -> Any:
        def one_round(x, _):
            x = jnp.tanh(data["mixing"] @ x + theta)
            return x, jnp.sum(x**3 + x**2)

        x, losses = jax.lax.scan(one_round, state["x"], None, length=ROUNDS)
        return {"x": x, "began_at": state["x"]}, UnrollInfo(losses, jnp.int32(0))

    return Unroll(reset, step, ROUNDS)


def mean_loss(theta, start, rounds):
    x, losses = start, []
    for _ in range(rounds):
        x = np.tanh(MIXING @ x + theta)
        losses.append(np.sum(x**3 + x**2))
    return np.mean(losses)


def finite_differences(theta, start, rounds, step=1e-5):
    shifts = step * np.eye(2)
    return [(mean_loss(theta + s, start, rounds) - mean_loss(theta - s, start, rounds)) / (2 * step) for s in shifts]


def curved(constructor, schedule):
    data = {"starts": np.random.default_rng(0).normal(size=(64, 2)), "mixing": MIXING}
    estimator = constructor(curved_unroll(), schedule, Particles(4, make_particle_mesh(4)))
    return estimator.init, jax.jit(estimator.estimate), data


def test_truncated_equals_finite_differences():
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        init, estimate, data = curved(truncated_backprop, log_uniform_length(2, 6, ROUNDS))
        theta = jnp.asarray([0.3, -0.2])
        state = init(theta, jax.random.key(0), data)
        for step in range(3):
            gradient, state, info = estimate(theta, state, jax.random.key(step), jnp.int32(step), data)
            starts = np.asarray(state.inner["began_at"])
            expected = np.mean([finite_differences(np.asarray(theta), x, ROUNDS) for x in starts], axis=0)
            np.testing.assert_allclose(gradient, expected, rtol=1e-8)
            np.testing.assert_allclose(
                info.meta_loss, np.mean([mean_loss(np.asarray(theta), x, ROUNDS) for x in starts]), rtol=1e-12
            )


@pytest.mark.parametrize("rounds", [2, 6])
def test_full_equals_finite_differences(rounds):
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        # Memory is reserved for longer episodes than the schedule draws.
        init, estimate, data = curved(full_backprop, constant_length(rounds, ROUNDS)._replace(longest=8))
        data["starts"] = np.tile(data["starts"][:1], (64, 1))
        theta = jnp.asarray([0.3, -0.2])
        gradient, _, info = estimate(theta, init(theta, jax.random.key(0), data), jax.random.key(1), jnp.int32(0), data)
        expected = finite_differences(np.asarray(theta), data["starts"][0], rounds)
        np.testing.assert_allclose(gradient, expected, rtol=1e-8)
        assert info.max_age == rounds and info.gradient_std < 1e-12


def regression_unroll(truncation_length):
    """The real unroll: two workers, two local steps, learned learning rate and momentum."""
    inputs = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)

    def task(target, data):
        def loss(params, key, batch):
            return jnp.mean(jnp.square(batch["x"] @ (params["w"] - target))) + 0.1 * jnp.sum(params["w"] ** 2)

        return Task(
            init=lambda key: {"w": 0.1 * jax.random.normal(key, (3,))},
            loss=loss,
            sample_batch=lambda key, split, shape: {
                "x": jnp.asarray(data[split]["x"])[jax.random.randint(key, shape, 0, 64)]
            },
            metrics=lambda params, batch: {},
        )

    family = TaskFamily(
        name="regression",
        data={"train": {"x": jnp.asarray(inputs)}},
        sample=lambda key: jax.random.normal(key, (3,)),
        task=task,
        uninformed_loss=8.0,
        eval_batch=lambda data, split: dict(data[split]),
    )
    lopt = LearnedOptimizer(
        lambda key: {"rate": jnp.float32(0.8), "momentum": jnp.float32(0.3)},
        lambda theta: optax.with_extra_args_support(optax.sgd(theta["rate"], theta["momentum"])),
        {},
    )
    form = flat_form(lopt)
    unroll = make_unroll(
        lambda theta, num_rounds: local_sgd(optax.sgd(0.05), lopt.transform(form.unravel(theta))),
        family,
        num_workers=2,
        num_local_steps=2,
        batch_size=4,
        truncation_length=truncation_length,
        meta_loss_split="train",
        rematerialise=True,
    )
    return unroll, family.data, form.ravel(lopt.init(jax.random.key(0)))


@pytest.mark.slow  # finite differences are checked every time
def test_full_equals_the_gradient_of_a_plain_loop():
    unroll, data, theta = regression_unroll(2)
    num_truncations, num_tasks, key = 3, 2, jax.random.key(7)
    particles = Particles(num_tasks, make_particle_mesh(num_tasks))
    estimator = full_backprop(unroll, constant_length(2 * num_truncations, 2), particles)
    gradient, _, info = jax.jit(estimator.estimate)(theta, (), key, jnp.int32(0), data)
    _, tasks_key = jax.random.split(key)

    def plain(theta):
        losses = []
        for task_id in range(num_tasks):
            episode_key, step_key = jax.random.split(jax.random.fold_in(tasks_key, task_id))
            state = unroll.reset(theta, episode_key, data, jnp.int32(2 * num_truncations))
            for index in range(num_truncations):
                state, step = unroll.step(theta, state, jax.random.fold_in(step_key, index), data)
                losses.append(step.losses)
        return jnp.mean(jnp.stack(losses))

    loss, expected = jax.jit(jax.value_and_grad(plain))(theta)
    assert np.all(np.abs(expected) > 1e-3)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)
    np.testing.assert_allclose(info.meta_loss, loss, rtol=1e-6)
    assert info.num_clamped == 0 and info.num_diverged == 0


@functools.cache
def wide_unroll(width=4096):
    """A state of two numbers, and activations a thousand times as many within a truncation."""

    def reset(theta, key, data, num_rounds) -> Any:
        return {"x": jnp.ones(2)}

    def step(theta, state, key, data) -> Any:
        hidden = jnp.sin(jnp.arange(width, dtype=jnp.float32) * (state["x"][0] + theta[0]))
        x = state["x"] * jnp.cos(jnp.mean(jnp.tanh(hidden) ** 2))
        return {"x": x}, UnrollInfo(x, jnp.int32(0))

    return Unroll(reset, step, 1)


def scratch_bytes(num_truncations):
    particles = Particles(1, make_particle_mesh(1))
    estimator = full_backprop(wide_unroll(), constant_length(num_truncations, 1), particles)
    compiled = jax.jit(estimator.estimate).lower(THETA, (), jax.random.key(0), jnp.int32(0), {}).compile()
    analysis = compiled.memory_analysis()
    assert analysis is not None
    return analysis.temp_size_in_bytes


def test_memory_grows_by_a_state_a_truncation():
    growth = (scratch_bytes(72) - scratch_bytes(8)) / 64
    # A state and a loss are 12 bytes, the activations of a truncation more than 16,384.
    assert growth < 200


def test_lengths_are_shared():
    init, estimate = build("full_backprop", schedule=VARIED)
    seen = set()
    for step in range(16):
        _, _, info = estimate(THETA, init(THETA, jax.random.key(0), DATA), jax.random.key(step), jnp.int32(0), DATA)
        assert float(info.mean_age) == int(info.max_age)
        seen.add(int(info.max_age))
    assert seen == set(range(TRUNCATION, EPISODE + 1, TRUNCATION))


@pytest.mark.parametrize("constructor", [truncated_backprop, full_backprop])
def test_a_task_stays_on_one_device(constructor):
    with pytest.raises(ValueError, match="use one device a task"):
        constructor(curved_unroll(), constant_length(2, ROUNDS), Particles(4, make_particle_mesh(4, worker_devices=2)))
