"""PALSGD against a NumPy loop with the same draws, in expectation, and without pulls."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.algorithms.palsgd import palsgd, pulled
from learned_opt.algorithms.server import diloco
from tests.learned_opt.algorithms.quadratics import (
    KEY,
    NUM_PARAMS,
    PARAMS,
    assert_close,
    draw_batches,
    gradient,
    start,
    train,
)

WORKERS, STEPS, ETA = 2, 6, 0.1
BATCHES = draw_batches(3, WORKERS, STEPS)


def draws(probability):
    """Whether worker k pulls at step h of round t: the documented keys of a local optimizer, split once."""
    pulls = np.zeros((len(BATCHES), WORKERS, STEPS), bool)
    for t, k, h in np.ndindex(pulls.shape):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.fold_in(KEY, t), k), STEPS + h)
        pulls[t, k, h] = jax.random.bernoulli(jax.random.split(key)[0], probability)
    return pulls


def test_against_a_loop():
    p, alpha, momentum_decay = 0.4, 0.5, 0.8
    pulls, x, path = draws(p), start(), []
    momenta = np.zeros((WORKERS, NUM_PARAMS))
    for t, batches in enumerate(BATCHES):
        ends = []
        for k, worker in enumerate(batches):
            y = x
            for h in range(STEPS):
                if pulls[t, k, h]:
                    # Of all tensors.
                    y = y - ETA * alpha / p * (y - x)
                else:
                    momenta[k] = momentum_decay * momenta[k] + gradient(y, worker[h])
                    y = y - ETA / (1 - p) * momenta[k]
            ends.append(y)
        x = x - 0.5 * (x - np.mean(ends, axis=0))
        path.append(x)
    assert 0 < pulls.mean() < 1 and (pulls[:, 0] != pulls[:, 1]).any()
    algorithm = palsgd(
        lambda rate: optax.sgd(rate, momentum_decay), ETA, probability=p, alpha=alpha, server_opt=optax.sgd(0.5)
    )
    assert_close(train(algorithm, BATCHES)[0], path)


def test_all_tensors_are_pulled():
    """The zip in the authors' code ends after the first."""
    opt = pulled(optax.sgd, 1.0, 0.999, 0.5)
    anchor = jax.tree.map(np.zeros_like, PARAMS)
    updates, _ = opt.update(anchor, opt.init(PARAMS), PARAMS, anchor=anchor, key=KEY)
    jax.tree.map(lambda u, y: np.testing.assert_allclose(u, -0.5 / 0.999 * y, rtol=1e-6), updates, PARAMS)


def test_without_pulls_it_is_local_sgd():
    found, _, _ = train(palsgd(optax.sgd, ETA, probability=0.0), BATCHES)
    np.testing.assert_array_equal(found, train(local_sgd(optax.sgd(ETA), diloco()), BATCHES)[0])


def test_a_step_is_in_expectation_one_of_sgd_and_a_pull():
    p, alpha, number = 0.3, 0.5, 4000
    opt = pulled(optax.sgd, ETA, p, alpha)
    anchor = jax.tree.map(lambda x: np.float32(0.3) * x, PARAMS)

    def step(key):
        return opt.update(PARAMS, opt.init(PARAMS), PARAMS, anchor=anchor, key=key)[0]

    steps = jax.jit(jax.vmap(step))(jax.random.split(KEY, number))["b"]
    expected = -ETA * PARAMS["b"] - ETA * alpha * (PARAMS["b"] - anchor["b"])
    error = np.asarray(steps).std(axis=0) / np.sqrt(number)
    assert np.all(np.abs(np.asarray(steps).mean(axis=0) - expected) < 4 * error)


@pytest.mark.parametrize("probability", [1.0, -0.1])
def test_a_probability_out_of_range_is_named(probability):
    with pytest.raises(ValueError, match=f"probability={probability}: use 0 or more, below 1"):
        palsgd(optax.sgd, ETA, probability=probability)


def test_under_a_schedule_a_step_has_the_rate_of_its_number_whatever_was_pulled():
    p, alpha, rates = 0.4, 0.5, np.linspace(0.0, 0.2, len(BATCHES) * STEPS)
    pulls, x, path = draws(p), start(), []
    for t, batches in enumerate(BATCHES):
        ends = []
        for k, worker in enumerate(batches):
            y = x
            for h in range(STEPS):
                rate = rates[t * STEPS + h]
                step = alpha / p * (y - x) if pulls[t, k, h] else gradient(y, worker[h]) / (1 - p)
                y = y - rate * step
            ends.append(y)
        x = np.mean(ends, axis=0)
        path.append(x)
    table = np.asarray(rates, np.float32)
    algorithm = palsgd(
        optax.sgd, lambda count: jnp.asarray(table)[count], probability=p, alpha=alpha, server_opt=optax.sgd(1.0)
    )
    assert_close(train(algorithm, BATCHES)[0], path)


@pytest.mark.usefixtures("unchecked_annotations")
def test_an_optimizer_in_the_place_of_what_makes_it_is_named():
    with pytest.raises(ValueError, match="use a function of the learning rate, e.g. optax.sgd"):
        pulled(optax.sgd(0.1), ETA, 0.5, 0.5)  # pyright: ignore[reportArgumentType]
