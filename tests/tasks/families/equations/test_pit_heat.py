import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.base import SPLITS
from tasks.families.equations.pinn_heat import DIFFUSIVITY, heat_residual
from tasks.families.equations.pit_heat import UNINFORMED_LOSS, heat_series, pit_heat, pit_heat_data


@pytest.fixture(scope="module")
def data():
    return pit_heat_data()


def series(points, coefficients):
    """Term by term: k and l are 1, 1; 1, 2; 2, 1; 2, 2."""
    total = 0.0 * points[..., 0]
    for a, (k, m) in zip(coefficients, ((1, 1), (1, 2), (2, 1), (2, 2)), strict=True):
        decay = jnp.exp(-DIFFUSIVITY * math.pi**2 * (k**2 + m**2) * points[..., 0])
        total += a * decay * jnp.sin(k * math.pi * points[..., 1]) * jnp.sin(m * math.pi * points[..., 2])
    return total


def test_the_exact_solution_solves_the_equation():
    with jax.enable_x64(True):
        points = jax.random.uniform(jax.random.key(0), (20, 1, 3), jnp.float64)
        coefficients = (0.5, -1.0, 2.0, 0.3)
        residual = jax.jit(lambda points: heat_residual(lambda p: series(p, coefficients), points))(points)
        np.testing.assert_allclose(residual, 0, atol=1e-12)
        found = heat_series(np.broadcast_to(coefficients, (20, 4)), np.asarray(points[:, 0]))
        np.testing.assert_allclose(found, series(points[:, 0], coefficients), atol=1e-12)


def test_rows_are_what_they_should_be(data):
    for split in SPLITS:
        rows = data[split]
        assert {leaf.dtype for leaf in rows.values()} == {np.dtype(np.float32)}
        assert {len(leaf) for leaf in rows.values()} == {len(rows["interior"])} and len(rows["interior"]) <= 8192
        assert (rows["initial"][:, 0] == 0).all() and rows["samples"].shape[1:] == (25,)
        x, y = rows["boundary"][:, 1:].T
        assert np.stack([x == 0, x == 1, y == 0, y == 1]).any(axis=0).all()
        # Samples on the grid pin the four terms down: least squares finds them, and with them every value.
        i, j = np.divmod(np.arange(25), 5)
        modes = [
            np.sin(k * np.pi * (i + 1) / 6) * np.sin(m * np.pi * (j + 1) / 6)
            for k, m in ((1, 1), (1, 2), (2, 1), (2, 2))
        ]
        coefficients = np.linalg.lstsq(np.stack(modes, axis=1), rows["samples"].T.astype(np.float64), rcond=None)[0].T
        for place, value in (("initial", "u_initial"), ("interior", "u_interior")):
            exact = series(rows[place].astype(np.float64).T[:, None].T[:, 0], coefficients.T)
            np.testing.assert_allclose(rows[value], exact, atol=1e-5)
    assert not np.isin(data["test"]["samples"][:, 0], data["train"]["samples"][:, 0]).all()


@pytest.mark.slow
def test_uninformed_loss_is_that_of_the_zero_function(data):
    family = pit_heat(4)
    task = family.task({}, data)
    zero = jax.tree.map(jnp.zeros_like, jax.jit(task.init)(jax.random.key(0)))
    metrics = jax.jit(task.metrics)(zero, family.eval_batch(data, "train"))
    # u_0^2 has a standard deviation of 1.4, its mean over 8192 rows one of 0.016.
    np.testing.assert_allclose(metrics["loss"], UNINFORMED_LOSS, atol=0.07)
    np.testing.assert_allclose(metrics["relative_l2"], 1, rtol=1e-6)


def test_number_of_parameters_and_bad_width():
    family = pit_heat()
    params = jax.eval_shape(family.task({}, family.data).init, jax.random.key(0))
    # Points with 12 features, keys and values of tokens with 13 entries, and the MLP.
    expected = (15 * 32 + 32) + 2 * 13 * 32 + (32 * 32 + 32) + (32 * 64 + 64) + (64 * 32 + 32) + 33
    assert sum(p.size for p in jax.tree.leaves(params)) == expected
    with pytest.raises(ValueError, match="width=0"):
        pit_heat(0)
