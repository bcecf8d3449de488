"""Against whom: speed-ups and test losses of one contender against a rival, over the cells in which both took part."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from eval.results import ContenderResult, Results, named
from eval.scores.measures import speed_ups
from eval.scores.scores import final_loss, reach, speed_up
from eval.scores.targets import targets

RivalOf = Callable[[Results], ContenderResult | None]
"""Who is the rival in a comparison; None where there is none."""


def target_setter(target: str) -> RivalOf:
    """The baseline that sets a target."""

    def rival(results: Results) -> ContenderResult | None:
        found = targets(results).get(target)
        return None if found is None else found.setter

    return rival


def own_anchor(name: str) -> RivalOf:
    """The anchor of a learned optimizer: the hand-made step that it corrects, with the same workers."""
    return lambda results: next(
        (c for c in results.contenders if c.kind == "anchor" and name in c.details.get("anchor_of", ())), None
    )


def best_validated(results: Results) -> ContenderResult | None:
    """The tuned baseline that its user would have chosen: the one with the lowest inner-validation loss."""
    tuned = [c for c in results.contenders if c.kind == "baseline" and c.tuning["num_runs"]]
    finite = [c for c in tuned if np.isfinite(c.final["inner_valid"]["loss"]).all()]
    return min(finite, key=lambda c: float(np.mean(c.final["inner_valid"]["loss"], dtype=np.float64)), default=None)


def speed_up_scores(cells: Sequence[Results], name: str, rival: RivalOf) -> Float[np.ndarray, "seeds cells"]:
    """`speed_ups` of one contender over its rival in all cells that have both; cells where the rival diverged are left
    out.

    Raises:
      ValueError: the cells have different numbers of seeds.
    """
    columns = []
    for results in cells:
        own, other = named(results, name), rival(results)
        if own is not None and other is not None:
            column = speed_ups(own, other)
            if np.isfinite(column).all():
                columns.append(column)
    if len({len(column) for column in columns}) > 1:
        raise ValueError("the cells have different numbers of seeds; report them one by one")
    return np.stack(columns, axis=1) if columns else np.zeros((0, 0))


def mean_speed_up(own: ContenderResult, rival: ContenderResult) -> float | None:
    """Rounds to the rival's final training loss, the rival's own over the contender's, on the seed-mean curves; None
    if the contender never had it or the rival diverged."""
    target = final_loss(rival.train_loss)
    if not np.isfinite(target):
        return None
    rounds = (reach(c.rounds, c.train_loss, target).rounds for c in (rival, own))
    return speed_up(*rounds)


def final_test_losses(
    cells: Sequence[Results], name: str, rival: RivalOf
) -> tuple[Float[np.ndarray, "seeds cells"], Float[np.ndarray, "seeds cells"]]:
    """(a contender's final test losses, its rival's) in all cells that have both, where the rival did not diverge."""
    own, theirs = [], []
    for results in cells:
        mine, other = named(results, name), rival(results)
        if mine is not None and other is not None and np.isfinite(other.final["test"]["loss"]).all():
            own.append(mine.final["test"]["loss"].astype(np.float64))
            theirs.append(other.final["test"]["loss"].astype(np.float64))
    if not own:
        return np.zeros((0, 0)), np.zeros((0, 0))
    return np.stack(own, axis=1), np.stack(theirs, axis=1)


def loss_ratios(own: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """The rival's loss over the contender's, 0 for a diverged run; cells with a loss that is not positive are left
    out."""
    if not own.size:
        return own
    positive = (own > 0).all(axis=0) & (theirs > 0).all(axis=0)
    return theirs[:, positive] / own[:, positive]
