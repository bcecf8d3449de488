"""The meta-objective: which losses of a truncation count, and with what weight.

The loss is the training loss (mean of the round's K x H local minibatch losses, as published by Joseph et al. 2025,
arXiv 2312.02204) or that of the new global parameters on held-out examples (Metz et al. 2019, arXiv 1810.10180).
It is divided by the family's loss of a constant guess, and clipped. With the losses l_1 .. l_T of a truncation

    mean    1/T sum_t l_t            final   l_T            linear   1/T sum_t w_t l_t,   w_t = 2 t / (T + 1)

Estimators take the mean of what `counted_losses` returns. There are no regularisers.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

LOSS_CEILING = 1.5
OBJECTIVES = ("mean", "final", "linear")


def check_objective(objective: str) -> None:
    """ValueError for an unknown objective."""
    if objective not in OBJECTIVES:
        raise ValueError(f"objective={objective!r}: use {', '.join(OBJECTIVES[:-1])} or {OBJECTIVES[-1]}")


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
      objective: one of OBJECTIVES.
      losses: of the rounds in their order, as the task gives them.
      uninformed_loss: they are divided by it.

    Raises:
      ValueError: an unknown objective.
    """
    check_objective(objective)
    if objective == "final":
        losses = losses[-1:]
    losses, num_clamped = clip_loss(losses / uninformed_loss)
    if objective == "linear":
        rounds = losses.shape[0]
        losses = losses * (jnp.arange(1, rounds + 1, dtype=losses.dtype) * (2 / (rounds + 1)))
    return losses, num_clamped
