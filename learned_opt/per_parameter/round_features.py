"""What one communication round says about each tensor, as a few numbers that do not depend on its scale or size.

With D the mean pseudo-gradient of a tensor, D' that of the round before, m the server's momentum, p the tensor, Delta_k
the workers' own, and l the mean loss of the round:

    cos(D, D') and cos(D, m) of the tensor, cos(D, D') of all tensors together
    agreement      (K |D|^2 / mean_k |Delta_k|^2 - 1) / (K - 1): 1 for equal workers, 0 for unrelated ones, whatever K
    log |D| / |D'|,  log |D| / |m|,  log rms(D) / max(rms(p), floor)
    loss trends    (s - l) / (|s| + |l|) of running means over a shorter and a longer window, and within the round
    log of the rates now in force, log2 K, log2 H, the age of the training, the part of its horizon (if given) that is
    over, and whether the tensor has fewer than two dimensions
    c = cos(u, u') of the last two orthogonal steps, which weighs all directions of a matrix alike (far from 0 where the
    small ones go somewhere, about 0 and below where they are noise or undo each other), the share q of them in force,
    q c, and cos(D, u'): less than cos(D, m) says that less of the step before should have been orthogonal
    log2 of the shorter side of a matrix
    |cos(D, D')| of all tensors together: near 1 where rounds agree or undo each other, near 0 where they are noise
    the trend within rounds, averaged over about five of them: above 0 where workers end higher than they began
    log(1 - agreement): what of the workers' updates is noise, where there is little of it
    the trend from the lowest loss (over two rounds) that there has been to the present one: above 0 where a training
    has broken away from where it stood

Logarithms and ages are divided by constants that bring them to about +-1. A number that is undefined (no round before,
a single worker, no losses) is 0.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from learned_opt.algorithms.auto_diloco import is_cosine

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

LOSS_DECAYS = (0.5, 0.85, 0.96)
"""Decays per round of the running means of the loss: over about 2, 7 and 25 rounds."""
WITHIN_DECAY = 0.8
"""Decay per round of the running mean of the trend within rounds."""
MOST_AGREEMENT = 0.9999
"""Agreement counts up to here in log(1 - agreement)."""
NUM_FEATURES = 29
_AGREEMENT = 2
_SMALLEST = 1e-30


class TensorSums(NamedTuple):
    """Sums over the entries of each tensor; leaves [tensors].

    Attributes:
      size: number of entries.
      dd, pp, mm, xx: sums of squares of D, of D', of m, of the parameters.
      dp, dm: inner products of D with D' and with m.
      uu, du: sum of squares of u', inner product of D with it.
      workers: mean over the workers of their sums of squares; equals `dd` for a single one.
      is_vector: 1 where the tensor has fewer than two dimensions.
      shorter_side: of the tensor as a matrix whose columns are its last axis; 1 for vectors.
    """

    size: Float[Array, "tensors"]
    dd: Float[Array, "tensors"]
    pp: Float[Array, "tensors"]
    mm: Float[Array, "tensors"]
    xx: Float[Array, "tensors"]
    dp: Float[Array, "tensors"]
    dm: Float[Array, "tensors"]
    uu: Float[Array, "tensors"]
    du: Float[Array, "tensors"]
    workers: Float[Array, "tensors"]
    is_vector: Float[Array, "tensors"]
    shorter_side: Float[Array, "tensors"]


def tensor_sums(leaves, previous, momenta, orthogonal, xs, worker_mean) -> TensorSums:
    """The sums of the tensors D, D', m, u' and x, and of the workers' own D (those of D without `worker_mean`)."""

    def sums(a, b):
        return jnp.stack([jnp.sum(x * y) for x, y in zip(a, b, strict=True)])

    dd = sums(leaves, leaves)
    workers = dd
    if worker_mean is not None:
        squares = worker_mean(lambda own: [jnp.sum(jnp.square(x.astype(jnp.float32))) for x in jax.tree.leaves(own)])
        workers = jnp.stack(squares)
    return TensorSums(
        size=jnp.asarray([max(1, x.size) for x in xs], jnp.float32),
        dd=dd,
        pp=sums(previous, previous),
        mm=sums(momenta, momenta),
        xx=sums(xs, xs),
        dp=sums(leaves, previous),
        dm=sums(leaves, momenta),
        uu=sums(orthogonal, orthogonal),
        du=sums(leaves, orthogonal),
        workers=workers,
        is_vector=jnp.asarray([float(x.ndim < 2) for x in xs], jnp.float32),
        shorter_side=jnp.asarray([_shorter_side(x.shape) for x in xs], jnp.float32),
    )


def tensor_cosines(sums: TensorSums) -> Float[Array, "tensors"]:
    """cos(D, D') of each tensor; 0 where one of them is zero."""
    return _cosine(sums.dp, sums.dd, sums.pp)


class Reading(NamedTuple):
    """What a round is known by, beside the sums of its tensors.

    Attributes:
      cosine: of D and D' over all tensors; `NO_COSINE` where there is none.
      log_rates: logarithms of the workers' rates in the round that ended.
      losses: running means of the loss with `LOSS_DECAYS`; infinite where no loss was given.
      losses_in_round: mean over the workers of the losses of the local steps, [H]; None where none were given.
      within: running mean of the trend within rounds, see `running_within`.
      lowest: the lowest of the first of `losses` so far, this round's included; infinite where no loss was given.
      num_workers: K.
      count: rounds before this one.
      num_steps: rounds of the whole training; None: not known.
      step_cosines: c of the rounds before; `NO_COSINE` where there are none.
      shares: q in the round that ended.
    """

    cosine: Float[Array, ""]
    log_rates: Float[Array, "tensors"]
    losses: Float[Array, "means"]
    losses_in_round: Float[Array, "steps"] | None
    within: Float[Array, ""]
    lowest: Float[Array, ""]
    num_workers: int
    count: Int[Array, ""]
    num_steps: int | Int[Array, ""] | None
    step_cosines: Float[Array, "tensors"]
    shares: Float[Array, "tensors"]


