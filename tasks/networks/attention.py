"""Self-attention and the transformer block that the vision transformer and the language model share.

    attention(h) = softmax(Q K' / sqrt(d) + mask) V W,   Q, K, V the thirds of h W_qkv, split into heads
    block(h):  h <- h + attention(LN(h)),   h <- h + W_2 activation(W_1 LN(h) + b_1) + b_2

Vaswani et al. 2017 (arXiv 1706.03762), normalised before each branch (Xiong et al. 2020, arXiv 2002.04745). The maps to
queries, keys and values have no bias: a bias on the keys adds one number to all scores of a query, which the softmax
ignores, so its gradient would be zero.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tasks.networks.normalization import LayerNorm
from tasks.networks.variants import Activation

Hidden = Float[Array, "batch length hidden"]


class SelfAttention(nn.Module):
    """[B, L, D] -> [B, L, D]; where `causal`, position i sees positions 0 ... i."""

    num_heads: int
    causal: bool

    @nn.compact
    def __call__(self, h: Hidden) -> Hidden:
        batch, length, hidden = h.shape
        head_size = hidden // self.num_heads
        qkv = nn.Dense(3 * hidden, use_bias=False, name="qkv")(h)
        q, k, v = jnp.moveaxis(qkv.reshape(batch, length, 3, self.num_heads, head_size), (2, 3), (0, 2))
        scores = q @ jnp.swapaxes(k, -1, -2) * head_size**-0.5
        if self.causal:
            visible = jnp.tril(jnp.ones((1, 1, length, length), bool))
            scores = jnp.where(visible, scores, -jnp.inf)
        mixed = _softmax(scores) @ v
        return nn.Dense(hidden, name="out")(jnp.swapaxes(mixed, 1, 2).reshape(h.shape))


def _softmax(scores: Float[Array, "batch heads length length"]) -> Float[Array, "batch heads length length"]:
    """Softmax over the last axis, as a product with the inverted sums.

    The quotient in jax.nn.softmax XLA compiles as such a product on one device and as a division on several, so that
    last bits depend on their number.
    """
    weights = jnp.exp(scores - jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True)))
    return weights * (1 / jnp.sum(weights, axis=-1, keepdims=True))


class TransformerBlock(nn.Module):
    """[B, L, D] -> [B, L, D]; the hidden layer has `mlp_ratio` D units."""

    num_heads: int
    mlp_ratio: int
    causal: bool
    activation: Activation

    @nn.compact
    def __call__(self, h: Hidden) -> Hidden:
        h = h + SelfAttention(self.num_heads, self.causal)(LayerNorm()(h))
        hidden = h.shape[-1]
        inner = self.activation(nn.Dense(self.mlp_ratio * hidden)(LayerNorm()(h)))
        return h + nn.Dense(hidden)(inner)
