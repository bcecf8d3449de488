"""What the LSTMs of VeLO and Celo know about the training: how much of it is done, and how the loss moves.

    fraction features   tanh(10 (x - t)), x = updates taken / num_steps, t = .03, .1, .2, .4, .6, .8, .9, 1, 1.1
    loss features       clip((mean_k - min_k) / max(1e-8, mean_{k+1} - min_k) - 1, -1, 1), 0 in the first two updates

with 10 bias-corrected moving averages mean_k of the loss, decays exp(-1/h) with h = 10 .. num_steps in equal ratios,
and their running minima min_k (Metz et al. 2022, arXiv 2211.09760). A loss counts with at most twice the largest
average so far; as published, that average is corrected for one update too many (so the cap of the second update is
about the first loss itself).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

NUM_FEATURES = 18
_FRACTIONS = (0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1)
_NUM_DECAYS = 10
_NO_MINIMUM = 999999999999.0


class LossBuffer(NamedTuple):
    """Moving averages of the loss.

    Attributes:
      means: not bias-corrected.
      minima: of the bias-corrected means.
      decays: from the shortest to the longest average.
    """

    means: Float[Array, "10"]
    minima: Float[Array, "10"]
    decays: Float[Array, "10"]


def check_num_steps(num_steps: Any, name: str) -> None:
    """ValueError for a horizon that is missing or below 1; `name` is the optimizer that needs it."""
    if num_steps is None:
        raise ValueError(
            f"num_steps=None: {name} reads how much of the training is done; pass num_steps=updates of the whole "
            "training, to load or to transform"
        )
    if isinstance(num_steps, int | float) and num_steps < 1:
        raise ValueError(f"num_steps={num_steps}: use at least 1 update")


def check_value(value: Any, name: str) -> None:
    """ValueError for a loss that is missing."""
    if value is None:
        raise ValueError(f"value=None: {name} reads the loss; call update(updates, state, params, value=loss)")


def init_loss_buffer(num_steps: Any) -> LossBuffer:
    """No loss yet; `num_steps` is the length of the longest average, in updates."""
    longest = jnp.log10(jnp.asarray(num_steps, jnp.float32))
    lengths = 10 ** jnp.linspace(1, longest, _NUM_DECAYS)
    return LossBuffer(
        means=jnp.zeros(_NUM_DECAYS, jnp.float32),
        minima=jnp.full(_NUM_DECAYS, _NO_MINIMUM, jnp.float32),
        decays=jnp.exp(-1 / lengths),
    )


def update_loss_buffer(buffer: LossBuffer, loss: Any, count: Int[Array, ""]) -> LossBuffer:
    """Takes in the loss of this update; `count` is the number of updates before it."""
    loss = jnp.asarray(loss).astype(jnp.float32)
    weight = 1 - buffer.decays ** (count + 1).astype(jnp.float32)
    largest = jnp.where(count == 0, loss, jnp.max(buffer.means / weight))
    loss = jnp.minimum(2 * jnp.abs(largest), loss)
    means = buffer.means * buffer.decays + loss * (1 - buffer.decays)
    return LossBuffer(means, jnp.minimum(buffer.minima, means / weight), buffer.decays)


def progress_features(buffer: LossBuffer, count: Int[Array, ""], num_steps: Any) -> Float[Array, "18"]:
    """What the LSTM is told.

    Args:
      buffer: holds the loss of this update.
      count: updates before it.
      num_steps: updates of the whole training.
    """
    fraction = count.astype(jnp.float32) / jnp.asarray(num_steps, jnp.float32)
    fractions = jnp.tanh((fraction - jnp.asarray(_FRACTIONS, jnp.float32)) * 10)
    means = buffer.means / (1 - buffer.decays ** (count + 1).astype(jnp.float32))
    minima = buffer.minima[:-1]
    losses = (means[:-1] - minima) / jnp.maximum(1e-8, means[1:] - minima) - 1
    return jnp.concatenate([fractions, jnp.where(count < 2, 0.0, jnp.clip(losses, -1, 1))])
