"""Running mean and spread of a loss, to say how unusual a loss is (Metz et al. 2020, arXiv 2009.11243).

    mean <- d mean + (1 - d) loss;     spread <- d spread + (1 - d) (mean - loss)^2,  with the new mean

Both are bias-corrected when they are read. An average that holds no loss yet reads 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int


class LossAverage(NamedTuple):
    """Mean and spread, not bias-corrected, of `num_losses` losses."""

    mean: Float[Array, ""]
    spread: Float[Array, ""]
    num_losses: Int[Array, ""]


def init_loss_average() -> LossAverage:
    """No loss yet."""
    return LossAverage(jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32))


def update_loss_average(average: LossAverage, loss: Float[Array, ""], decay: float) -> LossAverage:
    """Takes in a loss."""
    keep = jnp.asarray(decay, jnp.float32)
    mean = keep * average.mean + (1 - keep) * loss
    return LossAverage(mean, keep * average.spread + (1 - keep) * jnp.square(mean - loss), average.num_losses + 1)


def corrected_mean(average: LossAverage, decay: float) -> Float[Array, ""]:
    """The bias-corrected mean, 0 of no loss."""
    return average.mean * _correction(average, decay)


def standardised(average: LossAverage, loss: Float[Array, ""], decay: float) -> Float[Array, ""]:
    """How far a loss is from the mean, in units of the spread, within +-5."""
    correction = _correction(average, decay)
    inverse = jax.lax.rsqrt(average.spread * correction + 1e-8)
    return jnp.clip((loss - average.mean * correction) * inverse, -5, 5)


def _correction(average, decay):
    # Compilers turn 1 - 1 + 1e-8 into 0: of no loss, there is nothing to correct.
    held = 1 - jnp.asarray(decay, jnp.float32) ** average.num_losses.astype(jnp.float32)
    return 1 / (jnp.where(average.num_losses == 0, 1.0, held) + 1e-8)
