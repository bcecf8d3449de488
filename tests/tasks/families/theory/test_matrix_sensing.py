import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.families.theory.matrix_sensing import matrix_sensing


@pytest.mark.parametrize("symmetric", [True, False])
def test_truth_has_the_rank_and_unit_norm(symmetric):
    family = matrix_sensing(size=7, rank=3, symmetric=symmetric)
    truth = np.asarray(family.sample(jax.random.key(0))["truth"], np.float64)
    singular_values = np.linalg.svd(truth, compute_uv=False)
    assert singular_values[2] > 1e-3 and singular_values[3] < 1e-6
    np.testing.assert_allclose(np.linalg.norm(truth), 1, rtol=1e-6)
    assert np.allclose(truth, truth.T) == symmetric
    if symmetric:
        assert np.linalg.eigvalsh(truth).min() > -1e-6


@pytest.mark.parametrize("symmetric", [True, False])
def test_metrics_are_the_written_out_formulas(symmetric):
    family = matrix_sensing(size=5, rank=1, num_factors=3, symmetric=symmetric, init_scale=0.5)
    config = family.sample(jax.random.key(0))
    task = family.task(config, family.data)
    params = task.init(jax.random.key(1))
    batch = task.sample_batch(jax.random.key(2), "train", (9,))
    left, right = (np.asarray(params[name], np.float64) for name in (("x", "x") if symmetric else ("f", "g")))
    error = left @ right.T - np.asarray(config["truth"], np.float64)
    residuals = [np.trace(a.T @ error) for a in np.asarray(batch["sensing"], np.float64)]
    metrics = jax.jit(task.metrics)(params, batch)
    np.testing.assert_allclose(metrics["loss"], 0.5 * np.mean(np.square(residuals)), rtol=1e-5)
    np.testing.assert_allclose(metrics["relative_error"], np.linalg.norm(error), rtol=1e-5)
    np.testing.assert_allclose(task.loss(params, jax.random.key(0), batch), metrics["loss"], rtol=1e-6)


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_factorisation_of_the_truth_has_no_error(symmetric):
    family = matrix_sensing(symmetric=symmetric)
    config = family.sample(jax.random.key(0))
    task = family.task(config, family.data)
    u, s, vt = np.linalg.svd(np.asarray(config["truth"], np.float64))
    f, g = ((m[:, :4] * np.sqrt(s[:4])).astype(np.float32) for m in (u, vt.T))
    params = {"x": jnp.asarray(f)} if symmetric else {"f": jnp.asarray(f), "g": jnp.asarray(g)}
    metrics = jax.jit(task.metrics)(params, family.eval_batch(family.data, "test"))
    assert metrics["relative_error"] < 1e-5 and metrics["loss"] < 1e-10


def test_expected_loss_is_half_the_squared_distance():
    """Over many measurements; the standard error of the mean of chi-squared residuals is sqrt(2 / N)."""
    family = matrix_sensing(num_train=20_000)
    task = family.task(family.sample(jax.random.key(0)), family.data)
    metrics = jax.jit(task.metrics)(task.init(jax.random.key(1)), family.eval_batch(family.data, "train"))
    np.testing.assert_allclose(metrics["loss"], 0.5 * metrics["relative_error"] ** 2, rtol=4 * (2 / 20_000) ** 0.5)


@pytest.mark.parametrize(
    "arguments, message",
    [({"rank": 11}, "rank=11"), ({"num_factors": 1}, "num_factors=1"), ({"init_scale": 0.0}, "init_scale=0.0")],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        matrix_sensing(**arguments)
