"""Numbers read off training curves: rounds to a loss, speed-up and the spread over seeds."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class Band(NamedTuple):
    """Mean and extremes over seeds, each [points]."""

    mean: Float[np.ndarray, "points"]
    low: Float[np.ndarray, "points"]
    high: Float[np.ndarray, "points"]


class Reach(NamedTuple):
    """When a contender reached a target.

    Attributes:
      rounds: first measured round at which the seed-mean curve was at or below the target; None if
        never.
      per_seed: the same for every seed's own curve.
    """

    rounds: int | None
    per_seed: tuple[int | None, ...]


def rounds_to_reach(
    rounds: Int[np.ndarray, "points"], losses: Float[np.ndarray, "points"], target: float
) -> int | None:
    """The first of `rounds` after which the loss was at or below the target; None if there is
    none."""
    reached = np.flatnonzero(np.asarray(losses) <= target)
    return int(np.asarray(rounds)[reached[0]]) if reached.size else None


def reach(rounds: Int[np.ndarray, "points"], curves: Float[np.ndarray, "seeds points"], target: float) -> Reach:
    """`rounds_to_reach` of the mean curve and of every seed's.

    A curve that ends in divergence counts as never there, even if it passed the target on its way; one diverged seed
    makes the mean such a curve.
    """

    def lasting(curve):
        return rounds_to_reach(rounds, curve, target) if np.isfinite(curve[-1]) else None

    return Reach(lasting(_seed_mean(curves)), tuple(lasting(curve) for curve in curves))


def final_loss(curves: Float[np.ndarray, "seeds points"]) -> float:
    """The seed mean of the last point of the curves."""
    return float(_seed_mean(curves)[-1])


def speed_up(baseline_rounds: int | None, rounds: int | None) -> float | None:
    """Rounds the baseline itself first needed for the target over rounds of a contender; None if
    either never got there.

    Both are read off their curves in the same way, so a copy of the baseline scores exactly 1.
    """
    if baseline_rounds is None or rounds is None:
        return None
    return baseline_rounds / rounds


def seed_band(curves: Float[np.ndarray, "seeds points"]) -> Band:
    """Mean, minimum and maximum over seeds."""
    return Band(_seed_mean(curves), np.min(curves, axis=0), np.max(curves, axis=0))


def num_diverged(losses: Float[np.ndarray, "seeds"]) -> int:
    """Seeds whose final loss is not finite."""
    return int(np.sum(~np.isfinite(losses)))


def _seed_mean(curves: np.ndarray) -> np.ndarray:
    """In double precision: the sum of two float32 that nearly diverged is infinite."""
    return np.asarray(np.mean(curves, axis=0, dtype=np.float64))
