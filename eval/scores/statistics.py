"""Aggregates over tasks and seeds with honest error bars (Agarwal et al. 2021, arXiv 2108.13264, and their `rliable`).

    IQM                  mean of the middle half of all runs of all tasks: floor(n / 4) lowest and highest left out
    performance profile  share of runs whose score is above tau, for every tau
    P(X > Y)             mean over tasks of P(x > y) + P(x = y) / 2 for runs x of X and y of Y (Mann-Whitney's U)
    interval             2.5 and 97.5 percentiles of the aggregate over bootstrap samples

The bootstrap is stratified: runs are drawn again within each task. With `resample_tasks` (the default) the tasks are
drawn again first, which answers for tasks like these instead of these tasks alone, and is wider.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Real

Scores = Real[np.ndarray, "_runs tasks"]


class Interval(NamedTuple):
    """A point estimate and its 95% confidence interval."""

    point: float
    low: float
    high: float


def iqm(scores: Float[np.ndarray, "..."]) -> float:
    """Interquartile mean over everything in `scores`; infinite scores count as such unless trimmed."""
    flat = np.sort(np.asarray(scores, np.float64), axis=None)
    cut = flat.size // 4
    return float(np.mean(flat[cut : flat.size - cut]))


def probability_of_improvement(scores_x: Scores, scores_y: Scores) -> float:
    """P(X > Y), averaged over tasks; larger scores are better.

    Args:
      scores_x: [runs, tasks].
      scores_y: [other runs, the same tasks].
    """
    x, y = np.asarray(scores_x)[:, None], np.asarray(scores_y)[None]
    return float(np.mean(np.mean((x > y) + 0.5 * (x == y), axis=(0, 1))))


def performance_profile(scores: Scores, thresholds: Sequence[float]) -> Float[np.ndarray, "thresholds"]:
    """Share of all runs with a score above each threshold."""
    flat = np.asarray(scores, np.float64).reshape(-1)
    return np.array([np.mean(flat > threshold) for threshold in thresholds])


def bootstrap(
    aggregate: Callable[..., float],
    *scores: Scores,
    resample_tasks: bool = True,
    num_samples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Confidence interval of `aggregate(*scores)`; the same arguments give the same numbers.

    Args:
      aggregate: of arrays shaped like `scores`.
      scores: [runs, tasks] each, the same tasks in all; runs are drawn independently for each of them.
      resample_tasks: whether to draw the tasks again too.
      num_samples: bootstrap samples.
      seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    num_tasks = scores[0].shape[1]
    samples = np.empty(num_samples)
    for i in range(num_samples):
        tasks = rng.integers(0, num_tasks, num_tasks) if resample_tasks else np.arange(num_tasks)
        resampled = [s[rng.integers(0, len(s), (len(s), num_tasks)), tasks] for s in scores]
        samples[i] = aggregate(*resampled)
    low, high = np.percentile(samples, (2.5, 97.5))
    return Interval(aggregate(*scores), float(low), float(high))