def round_features(sums: TensorSums, reading: Reading, floor: float) -> Float[Array, "tensors features"]:
    """The features, [tensors, NUM_FEATURES].

    Args:
      sums: of every tensor.
      reading: of the round.
      floor: smallest root mean square that a tensor counts with.
    """
    of_tensors = _of_tensors(sums, reading, floor)
    step_cosines, cosine = _or_zero(reading.step_cosines), _or_zero(reading.cosine)
    of_steps = [
        step_cosines,
        reading.shares,
        reading.shares * step_cosines,
        _cosine(sums.du, sums.dd, sums.uu),
        jnp.log2(sums.shorter_side) / 5,
    ]
    noise = jnp.log(1 - jnp.clip(of_tensors[_AGREEMENT], 0, MOST_AGREEMENT)) / 4.6
    above_lowest = jnp.maximum(_trend(reading.losses[0], reading.lowest), 0)
    late = (jnp.abs(cosine), reading.within, noise, above_lowest)
    of_all = (*of_tensors, *_of_round(reading, cosine), *of_steps, *late)
    columns = [jnp.broadcast_to(x, sums.size.shape) for x in of_all]
    # Of a round that is not finite, which moves nothing.
    return jnp.nan_to_num(jnp.stack(columns, axis=-1), nan=0.0, posinf=0.0, neginf=0.0)


def _of_tensors(sums: TensorSums, reading: Reading, floor: float) -> list[Float[Array, "tensors"]]:
    num_workers = reading.num_workers
    agreement = jnp.zeros(sums.size.shape)
    if num_workers > 1:
        ratio = sums.dd / jnp.maximum(sums.workers, _SMALLEST)
        agreement = (num_workers * ratio - 1) / (num_workers - 1)
    size = jnp.sqrt(sums.dd / sums.size) / jnp.maximum(jnp.sqrt(sums.xx / sums.size), floor)
    return [
        tensor_cosines(sums),
        _cosine(sums.dm, sums.dd, sums.mm),
        agreement,
        _log_ratio(sums.dd, sums.pp),
        _log_ratio(sums.dd, sums.mm),
        jnp.clip(jnp.log(jnp.maximum(size, 1e-7)) / 4 + 0.5, -2, 2),
        reading.log_rates / 3,
        sums.is_vector,
    ]


def _of_round(reading: Reading, cosine: Float[Array, ""]) -> list[Float[Array, ""]]:
    age, losses, in_round, num_steps = (
        reading.count.astype(jnp.float32),
        reading.losses,
        reading.losses_in_round,
        reading.num_steps,
    )
    num_local_steps = 1 if in_round is None else in_round.shape[0]
    within = _within(in_round)
    progress = jnp.float32(0) if num_steps is None else jnp.minimum(age / jnp.asarray(num_steps, jnp.float32), 1)
    return [
        cosine,
        jnp.mean(reading.log_rates) / 3,
        _trend(losses[0], losses[1]),
        _trend(losses[1], losses[2]),
        within,
        jnp.log2(jnp.float32(reading.num_workers)) / 5,
        jnp.log2(jnp.float32(num_local_steps)) / 5,
        jnp.log1p(age) / 7,
        jax.lax.rsqrt(1 + age),
        jnp.exp(-age / 20),
        progress,
        jnp.float32(0 if num_steps is None else 1),
    ]


def running_within(mean: Float[Array, ""], losses_in_round: Float[Array, "steps"] | None) -> Float[Array, ""]:
    """The running mean of the trend within rounds after one more; it stays in a round whose losses are not finite."""
    within = _within(losses_in_round)
    known = True if losses_in_round is None else jnp.all(jnp.isfinite(losses_in_round))
    return jnp.where(known, mean + (1 - WITHIN_DECAY) * (within - mean), mean)


def _within(losses_in_round):
    return jnp.float32(0) if losses_in_round is None else _trend(losses_in_round[-1], losses_in_round[0])


def _or_zero(cosines):
    """Zero in the place of `NO_COSINE` and NaN."""
    return jnp.where(is_cosine(cosines), cosines, 0)


def _shorter_side(shape):
    return float(max(1, min(math.prod(shape[:-1]), shape[-1]))) if len(shape) > 1 else 1.0


def _cosine(product, a, b):
    scale = jax.lax.rsqrt(jnp.maximum(a, _SMALLEST)) * jax.lax.rsqrt(jnp.maximum(b, _SMALLEST))
    return jnp.where((a > 0) & (b > 0), jnp.clip(product * scale, -1, 1), 0)


def _log_ratio(a, b):
    """Half the logarithm of the ratio of two sums of squares, over 2."""
    log = jnp.log(jnp.maximum(a, _SMALLEST)) - jnp.log(jnp.maximum(b, _SMALLEST))
    return jnp.where((a > 0) & (b > 0), jnp.clip(log / 4, -2, 2), 0)


def _trend(new, old):
    known = jnp.isfinite(new) & jnp.isfinite(old)
    new, old = jnp.where(known, new, 0), jnp.where(known, old, 0)
    return (new - old) / jnp.maximum(jnp.abs(new) + jnp.abs(old), _SMALLEST) * 4
