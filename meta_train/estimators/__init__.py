"""The meta-gradient estimators by name.

Every constructor is called alike:

    ESTIMATORS[name](unroll, schedule, num_pairs=, truncation_length=, sigma=, mesh=, options=EstimatorOptions())

`num_pairs` counts antithetic pairs, for backpropagation tasks; `sigma`, a number or a function of the meta-step, is
unused by backpropagation; `options.max_unroll_length` is needed by full backpropagation only.
"""

from typing import Protocol

import jax

from meta_train.estimators.backprop import full_backprop, truncated_backprop
from meta_train.estimators.base import EstimatorOptions, GradientEstimator, Sigma
from meta_train.estimators.es import es
from meta_train.estimators.full_es import full_es
from meta_train.estimators.nres import nres
from meta_train.estimators.pes import pes
from meta_train.estimators.truncation import TruncationSchedule
from meta_train.estimators.unroll import Unroll


class EstimatorConstructor(Protocol):
    """What the constructors have in common; `meta_train.estimators.pes.pes` says what the arguments are."""

    def __call__(
        self,
        unroll: Unroll,
        schedule: TruncationSchedule,
        *,
        num_pairs: int,
        truncation_length: int,
        sigma: Sigma,
        mesh: jax.sharding.Mesh,
        options: EstimatorOptions = ...,
    ) -> GradientEstimator: ...


ESTIMATORS: dict[str, EstimatorConstructor] = {
    "pes": pes,
    "es": es,
    "nres": nres,
    "full_es": full_es,
    "truncated_backprop": truncated_backprop,
    "full_backprop": full_backprop,
}
