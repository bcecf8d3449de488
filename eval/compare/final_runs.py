"""The final runs of a comparison and what is measured of them; the test split is read when all training is over."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from eval.compare.contenders import Contender
from eval.compare.curves import evenly_spaced, make_curves, make_diagnostic_curves, some_points
from eval.compare.earlier import Chosen
from eval.compare.initial_states import InitialStates
from eval.compare.runner import Runner, Runs
from eval.compare.split_metrics import Evaluator, diverged_is_inf, make_evaluator
from eval.diagnostics.base import Diagnostic
from eval.diagnostics.sgd_rate import sgd_rates
from eval.diagnostics.stability import STABILITY
from eval.diagnostics.table import DIAGNOSTICS
from eval.machine.progress import Progress
from eval.protocol import EvalProtocol
from eval.results import ContenderResult
from learned_opt.algorithms.round_cost import round_cost
from tasks.base import SPLITS, TaskFamily

NUM_TEST_POINTS = 25
"""Points of the curves on the test split, at most: their snapshots are kept until all training is over."""


class _Trained(NamedTuple):
    """One contender's final runs: without snapshots, but for those of the test curve; curves of the training."""

    runs: Runs
    test_snapshots: PyTree
    train_loss: np.ndarray
    diagnostics: dict[str, np.ndarray]
    cost: dict[str, float | None]


def train_and_evaluate(
    everyone: Sequence[Contender],
    settings: Mapping[str, Chosen],
    runners: Mapping[str, Runner],
    valid: Evaluator,
    starts: InitialStates,
    family: TaskFamily,
    protocol: EvalProtocol,
    diagnostics: Sequence[Diagnostic],
    progress: Progress,
) -> dict[str, ContenderResult]:
    """Results by contender.

    Args:
      everyone: who is trained.
      settings: of each.
      runners: of each.
      valid: of the split "inner_valid", compiled for the tuning already.
      starts: of the stage FINAL.
      family: the task family.
      protocol: of the comparison.
      diagnostics: what is recorded.
      progress: called with (stage, done, total).
    """
    train_examples = evenly_spaced(family.data["train"], protocol.num_curve_examples)
    on_train = make_curves(family, {"train": train_examples}, "train")
    diagnose = make_diagnostic_curves(family, diagnostics, family.data["train"])
    rounds = np.arange(protocol.eval_every, protocol.num_rounds + 1, protocol.eval_every, dtype=np.int64)
    points = some_points(len(rounds), NUM_TEST_POINTS)
    trained: dict[str, _Trained] = {}
    for contender in everyone:
        name, runner = contender.name, runners[contender.name]
        runs = runner.train([settings[name].hparams], starts, _stage(progress, name), record=True)
        measured = dict(runs.diagnostics)
        if diagnose is not None:
            rates = np.full(len(rounds), np.nan, np.float32)
            # Those that read it, and a user's own, which may.
            if any(diagnostic in STABILITY or diagnostic.name not in DIAGNOSTICS for diagnostic in diagnostics):
                start = jax.tree.map(lambda x: x[0], starts.params)
                rates = sgd_rates(contender.make(settings[name].hparams), start, protocol, rounds)
            measured |= diagnose(runs.snapshots, starts, rates)
        trained[name] = _Trained(
            runs._replace(snapshots=None),
            jax.tree.map(lambda x: x[:, points], runs.snapshots),
            diverged_is_inf(on_train(runs.snapshots, starts)["loss"]),
            measured,
            runner.cost(),
        )

    evaluators = {split: make_evaluator(family, family.data, split) for split in SPLITS if split != "inner_valid"}
    evaluators["inner_valid"] = valid
    test_data = {"train": train_examples, "test": evenly_spaced(family.data["test"], protocol.num_curve_examples)}
    on_test = make_curves(family, test_data, "test")
    finished = {}
    for contender in everyone:
        runs, test_snapshots, train_loss, measured, cost = trained[contender.name]
        hparams, tuning, _ = settings[contender.name]
        test_curves = on_test(test_snapshots, starts)
        algorithm = contender.make(hparams)
        params = jax.tree.map(lambda x: x[0], runs.params)
        spent = round_cost(algorithm, params, protocol.num_workers, protocol.num_local_steps)
        finished[contender.name] = ContenderResult(
            name=contender.name,
            kind=contender.kind,
            details=dict(contender.details),
            hparams=hparams,
            tuning=tuning,
            bytes_per_round=spent.bytes_sent,
            rounds=rounds,
            train_loss=train_loss,
            minibatch_loss=runs.minibatch_loss,
            final={split: evaluators[split].metrics(runs.params, starts.task_config) for split in SPLITS},
            diagnostics=measured,
            cost=cost | spent._asdict() | {"waits": float(algorithm.waits)},
            counts=runs.counts,
            test_rounds=rounds[points],
            test_curves={metric: diverged_is_inf(values) for metric, values in test_curves.items()},
        )
    return finished


def _stage(progress: Progress, name: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(f"training {name}", done, total)
