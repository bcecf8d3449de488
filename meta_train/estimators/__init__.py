"""The meta-gradient estimators by name: functions that return an `Estimator`.

pes                  unbiased by truncations, one perturbation a truncation
nres                 unbiased by truncations, one perturbation an episode
es                   truncated: biased towards what pays off soon, less variance
full_es              evolution strategies on whole episodes
truncated_backprop   backpropagation through a truncation
full_backprop        backpropagation through whole episodes
"""

from collections.abc import Callable

from meta_train.estimators.backprop import FULL_BACKPROP, TRUNCATED_BACKPROP
from meta_train.estimators.base import Estimator
from meta_train.estimators.es import ES
from meta_train.estimators.full_es import FULL_ES
from meta_train.estimators.nres import NRES
from meta_train.estimators.pairs import by_truncation
from meta_train.estimators.pes import PES

ESTIMATORS: dict[str, Callable[..., Estimator]] = {
    "pes": lambda: by_truncation(PES),
    "es": lambda: by_truncation(ES),
    "nres": lambda: by_truncation(NRES),
    "full_es": lambda: FULL_ES,
    "truncated_backprop": lambda: TRUNCATED_BACKPROP,
    "full_backprop": lambda: FULL_BACKPROP,
}
