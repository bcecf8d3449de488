"""A published claim and how it is measured: a ratio for every seed, above 1 where it holds.

Everyone's setting is tuned in the cell, with an equal budget. The seeds of a cell share initial parameters and batches,
so ratios are paired.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from eval.protocol import EvalProtocol
from eval.results import ContenderResult, Results

Ratio = Callable[[Mapping[str, Results]], Float[np.ndarray, "seeds"]]
"""Results by cell -> ratio of every seed; 0 where the own run diverged."""

Spent = Callable[[ContenderResult, EvalProtocol], Float[np.ndarray, "seeds points"]]
"""As those of eval/scores/spending.py."""


HOLDS, MISSES, UNCLEAR = "holds", "does not hold", "not clear"


class Claim(NamedTuple):
    """One claim.

    Attributes:
      statement: what the paper says.
      paper: author, year, arXiv.
      measured: what the ratio is of.
      cells: whose results it reads.
      ratio: of them.
      least: what the ratio must exceed; below 1 for a claim that nothing is lost.
    """

    statement: str
    paper: str
    measured: str
    cells: tuple[str, ...]
    ratio: Ratio
    least: float = 1.0


class Outcome(NamedTuple):
    """Geometric mean over seeds, extremes, and what is to be said: holds, not clear, or does not hold."""

    mean: float
    low: float
    high: float
    verdict: str


def outcome(claim: Claim, ratios: Float[np.ndarray, "seeds"]) -> Outcome:
    """A claim holds if every seed says so, and does not if the mean does not."""
    with np.errstate(divide="ignore"):
        mean = float(np.exp(np.mean(np.log(ratios))))
    low, high = float(ratios.min()), float(ratios.max())
    if not mean > claim.least:
        return Outcome(mean, low, high, MISSES)
    return Outcome(mean, low, high, HOLDS if low > claim.least else UNCLEAR)


def final_loss(cell: str, own: str, rival: str, split: str = "train", rival_cell: str | None = None) -> Ratio:
    """Final loss of the rival, in the same cell unless another is named, over one's own, on all of a split."""

    def ratio(cells):
        theirs = contender(cells[rival_cell or cell], rival)
        return over(theirs.final[split]["loss"], contender(cells[cell], own).final[split]["loss"])

    return ratio


def final_minibatch_loss(cell: str, own: str, rival: str) -> Ratio:
    """Loss of the last round's minibatches of the rival over one's own."""

    def ratio(cells):
        return over(*(contender(cells[cell], name).minibatch_loss[:, -1] for name in (rival, own)))

    return ratio


def at_equal(spent: Spent, cell: str, own: str, rival: str) -> Ratio:
    """Training loss of the rival over one's own when both had spent what the cheaper of the two spent in all.

    Curves are steps: what was measured last counts; before the first point, that one.
    """

    def ratio(cells):
        results = cells[cell]
        both = [contender(results, name) for name in (rival, own)]
        total = np.min([spent(c, results.protocol)[:, -1] for c in both], axis=0)
        return over(*(loss_at(spent(c, results.protocol), c.train_loss, total) for c in both))

    return ratio


def grows(small: Ratio, large: Ratio) -> Ratio:
    """One ratio over another: whether an advantage grows from a cell to another."""
    return lambda cells: over(large(cells), small(cells))


def loss_at(
    spent: Float[np.ndarray, "seeds points"],
    losses: Float[np.ndarray, "seeds points"],
    total: Float[np.ndarray, "seeds"],
) -> Float[np.ndarray, "seeds"]:
    """The loss of every seed at the last point that costs no more than `total`, a rounding aside."""
    points = np.sum(spent <= total[:, None] * (1 + 1e-9), axis=1)
    return np.take_along_axis(losses, np.maximum(points - 1, 0)[:, None], axis=1)[:, 0]


def over(rival: np.ndarray, own: np.ndarray) -> Float[np.ndarray, "seeds"]:
    """rival / own; 0 where one's own is not finite, whatever the rival's."""
    rival, own = np.asarray(rival, np.float64), np.asarray(own, np.float64)
    finite = np.isfinite(own)
    return np.where(finite, rival / np.where(finite, own, 1.0), 0.0)


def contender(results: Results, name: str) -> ContenderResult:
    """The result of a contender."""
    return next(c for c in results.contenders if c.name == name)
