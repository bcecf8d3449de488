"""From the estimates of particles to the meta-gradient, and how far it can be trusted.

The meta-gradient is the mean of the estimates g_i, of antithetic pairs or of whole tasks, and its spread tells

    std = sqrt(tr Cov(g_i)),   standard error = sqrt(tr Cov(g_task) / num_tasks),   snr = |mean g_i| / standard error

where g_task averages the pairs that share a task, which are not independent. With a true gradient of zero the snr is
about 1, since noise alone has the norm of one standard error.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from meta_train.estimators.base import EstimatorInfo
from meta_train.estimators.unroll import UnrollInfo
from meta_train.flat_theta import FlatTheta


class ParticleEstimate(NamedTuple):
    """What a particle, or an antithetic pair, contributes to the meta-gradient and its diagnostics.

    Attributes:
      gradient: its estimate.
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


def average(estimates: ParticleEstimate, pairs_per_task: int) -> tuple[FlatTheta, EstimatorInfo]:
    """The meta-gradient and its diagnostics.

    Args:
      estimates: of all pairs; those of a task are neighbours.
      pairs_per_task: how many those are.

    Returns:
      the mean of the estimates, in their order; NaN if none of them was finite, so that the step is skipped.
    """
    gradients = jnp.where(estimates.finite[:, None], estimates.gradient, 0)
    mean = jnp.mean(gradients, axis=0)
    squares = jnp.sum(jnp.square(gradients - mean[None]))
    num_pairs = estimates.finite.size
    # 0 / 0 where a single estimate leaves the spread unknown.
    variance = squares / (num_pairs - 1) if num_pairs > 1 else jnp.full_like(squares, jnp.nan)
    task_variance, num_tasks = variance, num_pairs // pairs_per_task
    if pairs_per_task > 1:
        tasks = jnp.mean(jnp.reshape(gradients, (num_tasks, pairs_per_task, -1)), axis=1)
        squares = jnp.sum(jnp.square(tasks - mean[None]))
        task_variance = squares / (num_tasks - 1) if num_tasks > 1 else jnp.full_like(squares, jnp.nan)
    standard_error = jnp.sqrt(task_variance / num_tasks)
    info = EstimatorInfo(
        meta_loss=jnp.mean(estimates.loss),
        gradient_std=jnp.sqrt(variance),
        standard_error=standard_error,
        snr=jnp.linalg.norm(mean) / standard_error,
        num_clamped=jnp.sum(estimates.num_clamped),
        num_diverged=jnp.sum(estimates.num_diverged),
        num_skipped_estimates=jnp.sum(~estimates.finite).astype(jnp.int32),
        mean_age=jnp.mean(estimates.age.astype(jnp.float32)),
        max_age=jnp.max(estimates.age),
    )
    return jnp.where(jnp.any(estimates.finite), mean, jnp.nan), info


def merge_infos(infos: Sequence[EstimatorInfo]) -> EstimatorInfo:
    """Diagnostics of several meta-gradients as one: counts are added, of ages the maximum, the rest is averaged."""
    stacked = jax.tree.map(lambda *values: jnp.stack(values), *infos)
    return EstimatorInfo(
        meta_loss=jnp.mean(stacked.meta_loss),
        gradient_std=jnp.mean(stacked.gradient_std),
        standard_error=jnp.mean(stacked.standard_error),
        snr=jnp.mean(stacked.snr),
        num_clamped=jnp.sum(stacked.num_clamped),
        num_diverged=jnp.sum(stacked.num_diverged),
        num_skipped_estimates=jnp.sum(stacked.num_skipped_estimates),
        mean_age=jnp.mean(stacked.mean_age),
        max_age=jnp.max(stacked.max_age),
    )
