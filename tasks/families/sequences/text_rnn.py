"""Recurrent networks that predict the next token: LSTM and GRU.

    LSTM (Hochreiter and Schmidhuber 1997):   i, f, g, o = x W + h U + b
        c <- sigmoid(f + 1) c + sigmoid(i) tanh(g),   h <- sigmoid(o) tanh(c)
    GRU (Cho et al. 2014, arXiv 1406.1078):   a_r, a_z, a_n = x W + b,   u_r, u_z, u_n = h U
        r = sigmoid(a_r + u_r),   z = sigmoid(a_z + u_z),   h <- (1 - z) tanh(a_n + r u_n) + z h

The gates of a cell share one input and one recurrent matrix. The 1 in the LSTM's forget gate lets it remember at the
start (Jozefowicz et al. 2015); it is a constant here, so that every bias starts at zero. The GRU multiplies the reset
gate after the recurrent product, as cuDNN does, so that one product suffices. A row starts from h = c = 0.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tasks.base import Data, TaskFamily
from tasks.networks.language_model import TokenEmbedding, language_family
from tasks.networks.network import check_sizes
from tasks.networks.variants import PLAIN, Variants

Vectors = Float[Array, "batch hidden"]
CellState = tuple[Vectors, ...]
"""The output h first."""


def lstm_step(
    state: CellState, from_input: Float[Array, "batch gates"], recurrent: Float[Array, "hidden gates"]
) -> CellState:
    """(h, c) [B, D] and x W + b [B, 4 D], gates i, f, g, o -> the next (h, c)."""
    h, c = state
    i, f, g, o = jnp.split(from_input + h @ recurrent, 4, axis=-1)
    c = jax.nn.sigmoid(f + 1) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def gru_step(
    state: CellState, from_input: Float[Array, "batch gates"], recurrent: Float[Array, "hidden gates"]
) -> CellState:
    """(h,) [B, D] and x W + b [B, 3 D], gates r, z, n -> the next (h,)."""
    (h,) = state
    input_r, input_z, input_n = jnp.split(from_input, 3, axis=-1)
    recurrent_r, recurrent_z, recurrent_n = jnp.split(h @ recurrent, 3, axis=-1)
    reset = jax.nn.sigmoid(input_r + recurrent_r)
    keep = jax.nn.sigmoid(input_z + recurrent_z)
    return ((1 - keep) * jnp.tanh(input_n + reset * recurrent_n) + keep * h,)


Step = Callable[[CellState, Array, Array], CellState]

CELLS: dict[str, tuple[Step, int, int]] = {"lstm": (lstm_step, 4, 2), "gru": (gru_step, 3, 1)}
"""cell -> step, number of gates, number of state vectors."""


class RNN(nn.Module):
    """Tokens [B, L] -> logits of the tokens that follow [B, L, vocab_size]."""

    vocab_size: int
    hidden_size: int
    depth: int
    cell: str

    @nn.compact
    def __call__(self, tokens: Int[Array, "batch length"]) -> Float[Array, "batch length vocab"]:
        step, num_gates, num_vectors = CELLS[self.cell]
        h = TokenEmbedding(self.vocab_size, self.hidden_size)(tokens)
        for layer in range(self.depth):
            # Every position's input product at once leaves only the recurrent one to the loop.
            from_input = nn.Dense(num_gates * self.hidden_size, name=f"input_{layer}")(h)
            shape = (self.hidden_size, num_gates * self.hidden_size)
            recurrent = self.param(f"recurrent_{layer}", nn.initializers.lecun_normal(), shape)

            def one(state, gates, recurrent=recurrent):
                state = step(state, gates, recurrent)
                return state, state[0]

            start = (jnp.zeros_like(h[:, 0]),) * num_vectors
            h = jnp.swapaxes(jax.lax.scan(one, start, jnp.swapaxes(from_input, 0, 1))[1], 0, 1)
        return nn.Dense(self.vocab_size, name="head")(h)


def text_rnn(
    data: Data,
    vocab_size: int,
    cell: str = "lstm",
    hidden_size: int = 32,
    depth: int = 1,
    name: str = "text_rnn",
    variants: Variants = PLAIN,
) -> TaskFamily:
    """Predict the next token of the rows of `data` with a recurrent network.

    Args:
      data: `{split: {"tokens": uint8[N, L]}}`, rows of consecutive tokens.
      vocab_size: tokens lie in [0, vocab_size).
      cell: "lstm" or "gru".
      hidden_size: width of an embedded token and of the state.
      depth: layers.
      name: the family's name.
      variants: what differs between tasks; a cell has its own activations.

    Raises:
      ValueError: a size below 1, an unknown cell, activations, or a token outside the vocabulary.
    """
    check_sizes(vocab_size=vocab_size, hidden_size=hidden_size, depth=depth)
    if cell not in CELLS:
        raise ValueError(f"cell={cell!r}: use {' or '.join(CELLS)}")
    if variants.activations:
        raise ValueError(f"activations={variants.activations}: a recurrent cell has its own, use ()")

    return language_family(
        name, data, lambda _: RNN(vocab_size, hidden_size, depth, cell), vocab_size, "tanh", variants
    )
