"""The interface of meta-gradient estimators."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float, Int

from learned_opt.base import Theta


class EstimatorInfo(NamedTuple):
    """Diagnostics of one meta-gradient.

    Attributes:
      meta_loss: mean normalised loss over particles and rounds.
      num_clamped: rounds, over all particles, whose loss was clipped or not finite.
      mean_age: mean age of the particles after the step, rounds.
    """

    meta_loss: Float[Array, ""]
    num_clamped: Int[Array, ""]
    mean_age: Float[Array, ""]


class GradientEstimator(NamedTuple):
    """Estimates the gradient of the meta-loss.

    Attributes:
      init: (theta, key, data) -> state.
      estimate: (theta, state, key, meta_step, data) -> (meta_gradient, state, EstimatorInfo).
    """

    init: Callable[[Theta, jax.Array, Any], Any]
    estimate: Callable[..., tuple[Theta, Any, EstimatorInfo]]
