"""A suite: one comparison per task family, all under the same protocol.

from eval.sweep.suite import SUITE_PROTOCOL, suite_plan, suite_family
plan = suite_plan("meta_test", SUITE_PROTOCOL, ["lagg_fmnist8_k8_h4", "mine=runs/mine/optimizer.safetensors"])
run_sweep(plan, "runs/meta_test", suite_family)
load_sweep("runs/meta_test").finished["CELL"]  # a Results, see eval/scores/measures.py
"""

import dataclasses
import os
from collections.abc import Sequence

from eval.compare.learned import learned_name
from eval.protocol import EvalProtocol
from eval.sweep.sweep import Cell, Plan
from learned_opt.checkpoint import load_checkpoint
from tasks.base import TaskFamily
from tasks.suites import FAMILIES, SUITES, make_family, names_of

SUITE_PROTOCOL = EvalProtocol(
    task="suite",
    num_rounds=500,
    batch_size=32,
    num_seeds=5,
    max_extensions=6,
    eval_every=5,
    num_curve_examples=2048,
    worker_diagnostics=True,
)
"""What every cell of a suite is given unless told otherwise; `task` is replaced by the cell's. Six extensions reach
learning rates 64 times beyond the first grids, which were chosen for small image classifiers."""

ALL = "all"
"""The suite of every family."""


def suite_families(suite: str) -> tuple[str, ...]:
    """The families of a suite of tasks.suites, of all, or of a list of families and suites separated by commas.

    Raises:
      ValueError: nothing named, an unknown name, or one that comes twice.
    """
    names = [name.strip() for name in suite.split(",") if name.strip()]
    if not names:
        raise ValueError(f"suite {suite!r}: use {', '.join((*SUITES, ALL))}, or families separated by commas")
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"suite {suite!r} names {name} more than once")
    return tuple(FAMILIES) if names == [ALL] else names_of(names)


def suite_plan(
    suite: str,
    protocol: EvalProtocol = SUITE_PROTOCOL,
    checkpoints: Sequence[str | os.PathLike[str]] = (),
    *,
    contenders: Sequence[str] = (),
    tune_multiplier: bool = False,
    baselines_from: str | None = None,
) -> Plan:
    """The plan of a suite evaluation.

    Args:
      suite: as for `suite_families`.
      protocol: of every cell; its task does not matter.
      checkpoints: files, pretrained names, or NAME=FILE to choose the name in tables.
      contenders: module:function of optimizers that take part beside the baselines.
      tune_multiplier: tune a factor on the learned updates with a baseline's budget.
      baselines_from: run folder whose tuned baselines are used where it has the same cell.

    Raises:
      ValueError: an unknown suite, or a damaged checkpoint.
      FileNotFoundError: no such checkpoint.
    """
    cells = tuple(Cell(name, dataclasses.replace(protocol, task=name)) for name in suite_families(suite))
    named = named_checkpoints(checkpoints, tune_multiplier)
    return Plan("suite", suite, cells, named, tuple(contenders), tune_multiplier, baselines_from)


def suite_family(cell: Cell) -> TaskFamily:
    """The family of a suite's cell."""
    return make_family(cell.protocol.task)


def named_checkpoints(
    checkpoints: Sequence[str | os.PathLike[str]], tune_multiplier: bool = False
) -> tuple[tuple[str, str], ...]:
    """(name in tables, file or pretrained name) of each.

    Raises:
      ValueError: a damaged checkpoint.
      FileNotFoundError: no such checkpoint.
    """
    named: list[tuple[str, str]] = []
    for checkpoint in checkpoints:
        label, equals, path = os.fspath(checkpoint).partition("=")
        label, path = (label, path) if equals else ("", label)
        architecture = load_checkpoint(path).lopt.config["architecture"]
        taken = [name for name, _ in named]
        named.append((label or learned_name(path, architecture, taken, tune_multiplier), path))
    return tuple(named)
