"""Noise-reuse evolution strategies, NRES (Li, Harrison, Sohl-Dickstein, Smith & Metz 2023, arXiv 2304.12180), also
found as ES-Single (Vicol 2023, arXiv 2304.11153).

Like PES with one perturbation per episode instead of one per truncation:

    eps ~ N(0, sigma^2 I) when an episode begins,   gradient = mean_i eps_i * mean_t(L+_{i,t} - L-_{i,t}) / (2 sigma^2)

For a theta that stands still the estimates of an episode's truncations average to the full-unroll ES estimate of the
same perturbation, so their expectation is the gradient of the loss smoothed with one eps for the whole episode (PES
smooths with one per truncation; the two agree on losses quadratic in theta). Under the assumptions of the first paper
the variance is at most that of PES. Where sigma changes over meta-steps, an episode keeps the one it began with.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from meta_train.estimators.base import PLAIN, EstimatorOptions, GradientEstimator, Sigma
from meta_train.estimators.pairs import Perturbation, PerturbationRule, pair_estimator
from meta_train.estimators.truncation import TruncationSchedule
from meta_train.estimators.unroll import Unroll


class EpisodeNoise(NamedTuple):
    """Attributes:
    eps: perturbation of the episode.
    sigma: standard deviation it was drawn with.
    """

    eps: Float[Array, "*pairs n"]
    sigma: Float[Array, "*pairs"]


def nres(
    unroll: Unroll,
    schedule: TruncationSchedule,
    *,
    num_pairs: int,
    truncation_length: int,
    sigma: Sigma,
    mesh: jax.sharding.Mesh,
    options: EstimatorOptions = PLAIN,
) -> GradientEstimator:
    """Builds the estimator; the accumulator of its `PairState` is an `EpisodeNoise`. Arguments and errors as in
    `meta_train.estimators.pes.pes`."""

    def advance(episode, noise, scale, ended):
        eps = jnp.where(ended, noise, episode.eps)
        drawn_with = jnp.where(ended, scale, episode.sigma)
        return Perturbation(eps, eps, jnp.square(drawn_with), EpisodeNoise(eps, drawn_with))

    return pair_estimator(
        PerturbationRule(init=lambda zeros: EpisodeNoise(zeros, jnp.float32(0)), advance=advance, carries_both=True),
        unroll,
        schedule,
        num_pairs=num_pairs,
        truncation_length=truncation_length,
        sigma=sigma,
        mesh=mesh,
        options=options,
    )
