"""A suite: one comparison per task family, all under the same protocol.

from eval.sweep.suite import SUITE_PROTOCOL, suite_plan, suite_family
plan = suite_plan("meta_test", SUITE_PROTOCOL, ["lagg_fmnist8_k8_h4", "mine=runs/mine/optimizer.safetensors"])
run_sweep(plan, "runs/meta_test", suite_family)
load_sweep("runs/meta_test").finished["CELL"]  # a Results, see eval/scores/measures.py
"""

import dataclasses
import os
from collections.abc import Sequence

from eval.compare.learned import named_checkpoints
from eval.protocol import EvalProtocol
from eval.references import made_by
from eval.sweep.plan import Cell, SweepPlan, reference_name
from eval.task_families import FAMILY_TABLE, make_family, written_out
from learned_opt.names import hint
from tasks.base import TaskFamily
from tasks.suites import FAMILIES, SUITES

SUITE_PROTOCOL = EvalProtocol(
    task="suite",
    num_rounds=500,
    batch_size=32,
    num_seeds=5,
    max_extensions=6,
    eval_every=5,
    num_curve_examples=2048,
    diagnostics=("worker_agreement",),
)
"""What every cell of a suite is given unless told otherwise; `task` is replaced by the cell's. Six extensions reach
learning rates 64 times beyond the first grids, which were chosen for small image classifiers."""

ALL = "all"
"""The suite of every family of tasks.suites."""


def suite_families(suite: str | Sequence[str]) -> tuple[str, ...]:
    """References of the families of a suite.

    Args:
      suite: suites of tasks.suites, "all", references of families (see eval/task_families.py), and functions that
        return such references: one after the other, or separated by commas where none has arguments.

    Raises:
      ValueError: nothing named, an unknown name, or one that comes twice.
    """
    parts = [suite] if isinstance(suite, str) else suite
    names = [name.strip() for part in parts for name in ([part] if "=" in part else part.split(",")) if name.strip()]
    if not names:
        raise ValueError(f"no suite named: use {', '.join((*SUITES, ALL))}, or families separated by commas")
    found = [reference for name in names for reference in _families_of(name)]
    for name in found:
        if found.count(name) > 1:
            raise ValueError(f"suite {suite!r} names {name} more than once")
    return tuple(found)


def suite_plan(
    suite: str | Sequence[str],
    protocol: EvalProtocol = SUITE_PROTOCOL,
    checkpoints: Sequence[str | os.PathLike[str]] = (),
    *,
    baselines: Sequence[str] = ("core",),
    contenders: Sequence[str] = (),
    tune_multiplier: bool = False,
    one_setting: str | None = None,
    baselines_from: str | None = None,
) -> SweepPlan:
    """The plan of a suite evaluation.

    Args:
      suite: as for `suite_families`.
      protocol: of every cell; its task does not matter.
      checkpoints: files, pretrained names, or NAME=FILE to choose the name in tables.
      baselines: names and groups of `eval.compare.baselines`.
      contenders: references of who takes part beside them, see `eval.compare.participants.named_contender`.
      tune_multiplier: tune a factor on the learned updates, and one on their anchors', with a baseline's budget.
      one_setting: file of calibrated settings, or "shipped": adds a row with that setting for every baseline in it.
      baselines_from: run folder whose tuned baselines are used where it has the same cell.

    Raises:
      ValueError: an unknown suite, or a damaged checkpoint.
      FileNotFoundError: no such checkpoint.
    """
    references = suite_families(suite)
    cells = tuple(Cell(reference_name(r), dataclasses.replace(protocol, task=r)) for r in references)
    names = [cell.name for cell in cells]
    for cell in cells:
        if names.count(cell.name) > 1:
            raise ValueError(f"suite {suite!r}: two of its families would be called {cell.name}: run one elsewhere")
    return SweepPlan(
        kind="suite",
        name=suite if isinstance(suite, str) else ",".join(suite),
        cells=cells,
        checkpoints=named_checkpoints(checkpoints, tune_multiplier),
        contenders=tuple(contenders),
        tune_multiplier=tune_multiplier,
        one_setting=one_setting,
        baselines_from=baselines_from,
        baselines=tuple(baselines),
    )


def suite_family(cell: Cell) -> TaskFamily:
    """The family of a suite's cell."""
    return make_family(cell.protocol.task)


def _families_of(name: str) -> tuple[str, ...]:
    if name == ALL:
        return tuple(FAMILIES)
    if name in SUITES:
        return tuple(SUITES[name])
    if written_out(name) == name and ":" in name:
        made = made_by(name, {}, "suite")
        if not isinstance(made, TaskFamily):
            if isinstance(made, str) or not all(isinstance(reference, str) for reference in made):
                raise ValueError(f"suite {name!r} returned {made!r}: return references of task families")
            return tuple(made)
    elif written_out(name).split(",")[0] not in FAMILY_TABLE:
        advice = hint(name, (*SUITES, ALL, *FAMILY_TABLE))
        if "did you mean" not in advice:
            advice = f"use {', '.join((*SUITES, ALL))}, or a family that 'python -m tasks' lists"
        raise ValueError(f"unknown task family {name!r}: {advice}")
    return (name,)
