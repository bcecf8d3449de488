"""Target surrogates in closed form for a linear model, and with one step what the algorithm itself does."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
from learned_opt.algorithms.data_parallel import data_parallel
from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.algorithms.target_surrogate import with_target_surrogate

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 1, 6, 3)).astype(np.float32)
Y = np.sign(RNG.normal(size=(2, 1, 6))).astype(np.float32)
BATCHES = {"x": jnp.asarray(X), "y": jnp.asarray(Y)}
PARAMS = {"w": jnp.asarray(RNG.normal(size=3), jnp.float32)}


def outputs(params, batch):
    return batch["x"] @ params["w"]


def output_loss(z, batch):
    return jnp.mean(jax.nn.softplus(-batch["y"] * z))


def loss_fn(params, key, batch):
    del key
    return output_loss(outputs(params, batch), batch)


def one_round(algorithm):
    algorithm = learned_opt.simulate(algorithm, 2)
    state, info = jax.jit(functools.partial(algorithm.round, loss_fn))(algorithm.init(PARAMS), KEY, BATCHES)
    return np.asarray(algorithm.params(state)["w"]), np.asarray(info.losses)


def test_with_one_step_it_is_the_algorithm_itself():
    plain = local_sgd(optax.sgd(0.3), optax.sgd(1.0))
    found, losses = one_round(with_target_surrogate(plain, outputs, output_loss, 0.5, 1))
    expected, expected_losses = one_round(plain)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-6)


def test_after_many_steps_outputs_have_taken_a_gradient_step_as_far_as_the_model_can():
    """w - eta (X^T X)^-1 X^T dl/dz of each worker, averaged."""
    eta, w = 0.8, np.float64(PARAMS["w"])
    ends = []
    for x, y in zip(X[:, 0].astype(np.float64), Y[:, 0].astype(np.float64), strict=True):
        slope = -y / (1 + np.exp(y * (x @ w)))
        ends.append(w - eta * np.linalg.lstsq(x, slope, rcond=None)[0])
    algorithm = with_target_surrogate(local_sgd(optax.sgd(0.5), optax.sgd(1.0)), outputs, output_loss, eta, 1000)
    found, losses = one_round(algorithm)
    np.testing.assert_allclose(found, np.mean(ends, axis=0), rtol=1e-4, atol=1e-5)
    assert losses.shape == (2, 1) and algorithm.gradients(4) == 4000


def test_outputs_may_be_a_tree():
    def pair(params, batch):
        return {"a": outputs(params, batch)[:, None], "b": jnp.zeros((len(batch["x"]), 2))}

    def loss_of_pair(z, batch):
        return output_loss(z["a"][:, 0], batch)

    plain = local_sgd(optax.sgd(0.3), optax.sgd(1.0))
    found, _ = one_round(with_target_surrogate(plain, pair, loss_of_pair, 0.5, 3))
    np.testing.assert_allclose(
        found, one_round(with_target_surrogate(plain, outputs, output_loss, 0.5, 3))[0], rtol=1e-6
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_repeats": 0}, "num_repeats=0: use at least 1"),
        ({"output_rate": -1.0}, "output_rate=-1.0: use a number above 0"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        with_target_surrogate(data_parallel(optax.sgd(0.1)), outputs, output_loss, **arguments)
