"""Targets: what contenders are timed against, the final training losses of tuned baselines.

A target's loss is measured on the curve's own examples and averaged over the seeds. A baseline that did not take part,
or diverged, sets none.
"""

from typing import NamedTuple

import numpy as np

from eval.results import ContenderResult, Results
from eval.scores.scores import final_loss, reach

LOCAL_SGD, DILOCO, BEST = "local_sgd", "diloco", "best_tuned"

TARGETS = {LOCAL_SGD: "Local SGD", DILOCO: "DiLoCo", BEST: "best tuned"}
"""Target -> its name in text. The first two are set by the baselines of that name, the last by whichever tuned baseline
ends with the lowest training loss."""


class Target(NamedTuple):
    """One target of a comparison.

    Attributes:
      name: of TARGETS.
      setter: the baseline.
      loss: its final training loss, the seed mean.
      rounds: at which its own seed-mean curve first had that loss.
    """

    name: str
    setter: ContenderResult
    loss: float
    rounds: int | None


def targets(results: Results) -> dict[str, Target]:
    """The targets that the baselines of a comparison set, in the order of TARGETS."""
    finite = [c for c in results.contenders if c.kind == "baseline" and np.isfinite(final_loss(c.train_loss))]
    setters = {c.name: c for c in finite if c.name in TARGETS}
    tuned = [c for c in finite if c.tuning["num_runs"]]
    if tuned:
        setters[BEST] = min(tuned, key=lambda c: final_loss(c.train_loss))
    return {name: _target(name, setters[name]) for name in TARGETS if name in setters}


def _target(name: str, setter: ContenderResult) -> Target:
    loss = final_loss(setter.train_loss)
    return Target(name, setter, loss, reach(setter.rounds, setter.train_loss, loss).rounds)
