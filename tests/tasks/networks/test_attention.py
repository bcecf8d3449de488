import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.networks.attention import SelfAttention, TransformerBlock

LENGTH, HIDDEN, HEADS = 5, 6, 2


@pytest.fixture(scope="module")
def hidden():
    return np.random.default_rng(0).normal(size=(2, LENGTH, HIDDEN)).astype(np.float32)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_the_written_out_formula(hidden, causal):
    model = SelfAttention(HEADS, causal)
    params = jax.jit(model.init)(jax.random.key(0), hidden)["params"]
    params["out"]["bias"] = jnp.arange(HIDDEN, dtype=jnp.float32)
    size = HIDDEN // HEADS
    expected = np.zeros_like(hidden)
    for n in range(len(hidden)):
        q, k, v = np.split(hidden[n] @ np.asarray(params["qkv"]["kernel"]), 3, axis=1)
        mixed = np.zeros((LENGTH, HIDDEN))
        for head in range(HEADS):
            own = slice(head * size, (head + 1) * size)
            for i in range(LENGTH):
                seen = range(i + 1) if causal else range(LENGTH)
                weight = np.array([np.exp(q[i, own] @ k[j, own] / np.sqrt(size)) for j in seen])
                mixed[i, own] = sum(w * v[j, own] for w, j in zip(weight / weight.sum(), seen, strict=True))
        expected[n] = mixed @ np.asarray(params["out"]["kernel"]) + np.arange(HIDDEN)
    np.testing.assert_allclose(jax.jit(model.apply)({"params": params}, hidden), expected, rtol=1e-4, atol=1e-5)


def test_a_causal_block_does_not_look_ahead(hidden):
    for causal in (True, False):
        model = TransformerBlock(HEADS, 2, causal, jax.nn.gelu)
        variables = jax.jit(model.init)(jax.random.key(0), hidden)
        apply = jax.jit(model.apply)
        change = np.abs(np.asarray(apply(variables, hidden) - apply(variables, hidden + _at(3)))).max((0, 2))
        assert (change[3:] > 0).all()
        assert (change[:3] == 0).all() == causal


def _at(position):
    bump = np.zeros((1, LENGTH, HIDDEN), np.float32)
    bump[:, position, 0] = 1
    return np.tile(bump, (2, 1, 1))
