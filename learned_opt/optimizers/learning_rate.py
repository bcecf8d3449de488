"""A learning rate is a number, a traced scalar, or an optax schedule: a function of the steps taken so far."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

if TYPE_CHECKING:
    from jaxtyping import Array, Int

LearningRate = optax.ScalarOrSchedule


def rate_at(learning_rate: LearningRate, count: Int[Array, ""]) -> Any:
    """The rate of the step that comes after `count` steps."""
    return learning_rate(count) if callable(learning_rate) else learning_rate


def check_learning_rate(learning_rate: Any, what: str = "learning_rate") -> None:
    """Refuses what is no learning rate, before anything is compiled; a traced scalar passes.

    Args:
      learning_rate: a number above 0, an array of no axes, or a schedule (count int32 [] -> one number).
      what: its name, for errors.

    Raises:
      ValueError: anything else, among it a schedule that returns several numbers or cannot be traced.
    """
    if callable(learning_rate):
        try:
            found = jax.eval_shape(learning_rate, jax.ShapeDtypeStruct((), jnp.int32))
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(
                f"{what}: the schedule fails on a traced count ({reason}); write it as a function of one count with "
                "jax.numpy, or take one of optax's"
            ) from error
        if not hasattr(found, "shape") or found.shape != () or not jnp.issubdtype(found.dtype, jnp.number):
            text = f"an array of shape {found.shape}" if hasattr(found, "shape") else type(found).__name__
            raise ValueError(f"{what}: the schedule returns {text}: use one that returns a single number")
    elif isinstance(learning_rate, bool) or not isinstance(
        learning_rate, int | float | np.ndarray | np.generic | jax.Array
    ):
        raise ValueError(f"{what}={learning_rate!r}: use a number above 0 or an optax schedule")
    elif np.shape(learning_rate) != ():
        raise ValueError(f"{what} has shape {np.shape(learning_rate)}: use a single number or an optax schedule")
    elif not _is_traced(learning_rate) and not 0 < float(learning_rate) < math.inf:
        raise ValueError(f"{what}={learning_rate}: use a number above 0 or an optax schedule")


def _is_traced(value):
    try:
        float(value)
    except jax.errors.ConcretizationTypeError:
        return True
    return False
