"""FedAvgM, FedYogi and MuLoCo's outer step against NumPy loops, and against what they equal in their limits."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt.algorithms.muloco_momentum import muloco_momentum
from learned_opt.algorithms.server import diloco, fedadam, slowmo
from learned_opt.algorithms.servers.fedavgm import fedavgm
from learned_opt.algorithms.servers.fedyogi import fedyogi

ROUNDS = 6
DELTAS = np.random.default_rng(0).normal(size=(ROUNDS, 5)).astype(np.float32)


def path_of(server, deltas=DELTAS):
    params = jnp.zeros(deltas.shape[1:])
    state, path = server.init(params), []
    for delta in deltas:
        updates, state = server.update(jnp.asarray(delta), state, params)
        params = optax.apply_updates(params, updates)
        path.append(params)
    return jnp.stack(path)


def assert_close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_fedavgm_against_a_loop_and_optax():
    a, b, x, m, path = 0.6, 0.8, np.zeros(5), np.zeros(5), []
    for delta in DELTAS:
        m = b * m + delta
        x = x - a * m
        path.append(x)
    assert_close(path_of(fedavgm(a, b)), path)
    assert_close(path_of(fedavgm(a, b)), path_of(optax.sgd(a, b)))


def test_fedyogi_against_a_loop():
    a, b1, b2, tau = 0.1, 0.8, 0.95, 1e-2
    x, m, v, path = np.zeros(5), np.zeros(5), np.full(5, tau**2), []
    # Small after large: v falls by (1 - b2) Delta^2 where Adam's would fall by (1 - b2) v.
    deltas = DELTAS * np.asarray([1, 1, 0.1, 0.1, 2, 0.5], np.float32)[:, None]
    for delta in deltas:
        m = b1 * m + (1 - b1) * delta
        v = np.where(v > delta**2, v - (1 - b2) * delta**2, v + (1 - b2) * delta**2)
        x = x - a * m / (np.sqrt(v) + tau)
        path.append(x)
    assert_close(path_of(fedyogi(a, b1, b2, tau), deltas), path)


def test_fedyogi_takes_the_first_step_of_fedadam_up_to_its_start():
    # v = tau^2 + (1 - b2) Delta^2 against b2 tau^2 + (1 - b2) Delta^2; equal for tau = 0.
    assert_close(path_of(fedyogi(0.1, tau=0.0), DELTAS[:1]), path_of(fedadam(0.1, tau=0.0), DELTAS[:1]))


def test_muloco_momentum_against_a_loop():
    a, b, x, u, path = 0.7, 0.6, np.zeros(5), np.zeros(5), []
    for delta in DELTAS:
        u = b * u + a * delta
        x = x - b * u - a * delta
        path.append(x)
    assert_close(path_of(muloco_momentum(a, b)), path)


def test_muloco_momentum_is_dilocos_with_a_constant_learning_rate():
    assert_close(path_of(muloco_momentum(0.7, 0.6)), path_of(diloco(0.7, 0.6)))


def test_muloco_momentum_keeps_the_learning_rate_of_the_round_under_a_schedule():
    rates = [1.0, 0.1]
    server = optax.inject_hyperparams(muloco_momentum)(lambda count: jnp.asarray(rates)[count], 0.5)
    # u = 1, then 0.5 * 1 + 0.1; DiLoCo's would scale the whole momentum by the new 0.1.
    found = path_of(server, np.ones((2, 1), np.float32))
    assert_close(found[:, 0], [-1.5, -1.5 - 0.5 * 0.6 - 0.1])


@pytest.mark.parametrize("make", [fedavgm, fedyogi, muloco_momentum])
def test_accumulators_are_float32_and_updates_of_the_type_of_their_gradient(make):
    server, delta = make(), {"half": jnp.ones(3, jnp.bfloat16), "frozen": None, "empty": jnp.zeros((0, 2))}
    updates, state = server.update(delta, server.init(delta))
    assert jax.tree.map(lambda x: x.dtype, updates) == jax.tree.map(lambda x: x.dtype, delta)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize("make", [fedavgm, fedyogi, muloco_momentum])
def test_learning_rates_vmap_as_one_by_one(make):
    rates = jnp.float32([0.1, 0.7])
    grid = jax.vmap(lambda rate: path_of(make(rate)))(rates)
    for i in range(2):
        assert_close(grid[i], path_of(make(rates[i])))


@pytest.mark.parametrize("make", [fedavgm, fedyogi, muloco_momentum, diloco, fedadam, slowmo])
def test_a_learning_rate_may_be_a_schedule_over_rounds(make):
    rates = jnp.float32([0.5, 0.25, 0.0, 1.0, 0.5, 0.25])
    injected = optax.inject_hyperparams(make)(learning_rate=lambda count: rates[count])
    assert_close(path_of(make(lambda count: rates[count])), path_of(injected))
