"""The interface of meta-gradient estimators: their options, and what they report beside the meta-gradient.

An estimator averages the estimates g_i of its particles, antithetic pairs or whole tasks. How far that average can be
trusted is told by their spread:

    std = sqrt(tr Cov(g_i)),   standard error = sqrt(tr Cov(g_task) / num_tasks),   snr = |mean g_i| / standard error

where g_task averages the pairs that share a task, which are not independent. With a true gradient of zero the snr is
about 1, since noise alone has the norm of one standard error.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from learned_opt.base import Theta
from meta_train.estimators.unroll import UnrollInfo

Sigma = float | Callable[[Int[Array, ""]], Any]
"""Standard deviation of the perturbations of theta: a number, or a function of the meta-step."""


@dataclasses.dataclass(frozen=True)
class EstimatorOptions:
    """What an estimator may do differently from the plain one.

    Raises:
      ValueError: a value out of range, or two that exclude each other.
    """

    sign_scale: float | None = None
    """If given, the loss difference of a pair is replaced by its sign times this; None keeps the difference."""
    max_difference: float | None = None
    """If given, the loss difference of a pair is clipped to [-max_difference, max_difference]."""
    pairs_per_task: int = 1
    """Antithetic pairs that share a task, its initial parameters, batches and episode lengths; divides num_pairs."""
    max_unroll_length: int | None = None
    """Longest episode of the schedule in rounds; only full backpropagation needs it."""
    chunk: int = 0
    """Pairs (tasks for backpropagation) computed at once on a device; 0 leaves it to `default_chunk`."""

    def __post_init__(self) -> None:
        for name in ("sign_scale", "max_difference"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name}: {value} must be positive and finite, or None")
        if self.sign_scale is not None and self.max_difference is not None:
            raise ValueError(f"max_difference: {self.max_difference} does nothing beside sign_scale; drop one of them")
        if self.pairs_per_task < 1:
            raise ValueError(f"pairs_per_task: {self.pairs_per_task} must be at least 1")


PLAIN = EstimatorOptions()
"""The estimators as published."""


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
      num_skipped: estimates that were not finite and count as zero.
      mean_age: mean age of the particles after the step, rounds.
      max_age: largest of these ages.
    """

    meta_loss: Float[Array, ""]
    gradient_std: Float[Array, ""]
    standard_error: Float[Array, ""]
    snr: Float[Array, ""]
    num_clamped: Int[Array, ""]
    num_diverged: Int[Array, ""]
    num_skipped: Int[Array, ""]
    mean_age: Float[Array, ""]
    max_age: Int[Array, ""]


class GradientEstimator(NamedTuple):
    """Estimates the gradient of the meta-loss.

    Attributes:
      init: (theta, key, data) -> state.
      estimate: (theta, state, key, meta_step, data) -> (meta_gradient, state, EstimatorInfo).
    """

    init: Callable[[Theta, jax.Array, Any], Any]
    estimate: Callable[..., tuple[Theta, Any, EstimatorInfo]]


class Sent(NamedTuple):
    """What a particle, or an antithetic pair, contributes to the meta-gradient and its diagnostics.

    Attributes:
      gradient: its estimate, entries of theta leaf by leaf.
      finite: whether it can be used; otherwise it counts as zero.
      loss: mean over its rounds.
      num_clamped: of its rounds.
      num_diverged: of its particles.
      age: in rounds after the step.
    """

    gradient: Float[Array, "*pairs n"]
    finite: Bool[Array, "*pairs"]
    loss: Float[Array, "*pairs"]
    num_clamped: Int[Array, "*pairs"]
    num_diverged: Int[Array, "*pairs"]
    age: Int[Array, "*pairs"]


def diverged(info: UnrollInfo) -> Bool[Array, "*particles"]:
    """Whether as many rounds were clamped as there are losses that count."""
    return info.num_clamped >= info.losses.shape[-1]


def average(sent: Sent, pairs_per_task: int) -> tuple[Float[Array, "n"], EstimatorInfo]:
    """The meta-gradient and its diagnostics.

    Args:
      sent: of all pairs; those of a task are neighbours.
      pairs_per_task: how many those are.

    Returns:
      the mean of the estimates, in their order; NaN if none of them was finite, so that the step is skipped.
    """
    gradients = jnp.where(sent.finite[:, None], sent.gradient, 0)
    mean = jnp.mean(gradients, axis=0)
    squares = jnp.sum(jnp.square(gradients - mean[None]))
    num_pairs = sent.finite.size
    # 0 / 0 where a single estimate leaves the spread unknown.
    variance = squares / (num_pairs - 1) if num_pairs > 1 else jnp.full_like(squares, jnp.nan)
    task_variance, num_tasks = variance, num_pairs // pairs_per_task
    if pairs_per_task > 1:
        tasks = jnp.mean(jnp.reshape(gradients, (num_tasks, pairs_per_task, -1)), axis=1)
        squares = jnp.sum(jnp.square(tasks - mean[None]))
        task_variance = squares / (num_tasks - 1) if num_tasks > 1 else jnp.full_like(squares, jnp.nan)
    standard_error = jnp.sqrt(task_variance / num_tasks)
    info = EstimatorInfo(
        meta_loss=jnp.mean(sent.loss),
        gradient_std=jnp.sqrt(variance),
        standard_error=standard_error,
        snr=jnp.linalg.norm(mean) / standard_error,
        num_clamped=jnp.sum(sent.num_clamped),
        num_diverged=jnp.sum(sent.num_diverged),
        num_skipped=jnp.sum(~sent.finite).astype(jnp.int32),
        mean_age=jnp.mean(sent.age.astype(jnp.float32)),
        max_age=jnp.max(sent.age),
    )
    return jnp.where(jnp.any(sent.finite), mean, jnp.nan), info
