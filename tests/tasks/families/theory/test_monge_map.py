import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.families.theory.monge_map import UNINFORMED_LOSS, entropic_cost, monge_gap, monge_map, optimal_map

COST = jax.jit(entropic_cost, static_argnums=(2, 3))


def half_squares(x, y):
    return 0.5 * ((x[:, None] - y[None]) ** 2).sum(-1)


def slow_sinkhorn(x, y, epsilon, num_iterations=2000):
    """The scaling iteration on the kernel exp(-c / eps), and the value of the coupling that it ends with."""
    cost = half_squares(x, y)
    kernel, n, m = np.exp(-cost / epsilon), len(x), len(y)
    right = np.ones(m)
    for _ in range(num_iterations):
        left = 1 / n / (kernel @ right)
        right = 1 / m / (kernel.T @ left)
    coupling = left[:, None] * kernel * right[None]
    return (coupling * cost).sum() + epsilon * (coupling * np.log(coupling * n * m)).sum()


def best_assignment(x, y):
    cost = half_squares(x, y)
    n = len(x)
    return min(cost[np.arange(n), list(order)].mean() for order in itertools.permutations(range(n)))


@pytest.fixture(scope="module")
def clouds():
    x, y = np.random.default_rng(0).standard_normal((2, 6, 2))
    return x.astype(np.float32), y.astype(np.float32) + 0.5


def test_entropic_cost_is_the_value_of_the_optimal_coupling(clouds):
    x, y = clouds
    expected = slow_sinkhorn(x.astype(np.float64), y.astype(np.float64), 0.5)
    np.testing.assert_allclose(COST(x, y, 0.5, 200), expected, rtol=1e-5)
    # Every iteration raises the dual value.
    assert COST(x, y, 0.5, 1) < COST(x, y, 0.5, 3) < expected + 1e-5


def test_entropic_cost_tends_to_the_best_assignment(clouds):
    x, y = clouds
    expected = best_assignment(x, y)
    value = COST(x, y, 0.002, 2000)
    # The coupling of the best assignment costs eps log n more.
    assert expected - 1e-4 < value < expected + 0.002 * np.log(6) + 1e-4


def test_the_optimal_map_is_a_gradient_and_its_pairs_the_best_assignment():
    directions = jax.random.normal(jax.random.key(0), (3, 2))
    x = jax.random.normal(jax.random.key(1), (7, 2))
    jacobian = jax.vmap(jax.jacobian(lambda point: optimal_map(point[None], directions)[0]))(x)
    np.testing.assert_allclose(jacobian, jnp.swapaxes(jacobian, 1, 2), atol=1e-6)
    assert (np.linalg.eigvalsh(jacobian) > 0.49).all()
    image = np.asarray(optimal_map(x, directions))
    np.testing.assert_allclose(
        best_assignment(np.asarray(x), image), half_squares(x, image).diagonal().mean(), rtol=1e-5
    )


def test_monge_gap_is_near_zero_for_an_optimal_map_and_the_excess_for_another():
    """x -> -x on a set that is symmetric about 0 moves it onto itself: nothing had to move."""
    half = np.random.default_rng(0).standard_normal((5, 2)).astype(np.float32)
    x = jnp.concatenate([half, -half])
    gap = jax.jit(monge_gap, static_argnums=(2, 3))
    directions = jax.random.normal(jax.random.key(0), (3, 2))
    epsilon = 0.01
    assert 0 <= gap(x, optimal_map(x, directions), epsilon, 500) < 2 * epsilon * np.log(10)
    excess = 2 * (half**2).sum(axis=1).mean()
    np.testing.assert_allclose(gap(x, -x, epsilon, 500), excess, atol=2 * epsilon * np.log(10))


def test_loss_is_the_divergence_and_the_penalised_gap():
    family = monge_map(penalty=0.7, epsilon=0.5, num_iterations=200, width=8)
    config = family.sample(jax.random.key(0))
    task = family.task(config, family.data)
    params = jax.tree.map(lambda p: p + 0.3, jax.jit(task.init)(jax.random.key(1)))
    batch = task.sample_batch(jax.random.key(2), "train", (9,))
    w = jax.tree.map(lambda p: np.asarray(p, np.float64), params)
    x, other = (np.asarray(batch[leaf], np.float64) for leaf in ("x", "other_x"))
    v = np.asarray(config["directions"], np.float64)

    def dense(name, h):
        return h @ w[name]["kernel"] + w[name]["bias"]

    def silu(h):
        return h / (1 + np.exp(-h))

    def truth(x):
        return 0.5 * x + sum(np.tanh(x @ k)[:, None] * k for k in v)

    image, y = dense("Dense_2", silu(dense("Dense_1", silu(dense("Dense_0", x))))), truth(other)
    across, own, others, moved = (slow_sinkhorn(a, b, 0.5) for a, b in ((image, y), (image, image), (y, y), (x, image)))
    gap = 0.5 * ((x - image) ** 2).sum(1).mean() + 0.5 * np.log(9) - moved
    expected = across - (own + others) / 2 + 0.7 * gap
    metrics = jax.jit(task.metrics)(params, batch)
    np.testing.assert_allclose([metrics["loss"], metrics["monge_gap"]], [expected, gap], rtol=1e-4)
    best = truth(x)
    unexplained = ((image - best) ** 2).sum() / ((best - best.mean(0)) ** 2).sum()
    np.testing.assert_allclose(metrics["unexplained_variance"], unexplained, rtol=1e-4)


def test_uninformed_loss_is_half_the_variance_of_the_targets():
    family = monge_map()
    keys = jax.random.split(jax.random.key(0), 400)
    x = jax.random.normal(jax.random.key(1), (500, 2))
    images = jax.vmap(lambda key: optimal_map(x, family.sample(key)["directions"]))(keys)
    # Over tasks the half variance has a standard deviation of 1.2, that of this mean is 0.06.
    np.testing.assert_allclose(jnp.mean(jnp.sum(jnp.var(images, axis=1), axis=-1)) / 2, UNINFORMED_LOSS, atol=0.25)


@pytest.mark.parametrize("arguments", [{"penalty": -1.0}, {"epsilon": 0.0}, {"num_iterations": 0}, {"width": 0}])
def test_bad_arguments(arguments):
    ((name, value),) = arguments.items()
    with pytest.raises(ValueError, match=f"{name}={value}"):
        monge_map(**arguments)
