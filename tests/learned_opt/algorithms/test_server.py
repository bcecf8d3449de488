"""Server optimizers against NumPy loops of their definitions, their identities, optax contracts."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt.algorithms.server import diloco, fedadam, fedavg, slowmo

SERVERS = {
    "fedavg": fedavg,
    "slowmo": lambda: slowmo(0.7, 0.6, 0.5),
    "diloco": lambda: diloco(0.7, 0.9),
    "fedadam": lambda: fedadam(0.1, 0.9, 0.99, 1e-3),
}
ROUNDS = 6


@pytest.fixture(params=SERVERS)
def server(request):
    return SERVERS[request.param]()


def pseudo_gradients(dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(0), ROUNDS)
    return [
        {
            "w": jax.random.normal(key, (3, 4), dtype),
            "b": jax.random.normal(jax.random.fold_in(key, 1), (), dtype),
        }
        for key in keys
    ]


def update(server, delta, state, params=None) -> Any:
    return server.update(delta, state, params)


def trajectory(server, deltas):
    params = jax.tree.map(jnp.ones_like, deltas[0])
    state, path = server.init(params), []
    for delta in deltas:
        updates, state = update(server, delta, state, params)
        params = optax.apply_updates(params, updates)
        path.append(params)
    return path


def assert_same_bits(first, second):
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def numpy_path(step, deltas):
    """Runs `step(delta, memory) -> change` per leaf in float64."""
    x = {name: np.ones(leaf.shape) for name, leaf in deltas[0].items()}
    memory = {name: {} for name in x}
    path = []
    for delta in deltas:
        for name in x:
            x[name] = x[name] + step(np.asarray(delta[name], np.float64), memory[name])
        path.append(dict(x))
    return path


@pytest.mark.parametrize("make", [lambda: slowmo(1.0, 0.0, 0.3), lambda: diloco(1.0, 0.0)])
@pytest.mark.parametrize("jit", [False, True])
def test_without_momentum_is_fedavg_to_the_last_bit(make, jit):
    wrap = jax.jit if jit else lambda f: f
    deltas = pseudo_gradients()
    expected = wrap(lambda d: trajectory(fedavg(), d))(deltas)
    assert_same_bits(wrap(lambda d: trajectory(make(), d))(deltas), expected)


def test_fedavg_is_parameter_averaging():
    before = jnp.float32([1.0, 2.0])
    workers = jnp.float32([[0.5, 1.0], [0.25, 3.0]])
    delta = jnp.mean(before[None] - workers, axis=0)
    updates, _ = update(fedavg(), delta, fedavg().init(before))
    np.testing.assert_allclose(before + updates, workers.mean(axis=0))


def test_diloco_is_optax_nesterov_to_the_last_bit():
    deltas = pseudo_gradients()
    optax_path = trajectory(optax.sgd(0.7, 0.9, nesterov=True), deltas)
    assert_same_bits(trajectory(diloco(0.7, 0.9), deltas), optax_path)


def test_slowmo_against_numpy():
    def step(delta, memory, a=0.7, b=0.6, eta=0.5):
        memory["u"] = b * memory.get("u", 0.0) + delta / eta
        return -a * eta * memory["u"]

    deltas = pseudo_gradients()
    for got, want in zip(trajectory(slowmo(0.7, 0.6, 0.5), deltas), numpy_path(step, deltas), strict=True):
        jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=2e-6, atol=2e-6), got, want)


def test_slowmo_rescales_its_momentum_when_the_local_learning_rate_changes():
    etas = [0.5, 0.5, 0.1, 0.05]
    server = optax.inject_hyperparams(slowmo)(0.7, 0.6, lambda count: jnp.asarray(etas)[count])
    params = jnp.float32(1.0)
    state, u, x = server.init(params), 0.0, 1.0
    for delta, eta in zip([0.3, -0.2, 0.1, 0.4], etas, strict=True):
        updates, state = update(server, jnp.float32(delta), state, params)
        params = params + updates
        u = 0.6 * u + delta / eta
        x -= 0.7 * eta * u
        np.testing.assert_allclose(params, x, rtol=1e-6)


def test_diloco_against_numpy():
    def step(delta, memory, a=0.7, b=0.9):
        memory["m"] = b * memory.get("m", 0.0) + delta
        return -a * (delta + b * memory["m"])

    deltas = pseudo_gradients()
    for got, want in zip(trajectory(diloco(0.7, 0.9), deltas), numpy_path(step, deltas), strict=True):
        jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=2e-6, atol=2e-6), got, want)


def test_fedadam_against_numpy():
    def step(delta, memory, a=0.1, b1=0.8, b2=0.95, tau=1e-2):
        memory["m"] = b1 * memory.get("m", 0.0) + (1 - b1) * delta
        memory["v"] = b2 * memory.get("v", tau**2) + (1 - b2) * delta**2
        return -a * memory["m"] / (np.sqrt(memory["v"]) + tau)

    deltas = pseudo_gradients()
    path = trajectory(fedadam(0.1, 0.8, 0.95, 1e-2), deltas)
    for got, want in zip(path, numpy_path(step, deltas), strict=True):
        jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=2e-6, atol=2e-6), got, want)


def test_hyperparameters_vmap_as_one_by_one():
    deltas = pseudo_gradients()
    settings = jnp.float32([[0.1, 0.5, 0.3], [1.0, 0.9, 0.7]])
    for make in (slowmo, diloco, lambda a, b, c: fedadam(a, b, 0.99, c)):
        arity = 2 if make is diloco else 3
        grid = jax.vmap(lambda s, make=make, n=arity: trajectory(make(*s[:n]), deltas)[-1])(settings)
        for i, setting in enumerate(settings):
            alone = trajectory(make(*setting[:arity]), deltas)[-1]
            jax.tree.map(
                lambda g, w, i=i: np.testing.assert_allclose(g[i], w, rtol=1e-5, atol=1e-6),
                grid,
                alone,
            )


def test_bfloat16_parameters_keep_float32_accumulators(server):
    deltas = pseudo_gradients(jnp.bfloat16)
    state = server.init(deltas[0])
    updates, state = server.update(deltas[0], state)
    assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(updates))
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(state))


def test_none_and_empty_leaves(server):
    params = {"w": jnp.ones((2, 2)), "frozen": None, "empty": jnp.ones((0, 3))}
    updates, state = update(server, params, server.init(params))
    assert updates["frozen"] is None and updates["empty"].shape == (0, 3)
    server.update(updates, state)


def test_masked_leaves_the_rest_alone(server):
    params = {"w": jnp.ones((2,)), "b": jnp.ones((2,))}
    masked = optax.masked(server, {"w": True, "b": False})
    updates, _ = update(masked, params, masked.init(params), params)
    np.testing.assert_array_equal(updates["b"], params["b"])
    assert not np.array_equal(updates["w"], params["w"])


def test_one_trace_and_stable_state(server):
    traces = []

    @jax.jit
    def step(delta, state):
        traces.append(1)
        return server.update(delta, state)

    deltas = pseudo_gradients()
    state = server.init(deltas[0])
    for delta in deltas[:3]:
        _, new_state = step(delta, state)
        assert jax.tree.map(jnp.shape, new_state) == jax.tree.map(jnp.shape, state)
        state = new_state
    assert len(traces) == 1
