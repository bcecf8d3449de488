"""Persistent evolution strategies (Vicol, Metz & Sohl-Dickstein 2021, arXiv 2112.13835).

For each task an antithetic pair of inner states is carried from truncation to truncation; xi sums the perturbations
since the episode began:

    eps ~ N(0, sigma^2 I),   xi <- xi + eps,   gradient = mean_i xi_i * mean_t(L+_{i,t} - L-_{i,t}) / (2 sigma^2)

xi / sigma^2 is the score of the episode's perturbations, i.e. the derivative of their log density by a shift of all of
them, which makes the estimate unbiased however short the truncations are.

Episodes end at truncation boundaries only, so xi restarts exactly where a new episode does (the published code restarts
it inside the scan, one loss off).
"""

import jax.numpy as jnp

from meta_train.estimators.pairs import Perturbation, PerturbationRule


def _advance(xi, noise, ended):
    xi = jnp.where(ended, 0, xi) + noise
    return Perturbation(eps=noise, direction=xi, accumulator=xi)


PES = PerturbationRule(init=lambda zeros: zeros, advance=_advance, carries_both=True)
"""Its accumulator is xi."""
