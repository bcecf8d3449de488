import jax
import jax.numpy as jnp
import numpy as np

from tasks.networks.normalization import GroupNorm, LayerNorm


def test_group_norm_statistics():
    x = np.random.default_rng(0).normal(3, 2, (2, 4, 5, 6)).astype(np.float32)
    model = GroupNorm(3)
    variables = jax.jit(model.init)(jax.random.key(0), x)
    y = np.asarray(jax.jit(model.apply)(variables, x)).reshape(2, 20, 3, 2)
    np.testing.assert_allclose(y.mean((1, 3)), np.zeros((2, 3)), atol=1e-5)
    np.testing.assert_allclose(y.var((1, 3)), np.ones((2, 3)), rtol=1e-4)
    # A group is normalised as a whole: its channels keep their differences.
    assert abs(y.mean(1)).max() > 0.01


def test_layer_norm_is_the_written_out_formula():
    x = np.random.default_rng(0).normal(3, 2, (2, 4, 5)).astype(np.float32)
    params = {"scale": jnp.arange(1.0, 6.0), "bias": jnp.arange(5.0)}
    y = jax.jit(LayerNorm().apply)({"params": params}, x)
    standard = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(y, standard * np.arange(1, 6) + np.arange(5), rtol=1e-4, atol=1e-5)


def test_a_large_mean_and_a_narrow_dtype():
    rng = np.random.default_rng(0)
    params = {"scale": np.ones(64, np.float32), "bias": np.zeros(64, np.float32)}

    @jax.jit
    def both(x):
        narrow = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
        return LayerNorm().apply({"params": params}, x), LayerNorm().apply({"params": narrow}, x.astype(jnp.bfloat16))

    shifted, _ = both(rng.normal(1000, 1, (1, 64)).astype(np.float32))
    # E[x^2] - E[x]^2 in float32 errs by 1000^2 2^-24 = 6 %.
    np.testing.assert_allclose(np.var(shifted), 1, rtol=1e-3)
    x = rng.normal(0, 1, (1, 64)).astype(np.float32)
    wide, narrow = both(x)
    assert narrow.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(narrow, np.float32), wide, atol=0.03)
