"""Truncated evolution strategies (Metz et al. 2019, arXiv 1810.10180; antithetic as in Salimans et al. 2017,
arXiv 1703.03864).

    eps ~ N(0, sigma^2 I) for each truncation,   gradient = mean_i eps_i * mean_t(L+_{i,t} - L-_{i,t}) / (2 sigma^2)

Both signs of a pair start a truncation from the same inner state, and the pair carries on with the positive one's, as
in the code published with PES (the negative one's has the same distribution). That state counts as given: how theta
shaped it in earlier truncations is left out, so this is the gradient of the smoothed loss of one truncation, biased
towards what pays off soon, with less variance than the unbiased estimators.
"""

from meta_train.estimators.pairs import Perturbation, PerturbationRule


def _advance(nothing, noise, ended):
    del ended
    return Perturbation(eps=noise, direction=noise, accumulator=nothing)


ES = PerturbationRule(init=lambda zeros: (), advance=_advance, carries_both=False)
"""Its accumulator is empty."""
