"""Accumulators and per-parameter features of the learned optimizers.

Per tensor: three momenta m, one second moment r and three factored second moments (Adafactor, Shazeer & Stern 2018,
arXiv 1804.04235), none bias-corrected. From their new values come 28 channels per parameter (27 + the number of
deltas), each divided by its root mean square over the tensor: x * rsqrt(1e-5 + mean(x^2)). Definition: `AdafacMLPLOpt`
of Metz et al. 2022 (arXiv 2203.11860); with worker deltas in place of the gradient: Joseph et al. 2025 (arXiv
2312.02204), appendix.

A channel is either *full* (one value per parameter) or, for a factored tensor, constant along one axis (the row and
column moments). The two kinds are kept apart, because the constant ones need not be computed per parameter.

Deliberate deviation: gradients are clipped to +-1e9, so that no square of a square overflows float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt.per_parameter.entry_means import entry_means

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

MOMENTUM_DECAYS = (0.9, 0.99, 0.999)
RMS_DECAYS = (0.999,)
ADAFACTOR_DECAYS = (0.9, 0.99, 0.999)
TIME_SCALES = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000)
NUM_FULL_AFTER_DELTAS = 12
"""Full channels between the deltas and the row moments: p, m 3, r, m*rsqrt(r) 3, rsqrt(r), factored gradient 3."""

LARGEST_GRADIENT = 1e9
_LARGEST_MOMENT = LARGEST_GRADIENT**2
_SMALLEST_SQUARE = 1e-30


def num_features(num_deltas: int) -> int:
    """Rows of the MLP's first weight matrix: deltas, 27 tensor channels and 11 time channels."""
    return num_deltas + 27 + len(TIME_SCALES)


class Accumulators(NamedTuple):
    """Running moments of one tensor of shape S, float32.

    Attributes:
      momentum: [3, *S].
      rms: S.
      row: [3, *S without its largest axis], or [3, *S] for a tensor that is not factored.
      col: [3, *S without its second largest axis], or None for a tensor that is not factored.
    """

    momentum: Float[Array, "3 *S"]
    rms: Float[Array, "*S"]
    row: Float[Array, "3 ..."]
    col: Float[Array, "3 ..."] | None


class Decays(NamedTuple):
    """Decay rates of the accumulators: momentum [3], rms [], adafactor [3]."""

    momentum: Float[Array, "3"]
    rms: Float[Array, ""]
    adafactor: Float[Array, "3"]


class Features(NamedTuple):
    """Channels of one tensor of shape S before normalisation.

    Attributes:
      full: channels with one value per parameter, in the order of the MLP's rows: [channels, *S], or a list of them.
      row: 6 channels (3 moments, 3 inverse roots), [6, *S with the largest axis 1]; None if not factored.
      col: the same with the second largest axis 1; None if not factored.
    """

    full: Float[Array, "channels *S"] | list[Float[Array, "*S"]]
    row: Float[Array, "6 ..."] | None
    col: Float[Array, "6 ..."] | None


def decays_from_theta(theta: dict) -> Decays:
    """beta = 1 - (1 - beta_0) * exp(10 * offset); second-moment decays are clipped to [0, 1], momenta are not."""

    def decay(initial, offset):
        # exp is exact at 0, so an untrained offset gives the initial decay rounded once.
        return 1 - (1 - jnp.asarray(initial, jnp.float32)) * jnp.exp(10 * offset)

    return Decays(
        momentum=decay(MOMENTUM_DECAYS, theta["momentum_decays"]),
        rms=jnp.clip(decay(RMS_DECAYS, theta["rms_decays"])[0], 0, 1),
        adafactor=jnp.clip(decay(ADAFACTOR_DECAYS, theta["adafactor_decays"]), 0, 1),
    )


