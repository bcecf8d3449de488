"""The MLP that every parameter shares: normalised features -> (direction d, log magnitude m).

relu, relu, linear; weights w{i} [in, out], biases b{i} [out]. Three things keep it cheap:
the feature scales are folded into the first weight matrix, the time features into the first bias, and row and column
channels of a factored tensor are multiplied before they are broadcast. Two evaluations of the same sum, chosen by
width: a narrow network is written out as scalar-times-array terms, which XLA fuses into one loop without storing a
single feature; a wide one stacks its features and uses matrix products.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from learned_opt.per_parameter.adafac_features import Features, first_layer_rows

if TYPE_CHECKING:
    from jaxtyping import Array, Float

Mlp = dict[str, Any]
"""Weights and biases by name, JAX or NumPy arrays."""

WIDEST_WRITTEN_OUT = 8
SMALLEST_WRITTEN_OUT = 16_384
"""The sums are written out for hidden sizes up to the first and factored tensors of at least the second many elements:
beyond the one, code grows faster than memory traffic shrinks; below the other, compile time is all that matters."""


def is_large(shape: tuple[int, ...]) -> bool:
    """Whether passes over a tensor of this shape cost more than code that saves them."""
    return len(shape) > 1 and math.prod(shape) >= SMALLEST_WRITTEN_OUT


def is_written_out(mlp: Mlp, shape: tuple[int, ...]) -> bool:
    """Whether a tensor of this shape is evaluated as one loop of scalar-times-array terms."""
    return mlp["w0"].shape[1] <= WIDEST_WRITTEN_OUT and is_large(shape)


def init_mlp(key: jax.Array, num_inputs: int, hidden_size: int, hidden_layers: int, zero_output: bool) -> Mlp:
    """Weights truncated normal (+-2 sd) with nominal sd 1/sqrt(fan_in), biases 0; the output layer 0 if asked."""
    sizes = [num_inputs, *[hidden_size] * hidden_layers, 2]
    mlp = {}
    for i, layer_key in enumerate(jax.random.split(key, hidden_layers + 1)):
        shape = (sizes[i], sizes[i + 1])
        scale = 0.0 if zero_output and i == hidden_layers else sizes[i] ** -0.5
        mlp[f"w{i}"] = scale * jax.random.truncated_normal(layer_key, -2, 2, shape, jnp.float32)
        mlp[f"b{i}"] = jnp.zeros(shape[1], jnp.float32)
    return mlp


def time_bias(mlp: Mlp, time: Float[Array, "11"]) -> Float[Array, "hidden"]:
    """First bias plus the contribution of the time features, the same for every parameter of a step."""
    return mlp["b0"] + time @ mlp["w0"][-time.shape[0] :]


def apply_mlp(
    mlp: Mlp,
    features: Features,
    mean_squares: Float[Array, "channels"] | None,
    num_deltas: int,
    bias: Float[Array, "hidden"],
) -> tuple[Float[Array, "*S"], Float[Array, "*S"]]:
    """Normalises the channels of one tensor of shape S and evaluates the MLP.

    Args:
      mlp: weights; `w0` has `num_features(num_deltas)` rows.
      features: from `tensor_features`.
      mean_squares: of the full channels, from `full_mean_squares`, if the sums are to be written out; None if the
        channels are to be stacked.
      num_deltas: leading delta rows.
      bias: from `time_bias`.

    Returns:
      (d, m), each S.
    """
    w0 = mlp["w0"]
    full, row, col = first_layer_rows(num_deltas)
    if features.row is None:
        # Without factoring, row and column channels are the same numbers, listed once: their weights add up.
        full_weights = jnp.concatenate([w0[full], w0[row] + w0[col]])
    else:
        full_weights = w0[full]
    constant = [
        _contract(_normalised(w0[rows], jnp.mean(jnp.square(x), axis=tuple(range(1, x.ndim)))), x)
        for x, rows in ((features.row, row), (features.col, col))
        if x is not None
    ]
    if mean_squares is None:
        # Flat for both uses: XLA would make the channels once a shape.
        channels = jnp.asarray(features.full)
        flat = jnp.reshape(channels, (channels.shape[0], -1))
        hidden = _contract(_normalised(full_weights, jnp.mean(jnp.square(flat), axis=1)), flat)
        hidden = jnp.reshape(hidden, (-1, *channels.shape[1:]))
        return _evaluate_stacked(mlp, hidden, constant, bias)
    scales = list(jax.lax.rsqrt(1e-5 + mean_squares))
    hidden = _write_out(full_weights, features.full, scales)
    return _evaluate_written_out(mlp, hidden, constant, bias)


def _evaluate_stacked(mlp, hidden, constant, bias):
    """The layers after the first, for hidden [units, *S]; `constant` broadcasts against it."""
    for i in range(1, len(mlp) // 2):
        bias = jnp.reshape(bias, (-1,) + (1,) * (hidden.ndim - 1))
        hidden = _contract(mlp[f"w{i}"], jax.nn.relu(sum(constant, hidden + bias)))
        constant, bias = [], mlp[f"b{i}"]
    return hidden[0] + bias[0], hidden[1] + bias[1]


def _evaluate_written_out(mlp, hidden, constant, bias):
    """The same for a list of units, each S."""
    for i in range(1, len(mlp) // 2):
        hidden = [jax.nn.relu(sum((c[k] for c in constant), unit + bias[k])) for k, unit in enumerate(hidden)]
        hidden = _write_out(mlp[f"w{i}"], hidden)
        constant, bias = [], mlp[f"b{i}"]
    return hidden[0] + bias[0], hidden[1] + bias[1]


def _normalised(weights, mean_squares):
    """First-layer weights [channels, units] with the channels' scales folded in."""
    return weights * jax.lax.rsqrt(1e-5 + mean_squares)[:, None]


def _contract(weights, channels):
    return jnp.tensordot(weights, channels, axes=((0,), (0,)))


def _write_out(weights, terms, scales=None):
    """With scales, those of the terms: number by number, or XLA makes a small program of every column."""
    if scales is None:
        return [sum(w * x for w, x in zip(column, terms, strict=True)) for column in weights.T]
    return [sum((w * s) * x for w, s, x in zip(column, scales, terms, strict=True)) for column in weights.T]
