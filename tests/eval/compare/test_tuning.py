"""Tuning picks by the inner-validation loss, grows its grid, and keeps what diverged."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from eval.compare.contenders import Contender
from eval.compare.grids import GridAxis
from eval.compare.initial_states import TUNING, draw_initial_states
from eval.compare.runner import Runner, make_runner
from eval.compare.split_metrics import make_evaluator
from eval.compare.tuning import tune, tuning_record
from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.algorithms.server import fedavg
from tests.eval.toy import TOY, toy_family

FAMILY = toy_family()
TRAIN = {"train": FAMILY.data["train"]}
VALID = make_evaluator(FAMILY, FAMILY.data, "inner_valid")


def make(h):
    lr = jnp.where(h["lr"] > 100, jnp.nan, h["lr"])
    return local_sgd(optax.sgd(lr), fedavg())


def run_tuning(values, protocol=TOY, calls=None):
    starts = draw_initial_states(FAMILY, protocol, TRAIN, TUNING, protocol.tuning_seeds)
    contender = Contender("local_sgd", make, {"lr": GridAxis(values)})
    runner = make_runner(FAMILY, contender, protocol, TRAIN, starts)
    report = (lambda done, total: None) if calls is None else lambda *call: calls.append(call)
    return tune(contender, runner, starts, VALID, protocol.max_extensions, report)


def test_the_score_is_the_mean_validation_loss_of_the_tuning_seeds():
    protocol = dataclasses.replace(TOY, tuning_seeds=2, max_extensions=0)
    tuning = run_tuning((0.05, 0.2), protocol)
    starts = draw_initial_states(FAMILY, protocol, TRAIN, TUNING, 2)
    contender = Contender("local_sgd", make, {"lr": GridAxis((1.0,))})
    runner = make_runner(FAMILY, contender, protocol, TRAIN, starts)
    for trial in tuning.trials:
        runs = runner.train([trial.hparams], starts, lambda done, total: None)
        losses = VALID.metrics(runs.params, starts.task_config)["loss"]
        np.testing.assert_allclose(trial.loss, losses.mean(), rtol=1e-6)
    assert tuning.num_runs == 4
    assert tuning.best == min(tuning.trials, key=lambda trial: trial.loss).hparams


def test_a_grid_grows_from_its_edge_within_its_allowance():
    protocol = dataclasses.replace(TOY, max_extensions=2)
    tuning = run_tuning((0.001, 0.002), protocol)
    values = [trial.hparams["lr"] for trial in tuning.trials]
    assert values == [0.001, 0.002, 0.004, 0.008]
    assert (tuning.extensions, tuning.interior) == (2, False)


def test_an_interior_optimum_needs_no_growth():
    tuning = run_tuning((1e-3, 1.0, 1000.0))
    assert tuning.best == {"lr": 1.0}
    assert (tuning.extensions, tuning.interior, tuning.num_runs) == (0, True, 3)


def test_diverged_settings_score_inf_and_stay_in_the_table():
    tuning = run_tuning((1.0, 1000.0))
    losses = {trial.hparams["lr"]: trial.loss for trial in tuning.trials}
    assert losses[1000.0] == np.inf and np.isfinite(losses[1.0])
    assert {"hparams": {"lr": 1000.0}, "loss": None} in tuning_record(tuning)["trials"]


def test_progress_counts_every_run_once():
    calls = []
    tuning = run_tuning((0.001, 0.002), calls=calls)
    done = [done for done, _ in calls]
    assert done == sorted(done)
    assert calls[-1] == (tuning.num_runs, tuning.num_runs)


@pytest.mark.parametrize("grid", [{}, {"lr": GridAxis((0.5,))}])
def test_a_single_setting_costs_nothing(grid):
    def train(*arguments):
        raise AssertionError(arguments)

    starts = draw_initial_states(FAMILY, TOY, TRAIN, TUNING, 1)
    tuning = tune(Contender("x", make, grid), Runner(train, dict, 8, str), starts, VALID, 1)
    assert tuning == ({name: 0.5 for name in grid}, (), 0, 0.0, 0, True)
