"""The 30 channels of VeLO (Metz et al. 2022, arXiv 2211.09760), which Celo and Celo2 took over.

In 14 blocks, whose rows of the first weight matrix the published files keep apart: gradient g, clip(g, +-.1),
parameter, three momenta m, second moment r, m / sqrt(r), 1 / sqrt(r), Adafactor-normalised gradient (3), g / sqrt(r),
row moments (3), column moments (3), 1 / sqrt(row) (3), 1 / sqrt(column) (3), m with the Adafactor factors (3). Decays
are fixed, nothing is bias-corrected. A tensor of rank below 2 is not factored: its diagonal moments stand in for row
and column, or the last five blocks are left out (Celo2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt.per_parameter.adafac_features import (
    ADAFACTOR_DECAYS,
    MOMENTUM_DECAYS,
    Accumulators,
    Decays,
    factored_axes,
)
from learned_opt.per_parameter.channel_mlp import Block

if TYPE_CHECKING:
    from jaxtyping import Array, Float

BLOCK_SIZES = (1, 1, 1, 3, 1, 3, 1, 3, 1, 3, 3, 3, 3, 3)
NUM_CHANNELS = sum(BLOCK_SIZES)
LARGEST_GRADIENT = 1000.0
"""Gradients are clipped to it before anything else."""

_FULL = np.arange(15)
_ROW, _COL = np.asarray([15, 16, 17, 21, 22, 23]), np.asarray([18, 19, 20, 24, 25, 26])
_WITH_FACTORS = np.asarray([27, 28, 29])


def clip_gradient(gradient: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """Limits every element to +-1000."""
    return jnp.clip(gradient, -LARGEST_GRADIENT, LARGEST_GRADIENT)


def fixed_decays(rms: float = 0.999) -> Decays:
    """The decays, float32: 1 - decay is computed in float32 too, as the published optimizers do."""
    return Decays(
        momentum=jnp.asarray(MOMENTUM_DECAYS, jnp.float32),
        rms=jnp.asarray(rms, jnp.float32),
        adafactor=jnp.asarray(ADAFACTOR_DECAYS, jnp.float32),
    )


def velo_blocks(
    w0: Float[Array, "30 units"],
    gradient: Float[Array, "*S"],
    params: Float[Array, "*S"],
    accumulators: Accumulators,
    epsilon: float = 1e-6,
    unfactored: bool = True,
    corrected: Accumulators | None = None,
) -> list[Block]:
    """The channels of one tensor, from the new accumulators.

    Args:
      w0: first weight matrix, rows in the order above.
      gradient: clipped.
      params: before the step.
      accumulators: after their update.
      epsilon: added to r under the roots.
      unfactored: whether a tensor of rank below 2 has the last five blocks.
      corrected: the accumulators with bias correction, from which all but the normalised gradient are then taken.
    """
    axes = factored_axes(gradient.shape)
    rf, cf = _factors(accumulators, axes)
    normalised_gradient = gradient[None] * rf * cf
    momentum, rms, row, col = accumulators if corrected is None else corrected
    inverse_rms = jax.lax.rsqrt(rms + epsilon)
    full = [
        jnp.stack([gradient, jnp.clip(gradient, -0.1, 0.1), params]),
        momentum,
        rms[None],
        momentum * inverse_rms[None],
        inverse_rms[None],
        normalised_gradient,
        (gradient * inverse_rms)[None],
    ]
    if axes is None:
        if not unfactored:
            return [Block(w0[_FULL], jnp.concatenate(full))]
        # Row and column channels are the same numbers here, listed once: their weights add up.
        weights = jnp.concatenate([w0[_FULL], w0[_ROW] + w0[_COL], w0[_WITH_FACTORS]])
        full += [row, jax.lax.rsqrt(row + 1e-8), momentum * jax.lax.rsqrt(row)]
        return [Block(weights, jnp.concatenate(full))]
    if corrected is not None:
        rf, cf = _factors(corrected, axes)
    full.append(momentum * rf * cf)
    row, col = _broadcast(row, col, axes)
    return [
        Block(w0[np.concatenate([_FULL, _WITH_FACTORS])], jnp.concatenate(full)),
        Block(w0[_ROW], jnp.concatenate([row, jax.lax.rsqrt(row + 1e-8)])),
        Block(w0[_COL], jnp.concatenate([col, jax.lax.rsqrt(col + 1e-8)])),
    ]


def _factors(accumulators, axes):
    """Adafactor's row and column factors, each [3, *S with one axis of size 1]."""
    if axes is None:
        return jax.lax.rsqrt(accumulators.row + 1e-9), jnp.ones((), jnp.float32)
    row, col = _broadcast(accumulators.row, accumulators.col, axes)
    row_mean = jnp.mean(row, axis=axes[0] + 1, keepdims=True)
    row_factors = jax.lax.rsqrt(jnp.maximum(row / (row_mean + 1e-9), 1e-9))
    return row_factors, jax.lax.rsqrt(jnp.maximum(col, 1e-9))


def _broadcast(row, col, axes):
    """Both moments with the axis that they are means over, of size 1."""
    second, largest = axes
    return jnp.expand_dims(row, largest + 1), jnp.expand_dims(col, second + 1)
