"""Truncated evolution strategies (Metz et al. 2019, arXiv 1810.10180; antithetic as in Salimans et al. 2017,
arXiv 1703.03864).

    eps ~ N(0, sigma^2 I) for each truncation,   gradient = mean_i eps_i * mean_t(L+_{i,t} - L-_{i,t}) / (2 sigma^2)

Both members of a pair start a truncation from the same inner state, and the pair carries on with the positive member's,
as in the code published with PES. That state counts as given: how theta shaped it in earlier truncations is left out,
so this is the gradient of the smoothed loss of one truncation, biased towards what pays off soon, with less variance
than the unbiased estimators.
"""

import jax

from meta_train.estimators.base import PLAIN, EstimatorOptions, GradientEstimator, Sigma
from meta_train.estimators.pairs import Perturbation, PerturbationRule, pair_estimator
from meta_train.estimators.truncation import TruncationSchedule
from meta_train.estimators.unroll import Unroll


def es(
    unroll: Unroll,
    schedule: TruncationSchedule,
    *,
    num_pairs: int,
    truncation_length: int,
    sigma: Sigma,
    mesh: jax.sharding.Mesh,
    options: EstimatorOptions = PLAIN,
) -> GradientEstimator:
    """Builds the estimator; arguments and errors as in `meta_train.estimators.pes.pes`.

    Its `PairState` has one inner state per pair and an empty accumulator.
    """
    return pair_estimator(
        PerturbationRule(
            init=lambda zeros: (),
            advance=lambda accumulator, noise, scale, ended: Perturbation(noise, noise, scale**2, accumulator),
            carries_both=False,
        ),
        unroll,
        schedule,
        num_pairs=num_pairs,
        truncation_length=truncation_length,
        sigma=sigma,
        mesh=mesh,
        options=options,
    )
