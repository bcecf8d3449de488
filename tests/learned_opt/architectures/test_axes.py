"""The recorded updates are of wide matrices; with these, they speak for tall ones and for any order of axes too.

A per-parameter rule does not know which axis of a tensor comes first: transposed parameters and gradients must give
transposed updates. Row and column factors, whose places depend on which axis is longer, are what could go wrong. Celo2
normalises over the last two axes, so only those may be exchanged.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_opt

SHAPE = (2, 5, 3)
LEARNED = {
    "hyper_v2": learned_opt.hyper_v2(lstm_hidden_size=4, num_mlps=2, step_mult=1.0),
    "celo2_base": learned_opt.celo2_base(learning_rate=1.0, exp_mult=0.1, bias_correction=True),
    "celo2": learned_opt.celo2(learning_rate=1.0, exp_mult=0.1),
}


@functools.cache
def updates_of(name, axes):
    """The second update of a tensor whose axes are permuted."""
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(3, *SHAPE)) * np.reshape([1, 3, 0.1], (3, 1, 1, 1))
    params, *gradients = np.asarray(np.transpose(drawn, (0, *(axis + 1 for axis in axes))), np.float32)
    lopt = LEARNED[name]
    noise = jax.random.key(1)
    theta = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(noise, x.shape), lopt.init(jax.random.key(0)))
    tx = lopt.transform(theta, num_steps=10)
    update = jax.jit(tx.update)
    state = tx.init([params])
    for gradient in gradients:
        updates, state = update([gradient], state, [params], value=jnp.float32(1))
    return np.asarray(updates[0])


@pytest.mark.parametrize(
    ("name", "axes"),
    [("hyper_v2", (0, 2, 1)), ("hyper_v2", (2, 1, 0)), ("celo2_base", (0, 2, 1)), ("celo2", (0, 2, 1))],
)
def test_permuted_axes_permute_the_update(name, axes):
    straight = updates_of(name, (0, 1, 2))
    largest = np.abs(straight).max()
    assert 0.1 < largest < np.inf
    # Float32, reductions in another order; Newton-Schulz amplifies small singular values.
    np.testing.assert_allclose(updates_of(name, axes), np.transpose(straight, axes), rtol=0, atol=2e-4 * largest)


@pytest.mark.parametrize("name", ["celo2_base", "celo2"])
def test_leading_axes_are_a_batch_of_matrices_of_one_size(name):
    # Each matrix gets a step of its own root mean square.
    updates = updates_of(name, (0, 1, 2))
    np.testing.assert_allclose(np.sqrt(np.mean(np.square(updates), axis=(1, 2))), np.ones(2), rtol=1e-3)
