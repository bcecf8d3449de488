"""An MLP that every parameter of a tensor shares, over normalised channels.

    x_c <- x_c * rsqrt(eps + mean(x_c^2));    hidden = relu(x W0 + b0), ...;    outputs = hidden Wn + bn

The channels come in blocks. A block may be constant along some axes of the tensor (row and column moments): it is
multiplied by its part of W0 before it is broadcast, never stored once a parameter. Where the mean is taken over the
whole tensor its scale is folded into W0. Channels that come as a list, with their mean squares, are not stored either:
the MLP is written out as scalar-times-array terms, which XLA fuses into one loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from learned_opt.per_parameter.lstm import truncated_normal

if TYPE_CHECKING:
    from jaxtyping import Array, Float

ChannelMlp = dict[str, Any]
"""`w{i}` [inputs, outputs] and `b{i}` [outputs] of layer i, JAX or NumPy arrays."""


class Block(NamedTuple):
    """Channels of one tensor of shape S.

    Attributes:
      weights: their rows of the first weight matrix.
      values: broadcasts against S behind its first axis; or a list of channels, each S.
      mean_squares: of the channels of a list, over the whole tensor.
    """

    weights: Float[Array, "channels units"]
    values: Float[Array, "channels ..."] | list[Float[Array, "*S"]]
    mean_squares: Float[Array, "channels"] | None = None


def init_channel_mlp(key: jax.Array, sizes: Sequence[int]) -> ChannelMlp:
    """Weights truncated normal (+-2 sd) with nominal sd 1/sqrt(inputs), biases 0.

    Args:
      key: of the weights.
      sizes: inputs, units of each hidden layer, outputs.
    """
    mlp = {}
    for i, layer_key in enumerate(jax.random.split(key, len(sizes) - 1)):
        mlp[f"w{i}"] = truncated_normal(layer_key, (sizes[i], sizes[i + 1]))
        mlp[f"b{i}"] = jnp.zeros(sizes[i + 1], jnp.float32)
    return mlp


def apply_channel_mlp(
    mlp: ChannelMlp,
    blocks: list[Block],
    epsilon: float,
    axes: tuple[int, ...] | None = None,
    bias: Float[Array, "units"] | None = None,
    num_outputs: int | None = None,
) -> Any:
    """Normalises the channels and evaluates the MLP: its outputs [outputs, *S], or a list of them if written out.

    Args:
      mlp: of which `w0` is not read, the blocks have its rows.
      blocks: all channels; one of them has the full shape S.
      epsilon: added to the mean squares.
      axes: of S, from its end (negative), over which the mean squares are taken; None: all.
      bias: of the first layer, if not `b0`: with what inputs that are the same for every parameter add to it.
      num_outputs: how many of the outputs are wanted, from the first; None: all.
    """
    bias = mlp["b0"] if bias is None else bias
    last = len(mlp) // 2 - 1
    layers = [(mlp[f"w{i}"], mlp[f"b{i}"]) for i in range(1, last + 1)]
    layers[-1] = (layers[-1][0][:, :num_outputs], layers[-1][1][:num_outputs])
    written_out = [block for block in blocks if isinstance(block.values, list)]
    if written_out:
        constant = [_first_layer(block, epsilon, axes) for block in blocks if block is not written_out[0]]
        return _written_out(written_out[0], constant, epsilon, bias, layers)
    rank = max(jnp.asarray(block.values).ndim for block in blocks) - 1
    outputs = sum(_first_layer(block, epsilon, axes) for block in blocks)
    outputs = outputs + _along_first(bias, rank)
    for weights, bias in layers:
        outputs = _contract(weights, jax.nn.relu(outputs)) + _along_first(bias, rank)
    return outputs


def _written_out(block, constant, epsilon, bias, layers):
    """The MLP for a list of channels; `constant` holds what other blocks add to the first layer, [units, ...]."""
    # Number by number: otherwise XLA makes a small program of every column.
    scales = jax.lax.rsqrt(epsilon + block.mean_squares)
    hidden = _weighted_sums(
        [[w * s for w, s in zip(column, scales, strict=True)] for column in block.weights.T], block.values, bias
    )
    hidden = [sum((c[k] for c in constant), unit) for k, unit in enumerate(hidden)]
    for weights, bias in layers:
        hidden = _weighted_sums(weights.T, [jax.nn.relu(unit) for unit in hidden], bias)
    return hidden


def _weighted_sums(columns, terms, bias):
    """Of each column of weights the sum of weights times terms, and its bias."""
    return [
        sum((w * x for w, x in zip(column, terms, strict=True)), start)
        for column, start in zip(columns, bias, strict=True)
    ]


def _first_layer(block, epsilon, axes):
    """What a block adds to the first layer, [units, ...]."""
    weights, values, _ = block
    if axes is not None:
        mean_squares = jnp.mean(jnp.square(values), axis=axes, keepdims=True)
        return _contract(weights, values * jax.lax.rsqrt(epsilon + mean_squares))
    # Flat for both uses: XLA would make the channels once a shape.
    flat = jnp.reshape(values, (values.shape[0], -1))
    mean_squares = jnp.mean(jnp.square(flat), axis=1)
    sums = _contract(weights * jax.lax.rsqrt(epsilon + mean_squares)[:, None], flat)
    return jnp.reshape(sums, (-1, *values.shape[1:]))


def _contract(weights, values):
    return jnp.tensordot(weights, values, axes=((0,), (0,)))


def _along_first(x, rank):
    return jnp.reshape(x, (-1,) + (1,) * rank)
