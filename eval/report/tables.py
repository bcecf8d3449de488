"""The report's tables, as rows of text that HTML, Markdown and CSV share, and the one over all cells.

Aggregates are over every finished cell in which the contender took part and the rival exists; how many is in the table.
A contender that never reaches a target counts with speed-up 0, a diverged run with loss ratio 0.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from eval.results import ContenderResult, Results, everyone
from eval.scores.measures import measures
from eval.scores.rivals import final_test_losses, loss_ratios, own_anchor, speed_up_scores, target_setter
from eval.scores.statistics import Interval, bootstrap, iqm, probability_of_improvement
from eval.scores.targets import DILOCO, TARGETS

NEVER = "-"


class Table(NamedTuple):
    """One table.

    Attributes:
      slug: file name of its CSV.
      title: one line.
      note: what its columns mean, in words.
      rows: the header and the body, equally long.
    """

    slug: str
    title: str
    note: str
    rows: list[list[str]]


def contender_names(cells: Sequence[Results]) -> list[str]:
    """Names of everyone who took part in a cell, in the order of their first appearance."""
    return list(everyone(cells))


def speed_table(cells: Sequence[Results]) -> Table:
    """Speed-ups over all cells, one row per contender."""
    header = ["optimizer", "cells"]
    for title in TARGETS.values():
        header += [f"over {title}, IQM (95%)", "cells faster"]
    has_anchors = any(c.kind == "anchor" for results in cells for c in results.contenders)
    header += ["over its anchor, IQM (95%)", "cells faster"] if has_anchors else []
    rows = [header]
    for name in contender_names(cells):
        row = [name, str(sum(any(c.name == name for c in results.contenders) for results in cells))]
        rivals = [*map(target_setter, TARGETS), *([own_anchor(name)] if has_anchors else [])]
        for rival in rivals:
            scores = speed_up_scores(cells, name, rival)
            row += [interval(bootstrap(iqm, scores) if scores.size else None), _cells_faster(scores)]
        rows.append(row)
    note = (
        "Speed-up: rounds in which the rival first had its own final training loss over the rounds of the contender, "
        "for every seed (seeds share initial parameters and batches); 0 if it never got there. All compute the same "
        "gradients a round. IQM: interquartile mean over the runs of all cells; the interval is a stratified bootstrap "
        "that draws cells and seeds again. Cells faster: of those with the rival, where the interquartile mean over "
        "the seeds is above 1. best tuned: whichever tuned baseline ended with the lowest training loss in the cell. "
        "anchor: the hand-made step that a learned optimizer corrects, with the same workers and nothing learned."
    )
    return Table("speed", "Speed over all cells", note, rows)


def outcome_table(cells: Sequence[Results]) -> Table:
    """Test losses, divergence and budgets over all cells, one row per contender."""
    rows = [["optimizer", "DiLoCo's test loss / its own, IQM (95%)", "P(lower test loss than DiLoCo)"]]
    rows[0] += ["diverged runs", "tuning runs", "tuning s"]
    for name, contender in everyone(cells).items():
        taken = [m for results in cells for m in measures(results) if m.name == name]
        own, theirs = final_test_losses(cells, name, target_setter(DILOCO))
        ratios = loss_ratios(own, theirs)
        rows.append(
            [
                name,
                interval(bootstrap(iqm, ratios) if ratios.size else None),
                f"{probability_of_improvement(-own, -theirs):.2f}" if own.size else NEVER,
                f"{100 * np.mean([m.diverged for m in taken]):.0f}%",
                *_budget(contender, sum(m.tuning_runs for m in taken), sum(m.tuning_seconds for m in taken)),
            ]
        )
    note = (
        "Test loss ratios above 1 beat DiLoCo; a diverged run counts 0, and cells with a loss that is not positive "
        "have no ratio. Budgets: training runs and their seconds that tuning took in all cells together; once: of the "
        "calibration on other tasks that gave a row its one setting."
    )
    return Table("outcome", "Test loss and budget over all cells", note, rows)


def budget(contender: ContenderResult) -> list[str]:
    """[tuning runs, tuning seconds] of one contender in one cell."""
    return _budget(contender, int(contender.tuning["num_runs"]), float(contender.tuning.get("seconds", 0.0)))


def _budget(contender: ContenderResult, num_runs: int, seconds: float) -> list[str]:
    once = contender.details.get("one_setting")
    if once is not None:
        return [f"{once['num_runs']} once", f"{once['seconds']:.0f} once"]
    return [str(num_runs), f"{seconds:.0f}" if seconds or not num_runs else NEVER]


def _cells_faster(scores: np.ndarray) -> str:
    """How many cells, of those with the rival, in which the interquartile mean over the seeds is above 1."""
    if not scores.size:
        return NEVER
    return f"{sum(iqm(column) > 1 for column in scores.T)} of {scores.shape[1]}"


def interval(found: Interval | None) -> str:
    """A point estimate with its interval."""
    return NEVER if found is None else f"{found.point:.2f} ({found.low:.2f} to {found.high:.2f})"


def number(value: float | None, digits: int) -> str:
    """A number to so many significant digits; infinite: diverged."""
    if value is None or math.isnan(value):
        return NEVER
    return f"{value:.{digits}g}" if math.isfinite(value) else "diverged"


def whole(value: float | None) -> str:
    """A whole number."""
    return NEVER if value is None else f"{value:.0f}"
