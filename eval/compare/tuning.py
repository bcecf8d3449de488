"""Chooses hyper-parameters by the loss on the inner-validation split after the last round; nothing
else is read.

A setting's score is its mean over the tuning seeds; a run that diverged scores inf, and stays in
the table.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from eval.compare.contenders import Contender
from eval.compare.grids import Setting, grow, settings
from eval.compare.inner_train import Runs
from eval.compare.split_metrics import EvaluateFn
from eval.compare.starts import Starts


class Trial(NamedTuple):
    """One setting and its score: the mean inner-validation loss, inf if a run diverged."""

    hparams: Setting
    loss: float


class Tuning(NamedTuple):
    """What tuning found and what it cost.

    Attributes:
      best: the setting with the lowest loss, the first of equals.
      trials: all settings in the order they were run.
      num_runs: training runs used, settings times tuning seeds.
      extensions: how often the grid grew.
      interior: whether the best setting has all its neighbours in the table; where not, tuning
        stopped at the allowance.
    """

    best: Setting
    trials: tuple[Trial, ...]
    num_runs: int
    extensions: int
    interior: bool


NOT_TUNED = Tuning({}, (), 0, 0, True)


def tune(
    contender: Contender,
    train: Callable[..., Runs],
    starts: Starts,
    valid_metrics: EvaluateFn,
    max_extensions: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Tuning:
    """Runs the contender's grid and its extensions.

    Args:
      contender: an empty grid costs nothing.
      train: of the contender's `Trainer`.
      starts: of the stage TUNING, one per tuning seed.
      valid_metrics: from `make_evaluator(..., "inner_valid")`.
      max_extensions: how often the grid may grow.
      progress: called with runs done and runs planned.
    """
    if not contender.grid:
        return NOT_TUNED
    grid, pending = contender.grid, settings(contender.grid)
    num_seeds = len(starts.batch_keys)
    scores: dict[tuple[float, ...], Trial] = {}
    extensions = 0
    while True:
        done = len(scores) * num_seeds
        runs = train(pending, starts, lambda new, total, done=done: progress(done + new, done + total))
        losses = valid_metrics(runs.params, starts.task_config)["loss"]
        losses = losses.reshape(len(pending), num_seeds)
        for hparams, loss in zip(pending, np.asarray(losses, np.float64).mean(axis=1), strict=True):
            scores[tuple(hparams.values())] = Trial(hparams, float(loss))
        best = min(scores.values(), key=lambda trial: trial.loss)
        grid, near = grow(grid, best.hparams)
        pending = [hparams for hparams in near if tuple(hparams.values()) not in scores]
        if not pending or extensions == max_extensions:
            break
        extensions += 1
    return Tuning(
        best=best.hparams,
        trials=tuple(scores.values()),
        num_runs=len(scores) * num_seeds,
        extensions=extensions,
        interior=not pending,
    )


def tuning_record(tuning: Tuning) -> dict[str, Any]:
    """The tuning as JSON values; a diverged setting has loss null."""
    trials = [{"hparams": t.hparams, "loss": t.loss if np.isfinite(t.loss) else None} for t in tuning.trials]
    return {
        "num_runs": tuning.num_runs,
        "extensions": tuning.extensions,
        "interior": tuning.interior,
        "trials": trials,
    }
