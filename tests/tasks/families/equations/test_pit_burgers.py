import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.base import SPLITS
from tasks.families.equations.pit_burgers import (
    NUM_MODES,
    NUM_SENSORS,
    QUERIES,
    UNINFORMED_LOSS,
    VISCOSITY,
    PhysicsInformedTransformer,
    pit_burgers,
    pit_data,
    sensor_places,
)
from tasks.networks.cole_hopf import burgers_solution, sine_series


@pytest.fixture(scope="module")
def data():
    return pit_data()


def features(x):
    return np.concatenate([f(k * np.pi * x[..., None]) for f in (np.sin, np.cos) for k in (1, 2, 3)], axis=-1)


def test_network_is_cross_attention_with_keys_and_values_written_out():
    rng = np.random.default_rng(0)
    points, samples = rng.uniform(-1, 1, (3, 2, 2)), rng.normal(size=(3, NUM_SENSORS))
    model = PhysicsInformedTransformer(8, tuple((float(x),) for x in sensor_places()))
    inputs = jnp.asarray(points, jnp.float32), jnp.asarray(samples, jnp.float32)
    params = jax.jit(model.init)(jax.random.key(0), *inputs)
    params = jax.tree.map(lambda p: p + 0.3 * jnp.asarray(rng.normal(size=p.shape), jnp.float32), params)
    w = jax.tree.map(lambda p: np.asarray(p, np.float64), params["params"])

    def dense(name, h):
        return h @ w[name]["kernel"] + w[name]["bias"]

    found = jax.jit(model.apply)(params, *inputs)
    places = (np.arange(NUM_SENSORS) + 0.5) * 2 / NUM_SENSORS - 1
    for b in range(3):
        tokens = np.concatenate([samples[b][:, None], features(places)], axis=-1)
        keys, values = tokens @ w["key"], tokens @ w["value"]
        for p in range(2):
            h = np.tanh(dense("embed_query", np.concatenate([points[b, p], features(points[b, p, 1])])))
            scores = keys @ dense("query", h) / np.sqrt(8)
            weights = np.exp(scores) / np.exp(scores).sum()
            h = h + weights @ values
            h = h + dense("mlp_down", np.tanh(dense("mlp_up", h)))
            np.testing.assert_allclose(found[b, p], dense("out", h)[0], rtol=1e-4, atol=1e-5)


def test_rows_are_what_they_should_be(data):
    x_sensor = (np.arange(NUM_SENSORS) + 0.5) * 2 / NUM_SENSORS - 1
    for split in SPLITS:
        rows = {name: leaf.astype(np.float64) for name, leaf in data[split].items()}
        assert len(rows["interior"]) <= 8192
        # The midpoint rule is exact for products of low sines, so that the samples give the series back.
        sines = np.sin(np.pi * np.outer(x_sensor, np.arange(1, NUM_MODES + 1)))
        coefficients = rows["samples"] @ sines * (2 / NUM_SENSORS)
        np.testing.assert_allclose(coefficients @ sines.T, rows["samples"], atol=1e-5)
        np.testing.assert_allclose(sine_series(coefficients, rows["initial"][:, 1]), rows["u_initial"], atol=1e-5)
        t, x = rows["interior"].T
        exact = burgers_solution(t, x, coefficients, VISCOSITY)
        np.testing.assert_allclose(exact, rows["u_interior"], atol=1e-4)
        assert (rows["initial"][:, 0] == 0).all() and (abs(rows["boundary"][:, 1]) == 1).all()


def test_splits_share_no_initial_condition(data):
    firsts = np.concatenate([data[split]["samples"][:, 0] for split in SPLITS])
    num_conditions = sum(len(data[split]["samples"]) // (1 if split == "train" else QUERIES) for split in SPLITS)
    assert len(np.unique(firsts)) >= num_conditions - 5


def test_uninformed_loss_is_that_of_the_zero_function(data):
    """The mean of u_0^2 over the 8192 conditions of `train`, within four standard errors."""
    squares = data["train"]["u_initial"].astype(np.float64) ** 2
    assert abs(squares.mean() - UNINFORMED_LOSS) < 4 * squares.std() / len(squares) ** 0.5
    np.testing.assert_allclose(UNINFORMED_LOSS, (1 + 1 / 4 + 1 / 9) / 2)


def test_number_of_parameters_and_bad_width():
    family = pit_burgers()
    params = jax.eval_shape(family.task({}, family.data).init, jax.random.key(0))
    assert sum(p.size for p in jax.tree.leaves(params)) == 6_017
    with pytest.raises(ValueError, match="width=0"):
        pit_burgers(0)
