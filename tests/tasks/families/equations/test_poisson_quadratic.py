import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.base import SPLITS
from tasks.families.equations.poisson_quadratic import (
    apply_laplacian,
    condition_number,
    laplacian_eigenvalues,
    poisson_quadratic,
    solve_poisson,
)


def dense_laplacian(n):
    """The matrix entry by entry: 4 on the diagonal, -1 between neighbours on the grid."""
    points = [(i, j) for i in range(n) for j in range(n)]
    distance = [[abs(i - k) + abs(j - m) for k, m in points] for i, j in points]
    return 4.0 * np.eye(n * n) - (np.array(distance) == 1)


@pytest.mark.parametrize("n", [2, 5])
def test_eigenvalues_and_condition_number_are_those_of_the_matrix(n):
    exact = np.linalg.eigvalsh(dense_laplacian(n))
    np.testing.assert_allclose(np.sort(laplacian_eigenvalues(n).ravel()), exact, rtol=1e-12)
    np.testing.assert_allclose(condition_number(n), exact[-1] / exact[0], rtol=1e-12)


def test_condition_number_grows_with_the_square_of_the_grid():
    np.testing.assert_allclose(condition_number(1000) / 1001**2, 4 / np.pi**2, rtol=1e-5)


def test_operator_and_solver_are_the_matrix_and_its_inverse():
    a = dense_laplacian(5)
    x = np.random.default_rng(0).standard_normal((5, 5)).astype(np.float32)
    np.testing.assert_allclose(apply_laplacian(jnp.asarray(x)).ravel(), a @ x.ravel(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        solve_poisson(jnp.asarray(x)).ravel(), np.linalg.solve(a, x.ravel()), rtol=1e-4, atol=1e-5
    )


def test_loss_is_the_quadratic_up_to_a_constant():
    """1/2 x'Ax - (b + noise)'x + 1/2 b'x*, which is 1 at x = 0 and 0 at x*; the residual from the same matrix."""
    family = poisson_quadratic(grid_size=5, noise_std=0.3)
    config = family.sample(jax.random.key(0))
    task = family.task(config, family.data)
    params = {"x": jax.random.normal(jax.random.key(1), (5, 5))}
    batch = task.sample_batch(jax.random.key(2), "train", (4,))
    a, x, solution = dense_laplacian(5), *(np.asarray(f, np.float64).ravel() for f in (params["x"], config["solution"]))
    b, noise = a @ solution, np.asarray(batch["noise"], np.float64).mean(0).ravel()
    metrics = jax.jit(task.metrics)(params, batch)
    expected = 0.5 * x @ a @ x - (b + noise) @ x + 0.5 * b @ solution
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)
    np.testing.assert_allclose(task.loss(params, jax.random.key(0), batch), expected, rtol=1e-5)
    residual = np.linalg.norm(b - a @ x) / np.linalg.norm(b)
    np.testing.assert_allclose(metrics["relative_residual"], residual, rtol=1e-5)
    np.testing.assert_allclose(0.5 * b @ solution, family.uninformed_loss, rtol=1e-5)


def test_whole_splits_have_no_noise_and_batches_have():
    family = poisson_quadratic()
    config = family.sample(jax.random.key(0))
    task = family.task(config, family.data)
    params = {"x": config["solution"]}
    for split in SPLITS:
        metrics = jax.jit(task.metrics)(params, family.eval_batch(family.data, split))
        assert abs(metrics["loss"]) < 1e-6 and metrics["relative_residual"] < 1e-6
    batch = task.sample_batch(jax.random.key(1), "train", (32,))
    assert abs(task.loss(params, jax.random.key(0), batch)) > 1e-4


def test_gradient_descent_contracts_at_the_rate_of_the_condition_number():
    """With step 2 / (largest + smallest) the error of the slowest mode shrinks by (kappa - 1) / (kappa + 1)."""
    family = poisson_quadratic(grid_size=6, noise_std=0.0)
    task = family.task(family.sample(jax.random.key(0)), family.data)
    batch = family.eval_batch(family.data, "train")
    eigenvalues = laplacian_eigenvalues(6)
    step = 2 / (eigenvalues.max() + eigenvalues.min())

    @jax.jit
    def residuals(x):
        def descend(x, _):
            gradient = jax.grad(task.loss)({"x": x}, jax.random.key(0), batch)["x"]
            return x - step * gradient, task.metrics({"x": x}, batch)["relative_residual"]

        return jax.lax.scan(descend, x, length=61)[1]

    history = residuals(jnp.zeros((6, 6)))
    kappa = condition_number(6)
    np.testing.assert_allclose((history[60] / history[40]) ** (1 / 20), (kappa - 1) / (kappa + 1), rtol=0.01)


@pytest.mark.parametrize(
    "arguments, message", [({"grid_size": 1}, "grid_size=1"), ({"noise_std": -1.0}, "noise_std=-1")]
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        poisson_quadratic(**arguments)
