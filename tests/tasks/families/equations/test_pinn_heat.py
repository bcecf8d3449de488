import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.base import SPLITS
from tasks.families.equations.pinn_heat import (
    DIFFUSIVITY,
    UNINFORMED_LOSS,
    heat_data,
    heat_residual,
    heat_solution,
    pinn_heat,
)


def exact(points, diffusivity=DIFFUSIVITY):
    decay = jnp.exp(-diffusivity * 5 * math.pi**2 * points[..., 0])
    return decay * jnp.sin(math.pi * points[..., 1]) * jnp.sin(2 * math.pi * points[..., 2])


def test_residual_vanishes_for_the_exact_solution_and_for_no_other_diffusivity():
    with jax.enable_x64(True):
        points = jax.random.uniform(jax.random.key(0), (50, 2, 3), jnp.float64)
        residual_for = jax.jit(lambda diffusivity: heat_residual(lambda p: exact(p, diffusivity), points))
        np.testing.assert_allclose(residual_for(DIFFUSIVITY), 0, atol=1e-12)
        other = residual_for(2 * DIFFUSIVITY)
        expected = -DIFFUSIVITY * 5 * math.pi**2 * exact(points, 2 * DIFFUSIVITY)
        np.testing.assert_allclose(other, expected, rtol=1e-9, atol=1e-12)


def test_residual_of_a_polynomial():
    """u = t x^2 + x y^3: u_t = x^2, u_xx = 2 t, u_yy = 6 x y."""
    points = jax.random.uniform(jax.random.key(1), (7, 1, 3))
    t, x, y = points[..., 0], points[..., 1], points[..., 2]

    def u(p):
        return p[..., 0] * p[..., 1] ** 2 + p[..., 1] * p[..., 2] ** 3

    residual = jax.jit(lambda points: heat_residual(u, points, 0.5))(points)
    np.testing.assert_allclose(residual, x**2 - 0.5 * (2 * t + 6 * x * y), rtol=1e-5, atol=1e-6)


def test_rows_are_what_they_should_be():
    data = heat_data()
    for split in SPLITS:
        rows = data[split]
        assert {leaf.dtype for leaf in rows.values()} == {np.dtype(np.float32)}
        assert {len(leaf) for leaf in rows.values()} == {len(rows["interior"])} and len(rows["interior"]) <= 8192
        np.testing.assert_allclose(rows["u_interior"], exact(rows["interior"]), atol=1e-6)
        assert (rows["initial"][:, 0] == 0).all()
        np.testing.assert_allclose(rows["u_initial"], exact(rows["initial"]), atol=1e-6)
        x, y = rows["boundary"][:, 1:].T
        edges = np.stack([x == 0, x == 1, y == 0, y == 1])
        assert edges.any(axis=0).all() and (edges.mean(axis=1) > 0.2).all()
        np.testing.assert_allclose(heat_solution(rows["boundary"].astype(np.float64)), 0, atol=1e-12)
    assert (heat_data()["train"]["interior"] == data["train"]["interior"]).all()


def test_uninformed_loss_is_that_of_the_zero_function():
    family = pinn_heat((4,))
    task = family.task({}, family.data)
    zero = jax.tree.map(jnp.zeros_like, jax.jit(task.init)(jax.random.key(0)))
    metrics = jax.jit(task.metrics)(zero, family.eval_batch(family.data, "train"))
    # The standard deviation of u_0^2 is 0.28, its standard error over 8192 rows 0.003.
    np.testing.assert_allclose(metrics["loss"], UNINFORMED_LOSS, atol=0.012)
    np.testing.assert_allclose(metrics["relative_l2"], 1, rtol=1e-6)


def test_number_of_parameters_and_bad_sizes():
    family = pinn_heat()
    params = jax.eval_shape(family.task({}, family.data).init, jax.random.key(0))
    assert sum(p.size for p in jax.tree.leaves(params)) == 2_273
    with pytest.raises(ValueError, match="hidden_sizes"):
        pinn_heat(())