def factored_axes(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """The (second largest, largest) axes of a tensor, later axes winning ties; None below rank 2."""
    if len(shape) < 2:
        return None
    order = np.argsort(np.asarray(shape), kind="stable")
    return int(order[-2]), int(order[-1])


def init_accumulators(shape: tuple[int, ...]) -> Accumulators:
    """Zeros for a tensor of this shape."""
    axes = factored_axes(shape)
    row_shape, col = shape, None
    if axes is not None:
        second, largest = axes
        row_shape = shape[:largest] + shape[largest + 1 :]
        col = jnp.zeros((3, *shape[:second], *shape[second + 1 :]), jnp.float32)
    return Accumulators(
        momentum=jnp.zeros((3, *shape), jnp.float32),
        rms=jnp.zeros(shape, jnp.float32),
        row=jnp.zeros((3, *row_shape), jnp.float32),
        col=col,
    )


def clip_gradient(gradient: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """The gradient in float32, limited to what the accumulators can square twice."""
    return jnp.clip(gradient.astype(jnp.float32), -LARGEST_GRADIENT, LARGEST_GRADIENT)


def update_accumulators(accumulators: Accumulators, gradient: Float[Array, "*S"], decays: Decays) -> Accumulators:
    """One step of every moving average."""
    shape = gradient.shape
    square = jnp.square(gradient)

    def average(old, new, decay):
        decay = jnp.reshape(decay, (3,) + (1,) * new.ndim)
        return decay * old + (1 - decay) * new[None]

    momentum = average(accumulators.momentum, gradient, decays.momentum)
    rms = decays.rms * accumulators.rms + (1 - decays.rms) * square
    floored = square + _SMALLEST_SQUARE
    axes = factored_axes(shape)
    if axes is None:
        row, col = average(accumulators.row, floored, decays.adafactor), accumulators.col
    else:
        second, largest = axes
        row = average(accumulators.row, jnp.mean(floored, axis=largest), decays.adafactor)
        col = average(accumulators.col, jnp.mean(floored, axis=second), decays.adafactor)
    return Accumulators(momentum, rms, row, col)


def rescale(accumulators: Accumulators, inverse: Float[Array, ""]) -> Accumulators:
    """The accumulators as they would be, had every gradient been multiplied by `inverse`."""
    momentum, rms, row, col = accumulators
    square = jnp.square(inverse)

    def scaled(moment):
        # Old gradients can outweigh the present one by more than float32 can hold.
        return jnp.minimum(moment * square, _LARGEST_MOMENT)

    momentum = jnp.clip(momentum * inverse, -LARGEST_GRADIENT, LARGEST_GRADIENT)
    return Accumulators(momentum, scaled(rms), scaled(row), None if col is None else scaled(col))


def tensor_features(
    deltas: list[Float[Array, "*S"]],
    gradient: Float[Array, "*S"],
    params: Float[Array, "*S"],
    accumulators: Accumulators,
    is_listed: bool = False,
) -> Features:
    """The channels of one tensor, from the new accumulators.

    Args:
      deltas: the first rows: the gradient itself, or one delta per worker.
      gradient: what the accumulators average.
      params: the parameters before the step.
      accumulators: after `update_accumulators`.
      is_listed: the full channels of a factored tensor as a list, for sums that are written out.
    """
    momentum, rms = accumulators.momentum, accumulators.rms
    inverse_rms = jax.lax.rsqrt(rms + 1e-6)
    axes = factored_axes(gradient.shape)
    # Few blocks of many channels: XLA makes one program of their concatenation, of single channels one each.
    full = [jnp.stack([*deltas, params]), momentum, rms[None], momentum * inverse_rms[None], inverse_rms[None]]
    if axes is None:
        moments = accumulators.row
        full += [gradient[None] * jax.lax.rsqrt(moments + 1e-9), momentum * jax.lax.rsqrt(moments + 1e-6)]
        full += [moments, jax.lax.rsqrt(moments + 1e-8)]
        return Features(jnp.concatenate(full), row=None, col=None)
    row, col, row_factors, col_factors = broadcast_moments(accumulators, axes)
    if is_listed:
        momenta, factors = list(momentum), list(zip(row_factors, col_factors, strict=True))
        channels = [*deltas, params, *momenta, rms, *(m * inverse_rms for m in momenta), inverse_rms]
        channels += [gradient * r * c for r, c in factors]
        channels += [m * r * c for m, (r, c) in zip(momenta, factors, strict=True)]
    else:
        full += [gradient[None] * row_factors * col_factors, momentum * row_factors * col_factors]
        channels = jnp.concatenate(full)
    return Features(
        channels,
        row=jnp.concatenate([row, jax.lax.rsqrt(row + 1e-8)]),
        col=jnp.concatenate([col, jax.lax.rsqrt(col + 1e-8)]),
    )


def full_mean_squares(
    deltas: list[Float[Array, "*S"]],
    gradient: Float[Array, "*S"],
    params: Float[Array, "*S"],
    accumulators: Accumulators,
) -> Float[Array, "channels"]:
    """Mean squares of the full channels of a factored tensor, without computing the channels.

    Taken from other expressions of the same numbers, because XLA stores an array that two loops need: here the
    channels stay inside the loop that evaluates the MLP.
    """
    axes = factored_axes(gradient.shape)
    if axes is None:
        raise ValueError(f"shape {gradient.shape} is not factored: take the channels' own mean squares")
    _, _, row_factors, col_factors = broadcast_moments(accumulators, axes)

    def squares(params, rms, gradient, *others):
        inverse = 1 / (rms + 1e-6)
        momenta, rows, cols = ([jnp.square(x) for x in others[i : i + 3]] for i in (0, 3, 6))
        factors = [r * c for r, c in zip(rows, cols, strict=True)]
        of_factors = [
            *(jnp.square(x) for x in (*others[9:], params)),
            *(jnp.square(gradient) * f for f in factors),
            *(m * f for m, f in zip(momenta, factors, strict=True)),
        ]
        return of_factors, [*momenta, jnp.square(rms), *(m * inverse for m in momenta), inverse]

    arrays = [params, accumulators.rms, gradient, *accumulators.momentum, *row_factors, *col_factors, *deltas]
    means = entry_means(squares, arrays, gradient.shape)
    before, after = len(deltas) + 1, len(deltas) + 7
    return jnp.concatenate([means[:before], means[after:], means[before:after]])


def broadcast_moments(accumulators, axes):
    """Row and column moments and their Adafactor factors, each [3, *S with one axis of size 1]."""
    second, largest = axes
    row, col = accumulators.row, accumulators.col
    row_mean = jnp.mean(row, axis=1 + second - (largest < second), keepdims=True)
    # In the shape that the moments are stored in: otherwise each is computed once a shape that it is read in.
    row_factors = jax.lax.rsqrt(jnp.maximum(row / (row_mean + 1e-9), 1e-9))
    col_factors = jax.lax.rsqrt(jnp.maximum(col, 1e-9))
    row, row_factors = (jnp.expand_dims(x, largest + 1) for x in (row, row_factors))
    col, col_factors = (jnp.expand_dims(x, second + 1) for x in (col, col_factors))
    return row, col, row_factors, col_factors


def first_layer_rows(num_deltas: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which rows of the first weight matrix belong to the full, row and column channels, in their order."""
    start = num_deltas + NUM_FULL_AFTER_DELTAS
    full = np.concatenate([np.arange(start), start + np.asarray([12, 13, 14])])
    row = start + np.asarray([0, 1, 2, 6, 7, 8])
    col = start + np.asarray([3, 4, 5, 9, 10, 11])
    return full, row, col


def time_features(count: Int[Array, ""]) -> Float[Array, "11"]:
    """tanh(count / T - 1) for 11 time scales T; count is in steps (rounds), before this one."""
    return jnp.tanh(count.astype(jnp.float32) / jnp.asarray(TIME_SCALES, jnp.float32) - 1)
