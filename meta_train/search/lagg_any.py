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
"""Columns of `round_features`: cos(D, m), the workers' agreement, 1 for vectors, the mean log of the rates / 3, the
loss's trends over rounds and within one; log2 K / 5, log2 H / 5, 1 / sqrt(1 + age); c, q, q c, cos(D, u'), log2 of a
matrix's shorter side / 5, |cos(D, D')|."""
OFFSET, RATE, SERVER, MOMENTUM, AVERAGE, SHARE, EVIDENCE, KAPPA, TAU = range(9)
"""Outputs of the controller: z_0 .. z_8."""


class Entry(NamedTuple):
    """One number: the weight of a feature (None: the bias) in an output, how much of it one unit is, and where the
    search begins, in units."""

    output: int
    feature: int | None
    scale: float
    start: float


ENTRIES = (
    Entry(SHARE, None, 0.7, 3.10),
    Entry(SHARE, WORKERS, 1.0, 0.87),
    Entry(SHARE, LOCAL_STEPS, 1.0, -1.33),
    Entry(SHARE, SHORTER_SIDE, 1.0, 0.35),
    Entry(EVIDENCE, None, 0.5, -1.47),
    Entry(EVIDENCE, COSINE_OF_STEPS, 1.0, 3.72),
    Entry(EVIDENCE, COSINE_WITH_STEP, 1.0, -0.22),
    Entry(EVIDENCE, COSINE_WITH_MOMENTUM, 1.0, -1.60),
    Entry(EVIDENCE, AGREEMENT, 0.5, 1.20),
    Entry(EVIDENCE, SHORTER_SIDE, 0.5, 0.41),
    Entry(EVIDENCE, LONG_TREND, 0.5, 0.40),
    Entry(EVIDENCE, WORKERS, 0.5, -0.12),
    Entry(OFFSET, None, 0.02, -0.48),
    Entry(OFFSET, AGREEMENT, 0.04, 1.08),
    Entry(OFFSET, TREND, 0.04, 0.17),
    Entry(OFFSET, LONG_TREND, 0.04, 1.23),
    Entry(OFFSET, SHARE_IN_FORCE, 0.04, -0.70),
    Entry(OFFSET, SHARED_COSINE, 0.08, 2.57),
    Entry(KAPPA, None, 0.5, -0.86),
    Entry(KAPPA, ROOT_OF_AGE, 1.0, -0.21),
    Entry(KAPPA, SHARE_IN_FORCE, 0.5, 0.61),
    Entry(KAPPA, LONG_TREND, 0.5, -0.06),
    Entry(TAU, None, 0.2, 1.18),
    Entry(TAU, SHARE_IN_FORCE, 0.2, 0.09),
    Entry(TAU, LOCAL_STEPS, 0.3, 0.31),
    Entry(TAU, LONG_TREND, 0.2, 1.05),
    Entry(MOMENTUM, None, 0.5, 1.13),
    Entry(MOMENTUM, WORKERS, 1.0, -0.95),
    Entry(MOMENTUM, SHARE_IN_FORCE, 0.5, 1.01),
    Entry(MOMENTUM, LONG_TREND, 0.5, 0.35),
    Entry(SERVER, None, 0.3, -0.02),
    Entry(SERVER, SHARE_IN_FORCE, 0.3, 1.98),
    Entry(SERVER, LONG_TREND, 0.3, 0.02),
    Entry(AVERAGE, None, 0.5, -0.37),
    Entry(RATE, IS_VECTOR, 0.5, 2.34),
    Entry(RATE, LONG_TREND, 0.3, -0.27),
    Entry(SHARE, LONG_TREND, 0.5, 0.01),
    Entry(RATE, LOCAL_STEPS, 0.3, -0.24),
    Entry(KAPPA, AGREEMENT, 0.5, 0.19),
    Entry(TAU, AGREEMENT, 0.2, 1.38),
    Entry(MOMENTUM, AGREEMENT, 0.5, -0.01),
    Entry(AVERAGE, LONG_TREND, 0.5, 0.33),
    Entry(SHARE, AGREEMENT, 1.0, -2.00),
    Entry(SHARE, ABSOLUTE_COSINE, 0.7, 0.00),
    Entry(SHARE, WITHIN, 0.4, 0.20),
    Entry(EVIDENCE, ABSOLUTE_COSINE, 0.5, 0.60),
    Entry(MOMENTUM, ABSOLUTE_COSINE, 0.5, -1.00),
    Entry(MOMENTUM, WITHIN, 0.2, -0.20),
    Entry(KAPPA, ABSOLUTE_COSINE, 0.4, 0.20),
    Entry(TAU, ABSOLUTE_COSINE, 0.2, 0.20),
    Entry(SERVER, ABSOLUTE_COSINE, 0.3, -0.50),
    Entry(SERVER, AGREEMENT, 0.4, 0.00),
    Entry(RATE, ABSOLUTE_COSINE, 0.3, 0.00),
    Entry(RATE, AGREEMENT, 0.4, -0.20),
    Entry(OFFSET, ABSOLUTE_COSINE, 0.1, 0.00),
    Entry(TAU, LOG_RATE, 0.15, 0.30),
    Entry(KAPPA, LOG_RATE, 0.3, 0.00),
)
"""How much of the step of a matrix is the orthogonal one, for K workers and H local steps; what speaks against it: that
successive orthogonal steps do not agree, that less of the last one should have been orthogonal (the derivative of the
next loss with respect to the share, to first order), what the workers say, and a loss that falls steadily; offsets of
the rates; how fast the rate follows the rounds and the cosine at which it rests, where steps are orthogonal and
elsewhere; the momentum for K workers, the server's rate, the average, and the rates of vectors. The trend of the loss
over 7 to 25 rounds is in most of them: it is far below 0 for long only where there is no noise, where the workers
agree, too. How decided the rounds are, |cos(D, D')|, and how far the workers agree, say the same sooner: then momentum
may be long, and fewer steps should be orthogonal. The starts are where the searches before had ended; those of the last
fifteen and of the share's bias were set by hand."""

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
