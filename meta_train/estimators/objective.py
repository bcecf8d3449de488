"""The meta-objective: which losses of a truncation count, and with what weight.

The loss is the training loss (mean of the round's K x H local minibatch losses, as published by Joseph et al. 2025,
arXiv 2312.02204) or that of the new global parameters on held-out examples (Metz et al. 2019, arXiv 1810.10180).
It is divided by the family's loss of a constant guess, and clipped. With the losses l_1 .. l_T of a truncation

    mean    1/T sum_t l_t            final   l_T            linear   1/T sum_t w_t l_t,   w_t = 2 t / (T + 1)
    log     1/T sum_t log max(l_t, LOSS_FLOOR)

The last counts relative improvements, so tasks whose losses fall over decades and those that end at a floor of noise
weigh alike.

Estimators take the mean of what `counted_losses` returns. There are no regularisers.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

LOSS_CEILING = 1.5
LOSS_FLOOR = 1e-8
"""Smallest normalised loss whose logarithm is told from that of a smaller one."""


def clip_loss(loss: Float[Array, "*n"]) -> tuple[Float[Array, "*n"], Int[Array, ""]]:
    """The loss in [0, LOSS_CEILING], the ceiling where it is not finite, and how many entries changed."""
    inside = (loss >= 0) & (loss <= LOSS_CEILING)
    clipped = jnp.where(jnp.isfinite(loss), jnp.clip(loss, 0, LOSS_CEILING), LOSS_CEILING)
    return clipped, jnp.sum(~inside).astype(jnp.int32)


def counted_losses(
    objective: str, losses: Float[Array, "rounds"], uninformed_loss: float
) -> tuple[Float[Array, "counted"], Int[Array, ""]]:
    """The losses whose mean is the objective, and how many of those that count were clipped or not finite.

    Args:
      objective: "mean", "final", "linear" or "log".
      losses: of the rounds in their order, as the task gives them.
      uninformed_loss: they are divided by it.

    Raises:
      ValueError: an unknown objective.
    """
    if objective not in ("mean", "final", "linear", "log"):
        raise ValueError(f"objective={objective!r}: use mean, final, linear or log")
    if objective == "final":
        losses = losses[-1:]
    losses, num_clamped = clip_loss(losses / uninformed_loss)
    if objective == "log":
        losses = jnp.log(jnp.maximum(losses, LOSS_FLOOR))
    if objective == "linear":
        rounds = losses.shape[0]
        losses = losses * (jnp.arange(1, rounds + 1, dtype=losses.dtype) * (2 / (rounds + 1)))
    return losses, num_clamped
