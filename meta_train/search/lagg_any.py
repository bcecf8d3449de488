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

WORKERS, LOCAL_STEPS = 13, 14
"""Columns of `round_features`: log2 K / 5, log2 H / 5."""
SHARE = 5
"""The output z_5 of the controller."""


class Entry(NamedTuple):
    """One number: the weight of a feature (None: the bias) in an output, and how much of it one unit is."""

    output: int
    feature: int | None
    scale: float


ENTRIES = (
    Entry(SHARE, None, 1.0),
    Entry(SHARE, WORKERS, 1.0),
    Entry(SHARE, LOCAL_STEPS, 1.0),
)
"""How much of the step of a matrix is the orthogonal one, for K workers and H local steps. Searches over more of the
controller (16 numbers: rates, momentum and the workers' b1 too; 8: the rate per round and the average) won more on
networks, and lost much where there is no noise."""
FIRST_SHARE = 0.6
"""Where the search begins, in units of that entry: orthogonal steps for half of a step."""

LOPT = lagg_set(controller_size=0, hidden_size=0)
RECIPE = {"name": "relative_rmsprop", "learning_rate": WORKER_LEARNING_RATE, "floor": WORKER_FLOOR}
"""What the workers run: those of the anchor."""


def start() -> np.ndarray:
    """The first mean of the search, [D]."""
    x = np.zeros(len(ENTRIES))
    x[[(e.output, e.feature) for e in ENTRIES].index((SHARE, None))] = FIRST_SHARE
    return x


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
