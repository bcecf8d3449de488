import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.base import SPLITS
from tasks.families.theory.quadratics import quadratics

DIMS = 6


@pytest.fixture(scope="module")
def family():
    return quadratics(DIMS, exponents=(0.5, 2.0), noise_floor=0.05, num_rows=64)


@pytest.fixture(scope="module")
def config(family):
    return jax.jit(family.sample)(jax.random.key(3))


def test_hessian_has_the_asked_spectrum(family, config):
    task = family.task(config, family.data)
    batch = family.eval_batch(family.data, "train")
    hessian = jax.jit(jax.hessian(lambda x: task.loss({"x": x}, jax.random.key(0), batch)))(jnp.ones(DIMS))
    spectrum = np.sort(np.linalg.eigvalsh(np.asarray(hessian, np.float64)))[::-1]
    np.testing.assert_allclose(spectrum, config["eigenvalues"], rtol=1e-4, atol=1e-6)
    exponent = -np.log(config["eigenvalues"][1]) / np.log(2)
    assert 0.5 <= exponent <= 2.0
    np.testing.assert_allclose(config["eigenvalues"], np.arange(1, DIMS + 1) ** -exponent, rtol=1e-5)


def test_fixed_exponent():
    family = quadratics(DIMS, exponents=(1.5, 1.5))
    eigenvalues = jax.jit(family.sample)(jax.random.key(0))["eigenvalues"]
    np.testing.assert_allclose(eigenvalues, np.arange(1, DIMS + 1) ** -1.5, rtol=1e-6)


def test_rotation_is_orthogonal_and_uniform(family):
    """Entries of a Haar matrix have mean 0 and variance 1 / n; QR without its sign fix fails on the first entry."""
    keys = jax.random.split(jax.random.key(0), 2000)
    rotations = np.asarray(jax.jit(jax.vmap(lambda key: family.sample(key)["rotation"]))(keys))
    identity = np.einsum("nij,nik->njk", rotations, rotations)
    np.testing.assert_allclose(identity, np.broadcast_to(np.eye(DIMS), identity.shape), atol=1e-5)
    assert (abs(rotations.mean(0)) < 5 / np.sqrt(DIMS * 2000)).all()
    np.testing.assert_allclose((rotations**2).mean(0), 1 / DIMS, rtol=0.25)


@pytest.mark.parametrize("split", SPLITS)
def test_optimum_and_floor_of_every_split(family, config, split):
    task = family.task(config, family.data)
    batch = family.eval_batch(family.data, split)
    optimum = {"x": config["optimum"]}
    gradient = jax.jit(jax.grad(task.loss))(optimum, jax.random.key(0), batch)
    np.testing.assert_allclose(gradient["x"], np.zeros(DIMS), atol=1e-6)
    metrics = jax.jit(task.metrics)
    at_optimum, at_zero = (metrics(params, batch) for params in (optimum, {"x": jnp.zeros(DIMS)}))
    np.testing.assert_allclose(at_optimum["loss"], 0.05, rtol=1e-5)
    np.testing.assert_allclose(at_optimum["excess_loss"], 0, atol=1e-6)
    np.testing.assert_allclose(at_zero["excess_loss"], 1, rtol=1e-5)
    np.testing.assert_allclose(at_zero["loss"], family.uninformed_loss, rtol=1e-5)


def test_loss_is_the_closed_form_anywhere(family, config):
    x = np.linspace(-1, 1, DIMS)
    rotation = np.asarray(config["rotation"], np.float64)
    matrix = rotation @ np.diag(np.asarray(config["eigenvalues"], np.float64)) @ rotation.T
    away = x - np.asarray(config["optimum"], np.float64)
    task = family.task(config, family.data)
    batch = family.eval_batch(family.data, "train")
    loss = jax.jit(task.loss)({"x": jnp.asarray(x, jnp.float32)}, jax.random.key(0), batch)
    np.testing.assert_allclose(loss, 0.5 * away @ matrix @ away + 0.05, rtol=1e-4)


def test_gradient_noise_has_covariance_proportional_to_the_hessian(family, config):
    rows = family.data["train"]["noise"].astype(np.float64)
    task = family.task(config, family.data)

    def gradient(row):
        return jax.grad(task.loss)({"x": config["optimum"]}, jax.random.key(0), {"noise": row[None]})["x"]

    gradients = np.asarray(jax.jit(jax.vmap(gradient))(family.data["train"]["noise"]), np.float64)
    root = np.asarray(config["rotation"]) * np.sqrt(np.asarray(config["eigenvalues"]))
    # noise_floor = 1/2 s^2 mean |z|^2 with mean |z|^2 = 1.
    expected = 2 * 0.05 * root @ (rows.T @ rows / len(rows)) @ root.T
    np.testing.assert_allclose(gradients.T @ gradients / len(rows), expected, atol=1e-6)
    np.testing.assert_allclose(rows.T @ rows / len(rows), np.eye(DIMS) / DIMS, atol=0.15)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"num_dims": 1}, "num_dims=1"),
        ({"exponents": (2.0, 1.0)}, r"exponents=\(2.0, 1.0\)"),
        ({"noise_floor": -1.0}, "noise_floor=-1.0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        quadratics(**arguments)
