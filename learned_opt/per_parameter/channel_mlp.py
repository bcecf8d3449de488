"""An MLP that every parameter of a tensor shares, over normalised channels.

    x_c <- x_c * rsqrt(eps + mean(x_c^2));    hidden = relu(x W0 + b0), ...;    outputs = hidden Wn + bn

The channels come in blocks. A block may be constant along some axes of the tensor (row and column moments): it is
multiplied by its part of W0 before it is broadcast, never stored once a parameter. Where the mean is taken over the
whole tensor its scale is folded into W0.
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
      values: broadcasts against S behind its first axis.
    """

    weights: Float[Array, "channels units"]
    values: Float[Array, "channels ..."]


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
) -> Float[Array, "outputs *S"]:
    """Normalises the channels and evaluates the MLP.

    Args:
      mlp: of which `w0` is not read, the blocks have its rows.
      blocks: all channels; one of them has the full shape S.
      epsilon: added to the mean squares.
      axes: of S, from its end (negative), over which the mean squares are taken; None: all.
      bias: of the first layer, if not `b0`: with what inputs that are the same for every parameter add to it.
    """
    rank = max(block.values.ndim for block in blocks) - 1
    outputs = sum(_contract(*_normalised(block, epsilon, axes)) for block in blocks)
    outputs = outputs + _along_first(mlp["b0"] if bias is None else bias, rank)
    for i in range(1, len(mlp) // 2):
        outputs = _contract(mlp[f"w{i}"], jax.nn.relu(outputs)) + _along_first(mlp[f"b{i}"], rank)
    return outputs


def _normalised(block, epsilon, axes):
    weights, values = block
    if axes is None:
        mean_squares = jnp.mean(jnp.square(values), axis=tuple(range(1, values.ndim)))
        return weights * jax.lax.rsqrt(epsilon + mean_squares)[:, None], values
    mean_squares = jnp.mean(jnp.square(values), axis=axes, keepdims=True)
    return weights, values * jax.lax.rsqrt(epsilon + mean_squares)


def _contract(weights, values):
    return jnp.tensordot(weights, values, axes=((0,), (0,)))


def _along_first(x, rank):
    return jnp.reshape(x, (-1,) + (1,) * rank)
