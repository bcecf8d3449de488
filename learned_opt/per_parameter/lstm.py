"""LSTM and linear layers of the optimizers that take one step of a recurrent network a tensor.

    i, g, f, o = split([x, h] W + b);    c <- sigmoid(f + 1) c + sigmoid(i) tanh(g);    h <- sigmoid(o) tanh(c)

(Hochreiter & Schmidhuber 1997; the 1 added to the forget gate: Jozefowicz et al. 2015.) Weights and gates are laid out
as in the published optimizers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Float

Linear = dict[str, Any]
"""`w` [inputs, outputs] and `b` [outputs], JAX or NumPy arrays."""


class LstmState(NamedTuple):
    """Hidden and cell state, one row a tensor."""

    hidden: Float[Array, "tensors units"]
    cell: Float[Array, "tensors units"]


def init_linear(key: jax.Array, num_inputs: int, num_outputs: int) -> Linear:
    """Weights truncated normal (+-2 sd) with nominal sd 1/sqrt(inputs), biases 0."""
    return {"w": truncated_normal(key, (num_inputs, num_outputs)), "b": jnp.zeros(num_outputs, jnp.float32)}


def truncated_normal(key: jax.Array, shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Truncated at 2 sd, of nominal sd 1/sqrt(inputs); the inputs are the last axis but one, or the only one."""
    fan_in = shape[-2:][0]
    return fan_in**-0.5 * jax.random.truncated_normal(key, -2, 2, shape, jnp.float32)


def init_lstm(key: jax.Array, num_inputs: int, num_units: int) -> Linear:
    """The one matrix of an LSTM, for [x, h]."""
    return init_linear(key, num_inputs + num_units, 4 * num_units)


def init_lstm_state(num_units: int) -> dict[str, jax.Array]:
    """Meta-parameters: the state that every tensor begins with, zero before meta-training."""
    return {"hidden": jnp.zeros((1, num_units), jnp.float32), "cell": jnp.zeros((1, num_units), jnp.float32)}


def start(init_state: dict[str, Any], num_tensors: int) -> LstmState:
    """The first state of so many tensors."""
    return LstmState(*(copies(init_state[field][0], num_tensors) for field in LstmState._fields))


def copies(row: Float[Array, "size"], count: int) -> Float[Array, "count size"]:
    """So many rows, in memory of their own: a state that is donated must not take theta with it."""
    return jnp.array(jnp.broadcast_to(jnp.asarray(row), (count, len(row))))


def linear(layer: Linear, x: Float[Array, "tensors inputs"]) -> Float[Array, "tensors outputs"]:
    """x W + b."""
    return x @ layer["w"] + layer["b"][None]


def lstm_step(layer: Linear, x: Float[Array, "tensors inputs"], state: LstmState) -> LstmState:
    """The next state; its hidden part is the output."""
    i, g, f, o = jnp.split(linear(layer, jnp.concatenate([x, state.hidden], axis=1)), 4, axis=1)
    cell = jax.nn.sigmoid(f + 1) * state.cell + jax.nn.sigmoid(i) * jnp.tanh(g)
    return LstmState(hidden=jax.nn.sigmoid(o) * jnp.tanh(cell), cell=cell)
