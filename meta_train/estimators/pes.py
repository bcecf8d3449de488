"""Persistent evolution strategies (Vicol, Metz & Sohl-Dickstein 2021, arXiv 2112.13835).

For each task an antithetic pair of inner states is carried from truncation to truncation; xi sums the perturbations
since the episode began:

    eps ~ N(0, sigma^2 I),   xi <- xi + eps,   gradient = mean_i xi_i * mean_t(L+_{i,t} - L-_{i,t}) / (2 sigma^2)

xi / sigma^2 is the score of the episode's perturbations, i.e. the derivative of their log density by a shift of all of
them. Where sigma changes over meta-steps each one therefore enters with the sigma it was drawn with, and the estimate
stays unbiased across the change:

    xi <- xi + eps / sigma^2,   gradient = mean_i xi_i * mean_t(L+_{i,t} - L-_{i,t}) / 2

Episodes end at truncation boundaries only, so xi restarts exactly where a new episode does (the published code restarts
it inside the scan, one loss off).
"""

import jax
import jax.numpy as jnp

from meta_train.estimators.base import PLAIN, EstimatorOptions, GradientEstimator, Sigma
from meta_train.estimators.pairs import Perturbation, PerturbationRule, pair_estimator
from meta_train.estimators.truncation import TruncationSchedule
from meta_train.estimators.unroll import Unroll


def pes(
    unroll: Unroll,
    schedule: TruncationSchedule,
    *,
    num_pairs: int,
    truncation_length: int,
    sigma: Sigma,
    mesh: jax.sharding.Mesh,
    options: EstimatorOptions = PLAIN,
) -> GradientEstimator:
    """Builds the estimator; the accumulator of its `PairState` is xi, [pairs, n].

    Args:
      unroll: truncated inner training.
      schedule: episode lengths, rounds.
      num_pairs: antithetic pairs of particles, `options.pairs_per_task` on each task.
      truncation_length: rounds per estimate, that of `unroll`.
      sigma: standard deviation of the perturbation, or a function of the meta-step that gives it.
      mesh: devices the pairs are spread over, from `make_particle_mesh`.
      options: see there.

    Raises:
      ValueError: a sigma that is not positive, or tasks that are not all given the same number of pairs.
    """

    def advance(xi, noise, scale, ended):
        # A constant sigma is divided out of the sum once, at the end.
        xi = jnp.where(ended, 0, xi) + (noise / scale**2 if callable(sigma) else noise)
        return Perturbation(noise, xi, 1 if callable(sigma) else scale**2, xi)

    return pair_estimator(
        PerturbationRule(init=lambda zeros: zeros, advance=advance, carries_both=True),
        unroll,
        schedule,
        num_pairs=num_pairs,
        truncation_length=truncation_length,
        sigma=sigma,
        mesh=mesh,
        options=options,
    )
