"""The numbers of `lagg_any` that are searched: entries of a linear controller of `lagg_set`.

A candidate is a vector; each of its numbers is one entry of the controller, in units of that entry's scale. All zeros
are the anchor.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from learned_opt.algorithms.auto_diloco import WORKER_FLOOR, WORKER_LEARNING_RATE, auto_diloco, auto_diloco_workers
from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.architectures.lagg_set import BOUNDS, lagg_set
from learned_opt.base import LocalAlgorithm
from learned_opt.per_parameter.round_features import NUM_FEATURES

COSINE_WITH_MOMENTUM, AGREEMENT, IS_VECTOR, LOG_RATE, TREND, LONG_TREND, WITHIN = 1, 2, 7, 9, 10, 11, 12
WORKERS, LOCAL_STEPS, ROOT_OF_AGE = 13, 14, 16
COSINE_OF_STEPS, SHARE_IN_FORCE, SHARED_COSINE, COSINE_WITH_STEP, SHORTER_SIDE, ABSOLUTE_COSINE = 20, 21, 22, 23, 24, 25
WITHIN_MEAN, NOISE, ABOVE_LOWEST = 26, 27, 28
"""Columns of `round_features`: cos(D, m), the workers' agreement, 1 for vectors, the mean log of the rates / 3, the
loss's trends over rounds and within one; log2 K / 5, log2 H / 5, 1 / sqrt(1 + age); c, q, q c, cos(D, u'), log2 of a
matrix's shorter side / 5, |cos(D, D')|; the trend within rounds over several of them, log(1 - agreement) / 4.6, how far
the loss is above its lowest."""
OFFSET, RATE, SERVER, MOMENTUM, AVERAGE, SHARE, EVIDENCE, KAPPA, TAU, PACE = range(10)
"""Outputs of the controller: z_0 .. z_9."""


class Entry(NamedTuple):
    """One number: the weight of a feature (None: the bias) in an output, how much of it one unit is, and where the
    search begins, in units."""

    output: int
    feature: int | None
    scale: float
    start: float


ENTRIES = (
    Entry(SHARE, None, 0.7, 2.89),
    Entry(SHARE, WORKERS, 1.0, 0.28),
    Entry(SHARE, LOCAL_STEPS, 1.0, -1.07),
    Entry(SHARE, SHORTER_SIDE, 1.0, 0.46),
    Entry(EVIDENCE, None, 0.5, -1.28),
    Entry(EVIDENCE, COSINE_OF_STEPS, 1.0, 3.59),
    Entry(EVIDENCE, COSINE_WITH_STEP, 1.0, 0.55),
    Entry(EVIDENCE, COSINE_WITH_MOMENTUM, 1.0, -1.05),
    Entry(EVIDENCE, AGREEMENT, 0.5, 1.06),
    Entry(EVIDENCE, SHORTER_SIDE, 0.5, 0.14),
    Entry(EVIDENCE, LONG_TREND, 0.5, 0.49),
    Entry(EVIDENCE, WORKERS, 0.5, -0.23),
    Entry(OFFSET, None, 0.02, -0.19),
    Entry(OFFSET, AGREEMENT, 0.04, 0.88),
    Entry(OFFSET, TREND, 0.04, 0.06),
    Entry(OFFSET, LONG_TREND, 0.04, 1.17),
    Entry(OFFSET, SHARE_IN_FORCE, 0.04, -0.92),
    Entry(OFFSET, SHARED_COSINE, 0.08, 2.20),
    Entry(KAPPA, None, 0.5, -1.10),
    Entry(KAPPA, ROOT_OF_AGE, 1.0, -0.43),
    Entry(KAPPA, SHARE_IN_FORCE, 0.5, 0.64),
    Entry(KAPPA, LONG_TREND, 0.5, 0.16),
    Entry(TAU, None, 0.2, 1.05),
    Entry(TAU, SHARE_IN_FORCE, 0.2, 0.13),
    Entry(TAU, LOCAL_STEPS, 0.3, 0.04),
    Entry(TAU, LONG_TREND, 0.2, 1.58),
    Entry(MOMENTUM, None, 0.5, 1.32),
    Entry(MOMENTUM, WORKERS, 1.0, -0.80),
    Entry(MOMENTUM, SHARE_IN_FORCE, 0.5, 1.08),
    Entry(MOMENTUM, LONG_TREND, 0.5, 0.46),
    Entry(SERVER, None, 0.3, 0.18),
    Entry(SERVER, SHARE_IN_FORCE, 0.3, 2.25),
    Entry(SERVER, LONG_TREND, 0.3, -0.09),
    Entry(AVERAGE, None, 0.5, -0.66),
    Entry(RATE, IS_VECTOR, 0.5, 2.21),
    Entry(RATE, LONG_TREND, 0.3, -0.33),
    Entry(SHARE, LONG_TREND, 0.5, -0.15),
    Entry(RATE, LOCAL_STEPS, 0.3, -0.54),
    Entry(KAPPA, AGREEMENT, 0.5, 0.91),
    Entry(TAU, AGREEMENT, 0.2, 1.54),
    Entry(MOMENTUM, AGREEMENT, 0.5, 0.49),
    Entry(AVERAGE, LONG_TREND, 0.5, -0.07),
    Entry(SHARE, AGREEMENT, 1.0, -2.38),
    Entry(SHARE, ABSOLUTE_COSINE, 0.7, 0.26),
    Entry(SHARE, WITHIN, 0.4, 0.00),
    Entry(EVIDENCE, ABSOLUTE_COSINE, 0.5, 0.74),
    Entry(MOMENTUM, ABSOLUTE_COSINE, 0.5, -1.59),
    Entry(MOMENTUM, WITHIN, 0.2, -0.50),
    Entry(KAPPA, ABSOLUTE_COSINE, 0.4, -0.04),
    Entry(TAU, ABSOLUTE_COSINE, 0.2, 0.42),
    Entry(SERVER, ABSOLUTE_COSINE, 0.3, -0.27),
    Entry(SERVER, AGREEMENT, 0.4, -0.11),
    Entry(RATE, ABSOLUTE_COSINE, 0.3, 0.24),
    Entry(RATE, AGREEMENT, 0.4, -0.13),
    Entry(OFFSET, ABSOLUTE_COSINE, 0.1, -0.23),
    Entry(TAU, LOG_RATE, 0.15, 0.34),
    Entry(KAPPA, LOG_RATE, 0.3, 0.62),
    Entry(RATE, WITHIN_MEAN, 0.4, -1.00),
    Entry(KAPPA, NOISE, 1.0, -1.20),
    Entry(SERVER, NOISE, 0.3, 1.50),
    Entry(PACE, None, 0.4, 1.00),
    Entry(RATE, ABOVE_LOWEST, 0.3, -0.50),
    Entry(TAU, ABOVE_LOWEST, 0.2, 1.50),
    Entry(MOMENTUM, ABOVE_LOWEST, 0.5, 0.60),
)
"""How much of the step of a matrix is the orthogonal one, for K workers and H local steps; what speaks against it: that
successive orthogonal steps do not agree, that less of the last one should have been orthogonal (the derivative of the
next loss with respect to the share, to first order), what the workers say, and a loss that falls steadily; offsets of
the rates; how fast the rate follows the rounds and the cosine at which it rests, where steps are orthogonal and
elsewhere; the momentum for K workers, the server's rate, the average, and the rates of vectors. The trend of the loss
over 7 to 25 rounds is in most of them: it is far below 0 for long only where there is no noise, where the workers
agree, too. How decided the rounds are, |cos(D, D')|, and how far the workers agree, say the same sooner: then momentum
may be long, and fewer steps should be orthogonal. Workers that end a round higher than they began it say that their
rates are too high; where there is no noise, the rate can follow the rounds faster than by the rule; a loss far above
its lowest is a training that has broken away. The starts are where the last search of the first 57 had ended; the last
seven, and the biases of KAPPA and SERVER with them, were set by hand."""

LOPT = lagg_set(controller_size=0, hidden_size=0)
RECIPE = {"name": "relative_rmsprop", "learning_rate": WORKER_LEARNING_RATE, "floor": WORKER_FLOOR}
"""What the workers run: those of the anchor."""


def start() -> np.ndarray:
    """The first mean of the search, [D]."""
    return np.asarray([entry.start for entry in ENTRIES])


def theta_of(candidate: Any) -> dict[str, Any]:
    """The theta of a candidate [D]."""
    weights, bias = jnp.zeros((NUM_FEATURES, len(BOUNDS))), jnp.zeros(len(BOUNDS))
    for i, entry in enumerate(ENTRIES):
        value = candidate[i] * entry.scale
        if entry.feature is None:
            bias = bias.at[entry.output].set(value)
        else:
            weights = weights.at[entry.feature, entry.output].set(value)
    return {"controller": {"w1": weights, "b1": bias}}


def algorithm(candidate: Any) -> LocalAlgorithm:
    """The algorithm of a candidate."""
    return local_sgd(auto_diloco_workers(), LOPT.transform(theta_of(candidate)))


def anchor(candidate: Any) -> LocalAlgorithm:
    """What a candidate is compared with: the hand-made rule, whatever the candidate."""
    del candidate
    return local_sgd(auto_diloco_workers(), auto_diloco())
