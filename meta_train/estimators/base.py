"""The interface of meta-gradient estimators.

An `Estimator` is a method. Given inner training (`Unroll`), a schedule of episode lengths, and how many particles there
are and where (`Particles`), it builds a `GradientEstimator`, which a meta-trainer calls once a meta-step.

Theta is a vector at this level, see `meta_train.flat_theta`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from meta_train.estimators.truncation import TruncationSchedule
from meta_train.estimators.unroll import Unroll
from meta_train.flat_theta import FlatTheta


class EstimatorInfo(NamedTuple):
    """Diagnostics of one meta-gradient.

    Attributes:
      meta_loss: mean normalised loss over particles and rounds.
      gradient_std: standard deviation of the estimates of single pairs (of single tasks for backpropagation), over all
        entries of theta: the root of the trace of their sample covariance. NaN with one of them.
      standard_error: of the meta-gradient, likewise over all entries. NaN with one task.
      snr: norm of the meta-gradient over its standard error; about 1 when it is all noise.
      num_clamped: rounds, over all particles, whose loss was clipped or not finite.
      num_diverged: particles with as many such rounds as there were losses that counted.
      num_skipped_estimates: estimates that were not finite and count as zero.
      mean_age: mean age of the particles after the step, rounds.
      max_age: largest of these ages.
    """

    meta_loss: Float[Array, ""]
    gradient_std: Float[Array, ""]
    standard_error: Float[Array, ""]
    snr: Float[Array, ""]
    num_clamped: Int[Array, ""]
    num_diverged: Int[Array, ""]
    num_skipped_estimates: Int[Array, ""]
    mean_age: Float[Array, ""]
    max_age: Int[Array, ""]


class GradientEstimator(NamedTuple):
    """Estimates the gradient of the meta-loss.

    Attributes:
      init: (theta, key, data) -> state.
      estimate: (theta, state, key, meta_step, data) -> (meta-gradient, state, EstimatorInfo).
    """

    init: Callable[[FlatTheta, jax.Array, Any], Any]
    estimate: Callable[
        [FlatTheta, Any, jax.Array, Int[Array, ""], Any],
        tuple[FlatTheta, Any, EstimatorInfo],
    ]


class Particles(NamedTuple):
    """What a meta-gradient is averaged over, and where.

    Attributes:
      num_tasks: tasks in training.
      mesh: devices they are spread over, from `make_particle_mesh`.
      sigma: standard deviation of the perturbations of theta; nothing to estimators that differentiate.
      pairs_per_task: antithetic pairs that share a task, its initial parameters, batches and episode lengths.
      trained: which entries of theta are perturbed, or differentiated by; None: all.
    """

    num_tasks: int
    mesh: jax.sharding.Mesh
    sigma: float = 0.0
    pairs_per_task: int = 1
    trained: Any = None

    def only_trained(self, vector: FlatTheta) -> FlatTheta:
        """The vector with zeros for entries of theta that are not trained."""
        return vector if self.trained is None else jnp.where(self.trained, vector, 0)

    @property
    def num_pairs(self) -> int:
        """Antithetic pairs over all tasks."""
        return self.num_tasks * self.pairs_per_task


class Estimator(NamedTuple):
    """A method of estimating meta-gradients.

    Attributes:
      build: (unroll, schedule, particles) -> GradientEstimator. Raises a ValueError that names a setting it cannot work
        with.
      differentiates: whether it backpropagates through the unroll, one particle a task, rather than comparing the two
        signs of perturbations of theta.
      whole_episodes: whether an estimate trains tasks from the beginning to the end, rather than by a truncation.
    """

    build: Callable[[Unroll, TruncationSchedule, Particles], GradientEstimator]
    differentiates: bool
    whole_episodes: bool
