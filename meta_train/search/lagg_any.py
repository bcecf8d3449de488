"""The numbers of `lagg_any` that are searched: a linear controller of `lagg_set` and the workers' momentum.

A candidate is a vector. Each of its numbers but the last is one entry of the controller, in units of that entry's
scale; the last is the workers' b1. All zeros but b1 is the anchor with that b1.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from learned_opt.algorithms.auto_diloco import WORKER_FLOOR, WORKER_LEARNING_RATE, auto_diloco, auto_diloco_workers
from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.architectures.lagg_set import BOUNDS, lagg_set
from learned_opt.base import LocalAlgorithm
from learned_opt.optimizers import relative_adam
from learned_opt.per_parameter.round_features import NUM_FEATURES

COSINE, WORKERS, LOCAL_STEPS = 8, 13, 14
"""Columns of `round_features`: the cosine of all tensors, log2 K / 5, log2 H / 5."""
RATE_PER_ROUND, RATE, SERVER_RATE, MOMENTUM, AVERAGE, SHARE = range(len(BOUNDS))
"""Outputs of the controller."""


class Entry(NamedTuple):
    """One number: the weight of a feature (None: the bias) in an output, and how much of it one unit is."""

    output: int
    feature: int | None
    scale: float


ENTRIES = (
    Entry(RATE_PER_ROUND, None, 0.15),
    Entry(RATE, None, 0.6),
    Entry(SERVER_RATE, None, 0.6),
    Entry(MOMENTUM, None, 0.6),
    Entry(AVERAGE, None, 0.6),
    Entry(SHARE, None, 0.8),
    Entry(RATE_PER_ROUND, COSINE, 0.15),
    Entry(RATE_PER_ROUND, WORKERS, 0.15),
    Entry(RATE_PER_ROUND, LOCAL_STEPS, 0.15),
    Entry(RATE, WORKERS, 0.3),
    Entry(RATE, LOCAL_STEPS, 0.3),
    Entry(MOMENTUM, WORKERS, 0.6),
    Entry(AVERAGE, LOCAL_STEPS, 0.6),
    Entry(SHARE, WORKERS, 0.8),
    Entry(SHARE, LOCAL_STEPS, 0.8),
)
FIRST_B1, B1_PER_UNIT, LARGEST_B1 = 0.4, 0.25, 0.9
FIRST_SHARE = 0.6
"""Where the search begins, in units of that entry: orthogonal steps for about half of a step."""

LOPT = lagg_set(controller_size=0, hidden_size=0)


def start() -> np.ndarray:
    """The first mean of the search, [D]."""
    x = np.zeros(len(ENTRIES) + 1)
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


def worker_momentum(candidate: Any) -> Any:
    """b1 of the workers."""
    return jnp.clip(FIRST_B1 + B1_PER_UNIT * candidate[-1], 0, LARGEST_B1)


def recipe(candidate: Any) -> dict[str, Any]:
    """What the workers run, for a checkpoint."""
    b1 = round(float(worker_momentum(candidate)), 3)
    return {"name": "relative_adam", "learning_rate": WORKER_LEARNING_RATE, "b1": b1, "floor": WORKER_FLOOR}


def algorithm(candidate: Any) -> LocalAlgorithm:
    """The algorithm of a candidate."""
    workers = relative_adam(WORKER_LEARNING_RATE, b1=worker_momentum(candidate), floor=WORKER_FLOOR)
    return local_sgd(workers, LOPT.transform(theta_of(candidate)))


def anchor(candidate: Any) -> LocalAlgorithm:
    """What a candidate is compared with: the hand-made rule, whatever the candidate."""
    del candidate
    return local_sgd(auto_diloco_workers(), auto_diloco())
