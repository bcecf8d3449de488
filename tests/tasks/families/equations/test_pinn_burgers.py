import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.base import SPLITS
from tasks.families.equations.pinn_burgers import (
    UNINFORMED_LOSS,
    VISCOSITY,
    burgers_data,
    burgers_residual,
    pinn_burgers,
)
from tasks.networks.cole_hopf import burgers_solution


def travelling_wave(points, nu, speed=0.3, height=0.8):
    """c - a tanh(a (x - c t) / (2 nu)), a solution on the line (e.g. Whitham 1974, chapter 4)."""
    return speed - height * jnp.tanh(height * (points[..., 1] - speed * points[..., 0]) / (2 * nu))


def cole_hopf_mode(points, nu, amplitude=0.4):
    """-2 nu phi_x / phi of the heat solution phi = 1 + b exp(-nu pi^2 t) cos(pi x)."""
    decay = amplitude * jnp.exp(-nu * math.pi**2 * points[..., 0])
    return (
        2 * nu * math.pi * decay * jnp.sin(math.pi * points[..., 1]) / (1 + decay * jnp.cos(math.pi * points[..., 1]))
    )


@pytest.mark.parametrize("nu", [VISCOSITY, 0.3])
@pytest.mark.parametrize("exact", [travelling_wave, cole_hopf_mode])
def test_residual_vanishes_for_closed_form_solutions(exact, nu):
    with jax.enable_x64(True):
        points = jax.random.uniform(jax.random.key(0), (50, 2, 2), jnp.float64, minval=-1.0)
        residual_for = jax.jit(lambda nu_of_u: burgers_residual(lambda p: exact(p, nu_of_u), points, nu))
        residual, scale = residual_for(nu), jnp.abs(residual_for(2 * nu)).max()
        assert residual.shape == (50, 2)
        np.testing.assert_allclose(residual, 0, atol=1e-8 * float(scale))


def test_rows_are_what_they_should_be():
    data = burgers_data()
    for split in SPLITS:
        rows = data[split]
        assert {leaf.dtype for leaf in rows.values()} == {np.dtype(np.float32)}
        assert {len(leaf) for leaf in rows.values()} == {len(rows["interior"])} and len(rows["interior"]) <= 8192
        assert (rows["initial"][:, 0] == 0).all() and (abs(rows["boundary"][:, 1]) == 1).all()
        np.testing.assert_allclose(rows["u_initial"], -np.sin(np.pi * rows["initial"][:, 1]), atol=1e-6)
        t, x = rows["interior"].astype(np.float64).T
        exact = burgers_solution(t, x, np.full((len(t), 1), -1.0), 0.01 / math.pi)
        # A float32 x is off by 6e-8 at most, where the slope reaches 152.
        np.testing.assert_allclose(rows["u_interior"], exact, atol=2e-5)
    assert (burgers_data()["train"]["interior"] == data["train"]["interior"]).all()
    assert not np.isin(data["inner_valid"]["interior"], data["outer_valid"]["interior"]).any()


def test_uninformed_loss_is_that_of_the_zero_function():
    family = pinn_burgers((4,))
    task = family.task({}, family.data)
    zero = jax.tree.map(jnp.zeros_like, jax.jit(task.init)(jax.random.key(0)))
    metrics = jax.jit(task.metrics)(zero, family.eval_batch(family.data, "train"))
    # The standard deviation of sin^2 is 0.35, its standard error over 8192 rows 0.004.
    np.testing.assert_allclose(metrics["loss"], UNINFORMED_LOSS, atol=0.016)
    np.testing.assert_allclose(metrics["relative_l2"], 1, rtol=1e-6)
    np.testing.assert_allclose(metrics["mean_squared_residual"], 0, atol=1e-12)


def test_number_of_parameters_and_bad_sizes():
    family = pinn_burgers()
    params = jax.eval_shape(family.task({}, family.data).init, jax.random.key(0))
    assert sum(p.size for p in jax.tree.leaves(params)) == 3_297
    for sizes in ((), (32, 0)):
        with pytest.raises(ValueError, match="hidden_sizes"):
            pinn_burgers(sizes)
