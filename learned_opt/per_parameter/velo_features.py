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
    broadcast_moments,
    factored_axes,
)
from learned_opt.per_parameter.channel_mlp import Block, ChannelMlp
from learned_opt.per_parameter.entry_means import entry_means
from learned_opt.per_parameter.mlp import is_written_out

if TYPE_CHECKING:
    from jaxtyping import Array, Float

BLOCK_SIZES = (1, 1, 1, 3, 1, 3, 1, 3, 1, 3, 3, 3, 3, 3)
NUM_CHANNELS = sum(BLOCK_SIZES)
LARGEST_GRADIENT = 1000.0
"""Gradients are clipped to it before anything else."""

_FULL = np.arange(15)
_ROW, _COL = np.asarray([15, 16, 17, 21, 22, 23]), np.asarray([18, 19, 20, 24, 25, 26])
_WITH_FACTORS = np.asarray([27, 28, 29])
_FROM_SQUARES = np.asarray([0, 1, 2, 6, 7, 8, 12, 13, 14, 15, 16, 3, 4, 5, 17, 9, 10, 11])
"""Where the full channels' mean squares stand among those of `_mean_squares`, before it puts them in order."""


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
    mlp: ChannelMlp,
    gradient: Float[Array, "*S"],
    params: Float[Array, "*S"],
    accumulators: Accumulators,
    epsilon: float = 1e-6,
    unfactored: bool = True,
    corrected: Accumulators | None = None,
) -> list[Block]:
    """The channels of one tensor, from the new accumulators.

    Args:
      mlp: with first weight matrix `w0`, rows in the order above.
      gradient: clipped.
      params: before the step.
      accumulators: after their update.
      epsilon: added to r under the roots.
      unfactored: whether a tensor of rank below 2 has the last five blocks.
      corrected: the accumulators with bias correction, from which all but the normalised gradient are then taken.
    """
    w0 = mlp["w0"]
    axes = factored_axes(gradient.shape)
    moments = accumulators if corrected is None else corrected
    momentum, rms, row, col = moments
    of_full = _FULL if axes is None else np.concatenate([_FULL, _WITH_FACTORS])
    if axes is None:
        rf, cf = jax.lax.rsqrt(accumulators.row + 1e-9), jnp.ones((), jnp.float32)
    else:
        row, col, *moment_factors = broadcast_moments(moments, axes)
        rf, cf = moment_factors if corrected is None else broadcast_moments(accumulators, axes)[2:]
        constant = [
            Block(w0[_ROW], jnp.concatenate([row, jax.lax.rsqrt(row + 1e-8)])),
            Block(w0[_COL], jnp.concatenate([col, jax.lax.rsqrt(col + 1e-8)])),
        ]
        if gradient.ndim == 2 and is_written_out(mlp, gradient.shape):
            given = (gradient, params, momentum, rms, (rf, cf), moment_factors, epsilon)
            return [Block(w0[of_full], _channels(*given), _mean_squares(*given)), *constant]
    inverse_rms = jax.lax.rsqrt(rms + epsilon)
    full = [
        jnp.stack([gradient, jnp.clip(gradient, -0.1, 0.1), params]),
        momentum,
        rms[None],
        momentum * inverse_rms[None],
        inverse_rms[None],
        gradient[None] * rf * cf,
        (gradient * inverse_rms)[None],
    ]
    if axes is not None:
        full.append(momentum * moment_factors[0] * moment_factors[1])
        return [Block(w0[of_full], jnp.concatenate(full)), *constant]
    if not unfactored:
        return [Block(w0[of_full], jnp.concatenate(full))]
    # Row and column channels are the same numbers here, listed once: their weights add up.
    weights = jnp.concatenate([w0[of_full], w0[_ROW] + w0[_COL], w0[_WITH_FACTORS]])
    full += [row, jax.lax.rsqrt(row + 1e-8), momentum * jax.lax.rsqrt(row)]
    return [Block(weights, jnp.concatenate(full))]


def _channels(gradient, params, momentum, rms, gradient_factors, moment_factors, epsilon):
    """The full channels of a factored tensor, as a list."""
    inverse_rms = jax.lax.rsqrt(rms + epsilon)
    return [
        gradient,
        jnp.clip(gradient, -0.1, 0.1),
        params,
        *momentum,
        rms,
        *(m * inverse_rms for m in momentum),
        inverse_rms,
        *(gradient * r * c for r, c in zip(*gradient_factors, strict=True)),
        gradient * inverse_rms,
        *(m * r * c for m, r, c in zip(momentum, *moment_factors, strict=True)),
    ]


def _mean_squares(gradient, params, momentum, rms, gradient_factors, moment_factors, epsilon):
    """Theirs, from other expressions of the same numbers: XLA stores an array that two loops need."""

    def squares(gradient, params, rms, *others):
        momenta = [jnp.square(m) for m in others[:3]]
        rows, cols, moment_rows, moment_cols = ([jnp.square(x) for x in others[i : i + 3]] for i in (3, 6, 9, 12))
        square, inverse = jnp.square(gradient), 1 / (rms + epsilon)
        of_gradient = [square, jnp.square(jnp.clip(gradient, -0.1, 0.1)), jnp.square(params)]
        of_gradient += [square * r * c for r, c in zip(rows, cols, strict=True)]
        of_factors = [m * r * c for m, r, c in zip(momenta, moment_rows, moment_cols, strict=True)]
        of_inverse = [jnp.square(rms), *(m * inverse for m in momenta), inverse, square * inverse]
        return of_gradient, momenta + of_factors, of_inverse

    arrays = [gradient, params, rms, *momentum, *(x for f in (*gradient_factors, *moment_factors) for x in f)]
    return entry_means(squares, arrays, gradient.shape)[_FROM_SQUARES]
