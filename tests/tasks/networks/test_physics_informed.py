import jax
import jax.numpy as jnp
import numpy as np

from tasks.networks.physics_informed import (
    CoordinateNetwork,
    first_derivative,
    physics_informed_task,
    relative_l2,
    second_derivative,
)


def test_derivatives_are_those_of_a_closed_form():
    points = jax.random.uniform(jax.random.key(0), (5, 2, 3), minval=-1.0)
    t, x, y = points[..., 0], points[..., 1], points[..., 2]

    def u(p):
        return jnp.exp(-p[..., 0]) * jnp.sin(2 * p[..., 1]) + p[..., 1] ** 3 * p[..., 2]

    value, slope, curvature = jax.jit(lambda p: second_derivative(u, p, axis=1))(points)
    np.testing.assert_allclose(value, u(points), rtol=1e-6)
    np.testing.assert_allclose(slope, 2 * jnp.exp(-t) * jnp.cos(2 * x) + 3 * x**2 * y, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(curvature, -4 * jnp.exp(-t) * jnp.sin(2 * x) + 6 * x * y, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(first_derivative(u, points, axis=2), x**3, rtol=1e-5, atol=1e-6)


def test_derivatives_of_the_network_agree_with_finite_differences():
    with jax.enable_x64(True):
        model = CoordinateNetwork((8, 8), lower=(0.0, -1.0), upper=(1.0, 1.0))
        points = jax.random.uniform(jax.random.key(0), (4, 1, 2), jnp.float64)
        params = jax.tree.map(
            lambda p: p.astype(jnp.float64), jax.jit(model.init)(jax.random.key(1), jnp.zeros((1, 1, 2), jnp.float32))
        )
        u = jax.jit(lambda points: model.apply(params, points))
        h = 1e-4
        for axis in (0, 1):
            shift = h * np.eye(2)[axis][None, None]
            after, here, before = u(points + shift), u(points), u(points - shift)
            value, slope, curvature = jax.jit(lambda p, axis=axis: second_derivative(u, p, axis))(points)
            np.testing.assert_allclose(value, here, rtol=1e-12)
            np.testing.assert_allclose(slope, (after - before) / (2 * h), rtol=1e-6)
            np.testing.assert_allclose(curvature, (after - 2 * here + before) / h**2, rtol=1e-4, atol=1e-7)
            slope_again = jax.jit(lambda p, axis=axis: first_derivative(u, p, axis))(points)
            np.testing.assert_allclose(slope_again, slope, rtol=1e-12)


def test_network_reads_the_box_and_starts_near_zero():
    """A box twice as wide and the points with it: the same u. Values an order below 1."""
    points = jax.random.uniform(jax.random.key(0), (200, 2))
    model, wider = (CoordinateNetwork((32, 32), lower=(0.0, 0.0), upper=(side, side)) for side in (1.0, 2.0))
    params = jax.jit(model.init)(jax.random.key(1), points)
    u = jax.jit(model.apply)(params, points)
    np.testing.assert_allclose(jax.jit(wider.apply)(params, 2 * points), u, atol=1e-6)
    assert 0.001 < jnp.abs(u).max() < 0.3
    assert sum(p.size for p in jax.tree.leaves(params)) == 2 * 32 + 32 + 32 * 32 + 32 + 32 + 1


def test_loss_and_metrics_by_hand():
    """u = w (t + x^2) with the residual u_t - u_xx / 4 = w / 2, on two rows."""
    batch = {
        "interior": jnp.array([[0.5, 1.0], [0.0, 2.0]]),
        "initial": jnp.array([[0.0, 1.0], [0.0, 0.0]]),
        "boundary": jnp.array([[1.0, 1.0], [0.5, -1.0]]),
        "u_initial": jnp.array([2.0, 1.0]),
        "u_interior": jnp.array([3.0, 4.0]),
    }

    def residual(u, points):
        return first_derivative(u, points, 0) - second_derivative(u, points, 1)[2] / 4

    def solution(params, batch):
        return lambda points: params["w"] * (points[..., 0] + points[..., 1] ** 2)

    task = physics_informed_task(lambda key: {"w": jnp.ones(())}, solution, residual, {})
    params = {"w": jnp.array(2.0)}
    # Misfits at the initial points 2 - 2 and 0 - 1, at the boundary 4 and 3; u = 3 and 8 in the interior.
    expected = 1.0 + (0 + 1) / 2 + (16 + 9) / 2
    np.testing.assert_allclose(task.loss(params, jax.random.key(0), batch), expected, rtol=1e-6)
    metrics = task.metrics(params, batch)
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-6)
    np.testing.assert_allclose(metrics["mean_squared_residual"], 1.0, rtol=1e-6)
    np.testing.assert_allclose(metrics["relative_l2"], 4 / 5, rtol=1e-6)


def test_relative_l2_of_zero_is_one_and_of_the_solution_zero():
    exact = jnp.array([3.0, -4.0])
    np.testing.assert_allclose([relative_l2(0 * exact, exact), relative_l2(exact, exact)], [1, 0], atol=1e-7)
