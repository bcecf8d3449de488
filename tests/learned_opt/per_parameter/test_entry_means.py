"""Means of several terms in one pass, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt.per_parameter.entry_means import entry_means


def terms(x, row):
    return [x, x * row], [jnp.square(x), row, x + 1]


# Split along the first axis in 8 parts, in 7, not at all, and along the last axis.
@pytest.mark.parametrize("shape", [(16, 5), (6, 7), (11, 13), (3, 2, 8)])
def test_means_and_their_derivative(shape):
    rng = np.random.default_rng(0)
    x, row = rng.normal(size=shape).astype(np.float32), rng.normal(size=(*shape[:-1], 1)).astype(np.float32)

    @jax.jit
    def found(x, row):
        def means(x):
            return entry_means(terms, [x, row], shape)

        return means(x), jax.vmap(means)(jnp.stack([x, 2 * x])), jax.grad(lambda x: means(x)[2])(x)

    means, batch, slope = found(x, row)
    expected = [np.mean(np.broadcast_to(t, shape), dtype=np.float64) for group in terms(x, row) for t in group]
    np.testing.assert_allclose(means, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(batch[1, 0], 2 * expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(slope, 2 * x / x.size, rtol=1e-5)
