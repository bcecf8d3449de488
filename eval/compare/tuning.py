"""Chooses hyper-parameters by the loss on the inner-validation split after the last round; nothing else is read.

A setting's score is its mean over the tuning seeds; a run that diverged scores inf, and stays in the table. Settings
are trained a few at a time and kept as soon as they are scored, so an interruption costs the few that are running.
"""

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from eval.compare.contenders import Contender
from eval.compare.grids import Setting, grow, settings
from eval.compare.initial_states import InitialStates
from eval.compare.runner import Runner
from eval.compare.split_metrics import Evaluator
from eval.compare.trial_store import NOT_STORED, Trial, TrialStore, setting_key, trial_record


class Tuning(NamedTuple):
    """What tuning found and what it cost.

    Attributes:
      best: the setting with the lowest loss, the first of equals.
      trials: all settings in the order they were run.
      num_runs: training runs used, settings times tuning seeds.
      seconds: that training and scoring took, those before an interruption included.
      extensions: how often the grid grew.
      interior: whether the best setting has all its neighbours in the table; where not, tuning
        stopped at the allowance.
    """

    best: Setting
    trials: tuple[Trial, ...]
    num_runs: int
    seconds: float
    extensions: int
    interior: bool


def tune(
    contender: Contender,
    runner: Runner,
    starts: InitialStates,
    valid: Evaluator,
    max_extensions: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
    store: TrialStore = NOT_STORED,
) -> Tuning:
    """Runs the contender's grid and its extensions.

    Args:
      contender: one whose grid has a single setting, or none, costs nothing.
      runner: of the contender.
      starts: of the stage TUNING, one per tuning seed.
      valid: from `make_evaluator(..., "inner_valid")`.
      max_extensions: how often the grid may grow.
      progress: called with runs done and runs planned.
      store: holds what an interrupted tuning has run already.
    """
    grid, pending = contender.grid, settings(contender.grid)
    if len(pending) == 1:
        return Tuning(pending[0], (), 0, 0.0, 0, True)
    num_seeds = len(starts.batch_keys)
    # As many settings as fill whole waves.
    group_size = runner.wave_size // math.gcd(runner.wave_size, num_seeds)
    before, seconds = store.load()
    known = {setting_key(trial.hparams): trial for trial in before}
    scores: dict[tuple[float, ...], Trial] = {}
    extensions = 0
    while True:
        missing = [hparams for hparams in pending if setting_key(hparams) not in known]
        done, total = len(scores) + len(pending) - len(missing), len(scores) + len(pending)
        progress(done * num_seeds, total * num_seeds)
        for first in range(0, len(missing), group_size):
            start = time.monotonic()
            group = missing[first : first + group_size]
            runs = runner.train(group, starts, _runs_of(progress, (done + first) * num_seeds, total * num_seeds))
            losses = valid.metrics(runs.params, starts.task_config)["loss"].reshape(len(group), num_seeds)
            for hparams, loss in zip(group, np.asarray(losses, np.float64).mean(axis=1), strict=True):
                known[setting_key(hparams)] = Trial(hparams, float(loss))
            seconds += time.monotonic() - start
            store.save(list(known.values()), seconds)
        # Known ones join here, so that the grid grows as it would have without an interruption.
        scores |= {setting_key(hparams): known[setting_key(hparams)] for hparams in pending}
        best = min(scores.values(), key=lambda trial: trial.loss)
        grid, near = grow(grid, best.hparams)
        pending = [hparams for hparams in near if setting_key(hparams) not in scores]
        if not pending or extensions == max_extensions:
            break
        extensions += 1
    return Tuning(
        best=best.hparams,
        trials=tuple(scores.values()),
        num_runs=len(scores) * num_seeds,
        seconds=seconds,
        extensions=extensions,
        interior=not pending,
    )


def tuning_record(tuning: Tuning) -> dict[str, Any]:
    """The tuning as JSON values; a diverged setting has loss null."""
    return {
        "num_runs": tuning.num_runs,
        "seconds": round(tuning.seconds, 1),
        "extensions": tuning.extensions,
        "interior": tuning.interior,
        "trials": [trial_record(trial) for trial in tuning.trials],
    }


def _runs_of(progress: Callable[[int, int], None], before: int, total: int) -> Callable[[int, int], None]:
    """Progress of a group of runs as part of all of them."""
    return lambda done, _: progress(before + done, total)
