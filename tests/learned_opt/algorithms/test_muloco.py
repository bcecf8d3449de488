"""MuLoCo against a NumPy loop of Muon and Nesterov's step, in its K = 1 form, and its choice of matrices."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_opt
from learned_opt.algorithms.muloco import is_hidden_matrix, muloco, muon_and_adamw

WORKERS, STEPS, ROUNDS = 2, 3, 3
KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
PARAMS = {
    "bias": RNG.normal(size=3).astype(np.float32),
    "kernel": RNG.normal(size=(4, 3)).astype(np.float32),
}
BATCHES = {
    name: RNG.normal(size=(ROUNDS, WORKERS, STEPS, 1, *p.shape)).astype(np.float32) for name, p in PARAMS.items()
}


def loss_fn(params, key, batch):
    """A batch holds the target of each parameter."""
    del key
    return jnp.asarray(sum(0.5 * jnp.sum(jnp.square(params[name] - batch[name][0])) for name in params))


@pytest.fixture(autouse=True)
def standard_promotion():
    # optax's adamw and muon mix integers and floats.
    with jax.numpy_dtype_promotion("standard"):
        yield


def orthogonalized(x):
    """Five Newton-Schulz iterations with the published coefficients, on the side with fewer rows."""
    x = x / np.linalg.norm(x)
    is_tall = x.shape[0] > x.shape[1]
    x = x.T if is_tall else x
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.T if is_tall else x


def numpy_path(num_workers, rate, adam_rate, decay, a, b):
    beta, b1, b2 = 0.95, 0.9, 0.95
    x = {name: p.astype(np.float64) for name, p in PARAMS.items()}
    u = {name: np.zeros_like(p) for name, p in x.items()}
    momenta = [{name: np.zeros_like(p) for name, p in x.items()} for _ in range(num_workers)]
    squares = [np.zeros(3) for _ in range(num_workers)]
    path = []
    for t in range(ROUNDS):
        ends = []
        for k in range(num_workers):
            y = dict(x)
            for h in range(STEPS):
                n = t * STEPS + h + 1
                g = {name: y[name] - BATCHES[name][t, k, h, 0] for name in y}
                m = momenta[k]
                m["kernel"] = beta * m["kernel"] + (1 - beta) * g["kernel"]
                nesterov = beta * m["kernel"] / (1 - beta ** (n + 1)) + (1 - beta) * g["kernel"] / (1 - beta**n)
                step = orthogonalized(nesterov) * np.sqrt(max(1, 3 / 4))
                y["kernel"] = y["kernel"] - rate * (step + decay * y["kernel"])
                m["bias"] = b1 * m["bias"] + (1 - b1) * g["bias"]
                squares[k] = b2 * squares[k] + (1 - b2) * g["bias"] ** 2
                # optax's muon runs its AdamW with Nesterov's look-ahead, as it does Muon.
                mean = b1 * m["bias"] / (1 - b1 ** (n + 1)) + (1 - b1) * g["bias"] / (1 - b1**n)
                step = mean / (np.sqrt(squares[k] / (1 - b2**n)) + 1e-8)
                y["bias"] = y["bias"] - adam_rate * (step + decay * y["bias"])
            ends.append(y)
        for name in x:
            delta = x[name] - np.mean([end[name] for end in ends], axis=0)
            u[name] = b * u[name] + a * delta
            x[name] = x[name] - b * u[name] - a * delta
        path.append(dict(x))
    return path


@pytest.mark.parametrize("num_workers", [1, 2])
def test_against_a_loop(num_workers):
    algorithm = muloco(0.1, adam_learning_rate=0.05, weight_decay=0.02, server_learning_rate=0.7, server_momentum=0.6)
    algorithm = learned_opt.simulate(algorithm, num_workers)
    one_round = jax.jit(functools.partial(algorithm.round, loss_fn))
    state = algorithm.init(PARAMS)
    for t, expected in enumerate(numpy_path(num_workers, 0.1, 0.05, 0.02, 0.7, 0.6)):
        state, _ = one_round(state, KEY, {name: batch[t, :num_workers] for name, batch in BATCHES.items()})
        for name, value in algorithm.params(state).items():
            # Newton-Schulz in float32 is good to 1e-4 of its unit of size.
            np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("path", "shape", "expected"),
    [
        ("mlp/kernel", (4, 4), True),
        ("conv/kernel", (3, 3, 4, 4), True),
        ("MultiHeadDotProductAttention_0/query/kernel", (4, 2, 2), True),
        ("mlp/bias", (4,), False),
        ("mlp/empty", (0, 4), False),
        ("Embed_0/table", (4, 4), False),
        ("position_embedding", (4, 4), False),
        ("lm_head/kernel", (4, 4), False),
        ("head_0/kernel", (4, 4), False),
    ],
)
def test_matrices_that_are_hidden(path, shape, expected):
    tree = jnp.zeros(shape)
    for part in reversed(path.split("/")):
        tree = {part: tree}
    ((found_path, leaf),) = jax.tree_util.tree_leaves_with_path(tree)
    assert is_hidden_matrix(found_path, leaf) is expected


def test_a_convolution_is_a_matrix_of_all_its_inputs():
    kernel = RNG.normal(size=(2, 2, 3, 4)).astype(np.float32)
    steps = []
    for shape in ((2, 2, 3, 4), (12, 4)):
        tx, gradient = muon_and_adamw(0.1, weight_decay=0.0), {"kernel": jnp.asarray(kernel.reshape(shape))}
        updates: Any = tx.update(gradient, tx.init(gradient), gradient)[0]
        steps.append(np.reshape(updates["kernel"], (12, 4)))
    np.testing.assert_allclose(steps[0], steps[1], rtol=1e-5, atol=1e-6)
    singular_values = np.linalg.svd(steps[0], compute_uv=False) / 0.1
    assert np.all((0.5 < singular_values) & (singular_values < 1.5))
