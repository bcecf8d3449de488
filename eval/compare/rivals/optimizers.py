"""Every hand-designed optimizer of `learned_opt.optimizers.table` as a baseline `dp_NAME`, by one rule.

Data-parallel: one step a round on its K H B examples, at a tuned learning rate; other arguments are the optimizer's
defaults. The rate enters as a schedule of the optimizer's own, so that one that averages (Schedule-Free, averaged SGD)
averages what was trained, and what it averages is what is evaluated. One that computes several gradients a step is
charged for them, and for communicating as often.

The ranges are for REFERENCE_BATCH examples a step and move with the protocol's (`eval.compare.grids.for_batch`). SGD,
Adam, AdamW and Muon have baselines of their own (`sgd`, `adam`, `dp_adamw`, `dp_muon`), which tune a second number too.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from eval.compare.contenders import Contender
from eval.compare.grids import GridAxis, budgeted, for_batch, log_spaced
from eval.protocol import TUNING_BUDGETS, EvalProtocol
from eval.schedules import factor
from learned_opt.algorithms.data_parallel import data_parallel
from learned_opt.algorithms.round import dense_bytes
from learned_opt.base import LocalAlgorithm
from learned_opt.optimizers.table import OPTIMIZERS

REFERENCE_BATCH = 512
"""Examples a step that the ranges are for: K = 8, H = 4, B = 16."""


class Range(NamedTuple):
    """Learning rates that are tried, and whether they are of an adaptive optimizer, whose steps do not grow with the
    gradient."""

    low: float
    high: float
    adaptive: bool = True


LIKE_SGD = Range(0.01, 10.0, adaptive=False)
LIKE_ADAM = Range(0.001, 0.1)

RANGES: dict[str, Range] = {
    "adafactor": Range(0.003, 0.3),
    "lion": Range(0.0001, 0.01),
    "nero": Range(0.001, 0.1),
    "normalized_sgd": Range(0.003, 0.3),
    "relative_adam": Range(0.003, 0.3),
    "relative_rmsprop": Range(0.003, 0.3),
    "prodigy": Range(0.1, 10.0),
    "sgdp": Range(0.001, 1.0, adaptive=False),
    "sam": Range(0.001, 1.0, adaptive=False),
    **dict.fromkeys(("sgd", "asgd", "optimistic_sgd", "sa_sgd", "sa_sam", "normalized_logistic"), LIKE_SGD),
}
"""By name; LIKE_ADAM for the rest."""

OWN_BASELINES = ("sgd", "adam", "adamw", "muon")
"""Optimizers that have another baseline, with more to tune."""


def optimizer_baseline(name: str) -> Callable[[EvalProtocol], Contender]:
    """protocol -> the baseline `dp_NAME`."""
    entry, found = OPTIMIZERS[name], RANGES.get(name, LIKE_ADAM)

    def algorithm(hparams: Mapping[str, Any], protocol: EvalProtocol) -> LocalAlgorithm:
        def scheduled(round: Any) -> Any:
            return hparams["lr"] * factor(protocol.schedule, round, protocol.num_rounds)

        rate = hparams["lr"] if protocol.schedule == "constant" else scheduled
        made = data_parallel(entry.make(learning_rate=rate))
        if entry.gradients == 1:
            return made
        times = entry.gradients
        return made._replace(
            bytes_sent=lambda params: times * dense_bytes(params),
            bytes_received=lambda params, num_workers: times * dense_bytes(params),
            peak_bytes=dense_bytes,
            gradients=lambda num_local_steps: float(times * num_local_steps),
        )

    def baseline(protocol: EvalProtocol) -> Contender:
        examples = protocol.num_workers * protocol.num_local_steps * protocol.batch_size
        axis = GridAxis(log_spaced(found.low, found.high, TUNING_BUDGETS["full"]))
        grid = {"lr": for_batch(axis, examples / REFERENCE_BATCH, found.adaptive)}
        return Contender(
            f"dp_{name}", lambda hparams: algorithm(hparams, protocol), budgeted(grid, protocol.tuning), kind="baseline"
        )

    return baseline


OPTIMIZER_BASELINES: dict[str, Callable[..., Contender]] = {
    f"dp_{name}": optimizer_baseline(name) for name in OPTIMIZERS if name not in OWN_BASELINES
}
"""Name -> protocol -> contender."""
