"""A decoder-only transformer that predicts the next token (Radford et al. 2018, "Improving Language Understanding by
Generative Pre-Training").

    h = embedding(x_{<t}) + positions,   causal blocks of `tasks.networks.attention`,   logits = LN(h) W

The output matrix is its own (not the embedding's) and starts small, normal with standard deviation 0.02 (Radford et al.
2019, GPT-2), so that the first loss is close to ln V; the other matrices start at LeCun normal.
"""

import flax.linen as nn
from jaxtyping import Array, Float, Int

from tasks.base import Data, TaskFamily
from tasks.networks.attention import TransformerBlock
from tasks.networks.language_model import TokenEmbedding, language_family
from tasks.networks.network import check_sizes
from tasks.networks.normalization import LayerNorm
from tasks.networks.variants import PLAIN, Activation, Variants


class TransformerLM(nn.Module):
    """Tokens [B, L] -> logits of the tokens that follow [B, L, vocab_size]."""

    vocab_size: int
    hidden_size: int
    depth: int
    num_heads: int
    mlp_ratio: int
    activation: Activation

    @nn.compact
    def __call__(self, tokens: Int[Array, "batch length"]) -> Float[Array, "batch length vocab"]:
        h = TokenEmbedding(self.vocab_size, self.hidden_size)(tokens)
        positions = self.param("positions", nn.initializers.normal(0.02), h.shape[1:])
        h = h + positions[None]
        for _ in range(self.depth):
            h = TransformerBlock(self.num_heads, self.mlp_ratio, True, self.activation)(h)
        head = nn.Dense(self.vocab_size, use_bias=False, kernel_init=nn.initializers.normal(0.02), name="head")
        return head(LayerNorm()(h))


def text_transformer(
    data: Data,
    vocab_size: int,
    hidden_size: int = 32,
    depth: int = 2,
    num_heads: int = 4,
    mlp_ratio: int = 4,
    name: str = "text_transformer",
    variants: Variants = PLAIN,
) -> TaskFamily:
    """Predict the next token of the rows of `data` with a transformer.

    Args:
      data: `{split: {"tokens": uint8[N, L]}}`, rows of consecutive tokens.
      vocab_size: tokens lie in [0, vocab_size).
      hidden_size: width of a token.
      depth: transformer blocks.
      num_heads: attention heads; divides `hidden_size`.
      mlp_ratio: hidden units of a block's MLP per `hidden_size`.
      name: the family's name.
      variants: what differs between tasks; by default nothing.

    Raises:
      ValueError: a size below 1, heads that do not divide the width, or a token outside the vocabulary.
    """
    check_sizes(vocab_size=vocab_size, hidden_size=hidden_size, depth=depth, num_heads=num_heads, mlp_ratio=mlp_ratio)
    if hidden_size % num_heads:
        raise ValueError(f"num_heads={num_heads}: use a divisor of hidden_size={hidden_size}")

    def network(activation: Activation) -> nn.Module:
        return TransformerLM(vocab_size, hidden_size, depth, num_heads, mlp_ratio, activation)

    return language_family(name, data, network, vocab_size, "gelu", variants)
