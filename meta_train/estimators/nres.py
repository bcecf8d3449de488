"""Noise-reuse evolution strategies, NRES (Li, Harrison, Sohl-Dickstein, Smith & Metz 2023, arXiv 2304.12180), also
found as ES-Single (Vicol 2023, arXiv 2304.11153).

Like PES with one perturbation per episode instead of one per truncation:

    eps ~ N(0, sigma^2 I) when an episode begins,   gradient = mean_i eps_i * mean_t(L+_{i,t} - L-_{i,t}) / (2 sigma^2)

For a theta that stands still the estimates of an episode's truncations average to the full-unroll ES estimate of the
same perturbation, so their expectation is the gradient of the loss smoothed with one eps for the whole episode (PES
smooths with one per truncation; the two agree on losses quadratic in theta). Under the assumptions of the first paper
the variance is at most that of PES.
"""

import jax.numpy as jnp

from meta_train.estimators.pairs import Perturbation, PerturbationRule


def _advance(eps, noise, ended):
    eps = jnp.where(ended, noise, eps)
    return Perturbation(eps=eps, direction=eps, accumulator=eps)


NRES = PerturbationRule(init=lambda zeros: zeros, advance=_advance, carries_both=True)
"""Its accumulator is the episode's perturbation."""
