"""The correction that `lagg_set` adds to every entry of a tensor: its channels, and the MLP over them.

    channels of an entry:  D, m and x in units of their root mean square;  D over its root mean square across workers;
                           the mean of the workers' signs;  D / sqrt(v);  log sqrt(v) in the units of D
    correction = d exp(g),   (d, g) = MLP(channels), its first bias the tensor's own

v is a running mean of D^2. All of them are free of the scale of the tensor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from learned_opt.algorithms.auto_diloco import wide

if TYPE_CHECKING:
    from jaxtyping import Array, Float

NUM_CHANNELS = 7
_SMALLEST = 1e-30


def worker_statistics(leaves, treedef, worker_mean):
    """For each tensor: root mean square over the workers of each entry, and the mean of its signs."""
    if worker_mean is None:
        return [(jnp.abs(d), jnp.sign(d)) for d in leaves]

    def own_statistics(own):
        own = wide(own)
        return jax.tree.map(jnp.square, own), jax.tree.map(jnp.sign, own)

    squares, signs = worker_mean(own_statistics)
    squares, signs = treedef.flatten_up_to(squares), treedef.flatten_up_to(signs)
    return [(jnp.sqrt(s), g) for s, g in zip(squares, signs, strict=True)]


def channels(d, m, v, x, spread, sign, unit):
    """NUM_CHANNELS arrays of the tensor's shape, all of about unit size."""
    m_unit = jax.lax.rsqrt(jnp.maximum(jnp.mean(jnp.square(m)), _SMALLEST))
    x_unit = jax.lax.rsqrt(jnp.maximum(jnp.mean(jnp.square(x)), _SMALLEST))
    tiny = 1e-12 + spread
    return [
        d * unit,
        m * m_unit,
        x * x_unit,
        d / tiny,
        sign,
        d * jax.lax.rsqrt(v + _SMALLEST),
        jnp.clip(jnp.log(jnp.maximum(v, _SMALLEST)) / 2 + jnp.log(unit), -3, 3) / 3,
    ]


def correction(
    network: dict[str, Any], channels: list[Float[Array, "*S"]], bias: Float[Array, "hidden"]
) -> Float[Array, "*S"]:
    """d exp(g) for every entry of a tensor, written out: one loop without storing a channel."""
    hidden = [
        jax.nn.relu(sum((w * c for w, c in zip(column, channels, strict=True)), bias[k]))
        for k, column in enumerate(network["w0"].T)
    ]
    direction, log_size = (
        sum((w * h for w, h in zip(column, hidden, strict=True)), network["b1"][k])
        for k, column in enumerate(network["w1"].T)
    )
    return direction * jnp.exp(jnp.clip(log_size, -3, 3))
