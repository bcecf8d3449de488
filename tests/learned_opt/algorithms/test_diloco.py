"""DiLoCo with AdamW and a schedule against a NumPy loop; its schedule at its corners."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_opt
from learned_opt.algorithms.diloco import diloco_adamw
from tests.learned_opt.algorithms.quadratics import (
    KEY,
    NUM_PARAMS,
    PARAMS,
    assert_close,
    draw_batches,
    flat,
    gradient,
    loss_fn,
    start,
    train,
)

WORKERS, STEPS, ROUNDS = 2, 3, 4
NUM_STEPS, WARMUP = ROUNDS * STEPS, 4
BATCHES = draw_batches(ROUNDS, WORKERS, STEPS)


@pytest.fixture(autouse=True)
def standard_promotion():
    # optax's adamw mixes integers and floats.
    with jax.numpy_dtype_promotion("standard"):
        yield


def learning_rate(step, peak, final):
    if step < WARMUP:
        return peak * step / WARMUP
    through = (step - WARMUP) / (NUM_STEPS - WARMUP)
    return peak * (final + (1 - final) * 0.5 * (1 + np.cos(np.pi * through)))


def test_against_a_loop():
    peak, final, b1, b2, decay, a, b = 0.2, 0.1, 0.9, 0.95, 0.1, 0.7, 0.9
    x, outer, path = start(), np.zeros(NUM_PARAMS), []
    m, v = np.zeros((WORKERS, NUM_PARAMS)), np.zeros((WORKERS, NUM_PARAMS))
    for t, batches in enumerate(BATCHES):
        ends = []
        for k, worker in enumerate(batches):
            y = x
            for h in range(STEPS):
                step, g = t * STEPS + h, gradient(y, worker[h])
                m[k] = b1 * m[k] + (1 - b1) * g
                v[k] = b2 * v[k] + (1 - b2) * g**2
                direction = (m[k] / (1 - b1 ** (step + 1))) / (np.sqrt(v[k] / (1 - b2 ** (step + 1))) + 1e-8)
                y = y - learning_rate(step, peak, final) * (direction + decay * y)
            ends.append(y)
        delta = x - np.mean(ends, axis=0)
        outer = b * outer + delta
        x = x - a * (delta + b * outer)
        path.append(x)
    algorithm = diloco_adamw(NUM_STEPS, peak, warmup_steps=WARMUP, final_fraction=final)
    assert_close(train(algorithm, BATCHES)[0], path)


def test_a_training_without_warm_up_begins_at_the_peak():
    found, _, _ = train(diloco_adamw(NUM_STEPS, 0.2, warmup_steps=0, weight_decay=0.0), draw_batches(1, 1, 1))
    # Adam's first step is the sign of the gradient; the server's first of Nesterov is a (1 + b).
    np.testing.assert_allclose(np.abs(found[0] - start()), 0.2 * 0.7 * 1.9, rtol=1e-4)


@pytest.mark.parametrize("warmup_steps", [12, 20, -1])
def test_a_warm_up_as_long_as_the_training_is_named(warmup_steps):
    with pytest.raises(ValueError, match=f"warmup_steps={warmup_steps}: use 0 to num_steps - 1 = 11"):
        diloco_adamw(12, warmup_steps=warmup_steps)


def test_the_learning_rate_may_be_traced():
    def final(rate):
        algorithm = learned_opt.simulate(diloco_adamw(NUM_STEPS, rate, warmup_steps=0), WORKERS)
        state, _ = algorithm.round(loss_fn, algorithm.init(PARAMS), KEY, jnp.asarray(BATCHES[0]))
        return flat(algorithm.params(state))

    rates = jnp.float32([0.1, 0.2])
    grid = jax.jit(jax.vmap(final))(rates)
    assert_close(grid[1], jax.jit(final)(rates[1]))
