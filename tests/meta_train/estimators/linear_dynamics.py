"""An inner problem whose meta-gradient is known: linear dynamics, and a loss quadratic in the state.

    x_{t+1} = D x_t + theta,   L_{t+1} = |x_{t+1} - TARGET|^2 / 2,   x_0 = START + spread * z of the task

Losses are quadratic in theta, or in any sequence of thetas, so smoothing adds a constant and leaves the gradient: with
S_r = I + D + ... + D^{r-1}, dL_t/dtheta = S_r (x_t - TARGET) where the last r rounds count as following theta.
"""

import functools
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from meta_train.estimators import ESTIMATORS, particle_mesh
from meta_train.estimators.base import Particles
from meta_train.estimators.particle_mesh import make_particle_mesh
from meta_train.estimators.truncation import constant_length, log_uniform_length
from meta_train.estimators.unroll import Unroll, UnrollInfo

TRUNCATION = 2
EPISODE = 8
DECAY = np.asarray([0.9, -0.5], np.float32)
START = np.asarray([1.0, -0.5], np.float32)
TARGET = np.asarray([0.2, 0.4], np.float32)
THETA = jnp.asarray([0.3, 0.1], jnp.float32)
EXACT_THETA = np.asarray([0.3, 0.1])


def linear_unroll(spread=0.0) -> Unroll:
    """Its inner state holds x, the rounds done, the task's z, and the theta and key last used."""

    def reset(theta, key, data, num_rounds) -> Any:
        z = jax.random.normal(key, (2,), dtype=theta.dtype)
        x = data["start"] + spread * z
        return {"x": x, "rounds": jnp.int32(0), "z": z, "theta": jnp.zeros_like(z), "key": jnp.uint32(0)}

    def step(theta, state, key, data) -> Any:
        def one_round(x, _):
            x = data["decay"] * x + theta
            return x, 0.5 * jnp.sum(jnp.square(x - data["target"]))

        x, losses = jax.lax.scan(one_round, state["x"], None, length=TRUNCATION)
        rounds, bits = state["rounds"] + TRUNCATION, jax.random.bits(key)
        state = {"x": x, "rounds": rounds, "z": state["z"], "theta": theta, "key": bits}
        return state, UnrollInfo(losses, jnp.int32(0))

    return Unroll(reset, step, TRUNCATION)


LINEAR = linear_unroll()
DATA = {"start": START, "decay": DECAY, "target": TARGET}
CONSTANT = constant_length(EPISODE, TRUNCATION)
VARIED = log_uniform_length(TRUNCATION, EPISODE, TRUNCATION)


@functools.cache
def build(
    name, unroll=LINEAR, schedule=CONSTANT, num_tasks=16, sigma=0.1, num_devices=8, pairs_per_task=1, at_once=False
):
    """(init, estimate) of an estimator, the latter compiled; `at_once`: all particles of a device in one chunk, which
    is many times faster for a problem this small."""
    mesh = make_particle_mesh(8)
    mesh = jax.sharding.Mesh(mesh.devices[:num_devices], mesh.axis_names)
    estimator = ESTIMATORS[name]().build(unroll, schedule, Particles(num_tasks, mesh, sigma, pairs_per_task))
    compiled = jax.jit(estimator.estimate)

    def estimate(*arguments):
        with mock.patch.object(particle_mesh, "chunk_size", lambda count: count):
            return compiled(*arguments)

    return estimator.init, estimate if at_once else compiled


def state_after(rounds, start=START):
    """x after so many rounds of theta."""
    x = np.asarray(start, np.float64)
    for _ in range(rounds):
        x = DECAY * x + EXACT_THETA
    return x


def gradient_of_round(rounds, counted, start=START):
    """d L_rounds / d theta where the last `counted` rounds count as following theta."""
    sensitivity = sum(np.asarray(DECAY, np.float64) ** k for k in range(counted))
    return sensitivity * (state_after(rounds, start) - TARGET)


@functools.cache
def gradient_of_truncation(age: int, whole_episode: bool):
    """Gradient of the mean loss of the truncation that begins at `age`; of theta's whole effect since the episode
    began, or of that within the truncation alone."""
    rounds = range(age + 1, age + TRUNCATION + 1)
    return np.mean([gradient_of_round(t, t if whole_episode else t - age) for t in rounds], axis=0)


def begun_ages(state) -> jax.Array:
    """Age at which each particle begins its next truncation: 0 if its episode has ended."""
    return jnp.where(state.age >= state.unroll_length, 0, state.age)


def exact_gradient(ages, whole_episode: bool):
    """Mean over particles of `gradient_of_truncation`."""
    ages, counts = np.unique(np.asarray(ages), return_counts=True)
    rows = [gradient_of_truncation(int(age), whole_episode) for age in ages]
    return np.average(rows, axis=0, weights=counts)
