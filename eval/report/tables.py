"""The report's tables, as rows of text that HTML, Markdown and CSV share.

Aggregates are over every finished cell in which the contender took part and the target exists; how many is in the
table. A contender that never reaches a target counts with speed-up 0, a diverged run with loss ratio 0.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from eval.diagnostics.table import DIAGNOSTICS, description
from eval.results import Results
from eval.scores.measures import Measures, Network, measures, speed_up_scores
from eval.scores.statistics import Interval, bootstrap, iqm, probability_of_improvement
from eval.scores.targets import BEST, DILOCO, LOCAL_SGD, TARGETS, targets
from eval.sweep.sweep import Sweep

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
    """Everyone who took part in a cell, baselines first, in the order of their first appearance."""
    return list(dict.fromkeys(c.name for results in cells for c in results.contenders))


def aggregate_table(cells: Sequence[Results]) -> Table:
    """One row per contender over all cells."""
    header = ["optimizer", "cells"]
    for target in TARGETS.values():
        header += [f"speed-up over {target}, IQM (95%)", "cells faster"]
    header += ["DiLoCo's test loss / its own, IQM (95%)", "P(lower test loss than DiLoCo)"]
    header += ["diverged runs", "tuning runs"]
    rows = [header]
    for name in contender_names(cells):
        taken = [m for results in cells for m in measures(results) if m.name == name]
        row = [name, str(len(taken))]
        for target in TARGETS:
            scores = speed_up_scores(cells, name, target)
            row += [_interval(bootstrap(iqm, scores) if scores.size else None), _cells_faster(taken, target)]
        ratios, own, theirs = loss_ratio_scores(cells, name)
        row.append(_interval(bootstrap(iqm, ratios) if ratios.size else None))
        row.append(f"{probability_of_improvement(-own, -theirs):.2f}" if own.size else NEVER)
        row.append(f"{100 * np.mean([m.diverged for m in taken]):.0f}%")
        row.append(str(sum(m.tuning_runs for m in taken)))
        rows.append(row)
    note = (
        "Speed-up: rounds in which the baseline first had its own final training loss over the rounds of the "
        "contender, for every seed (seeds share initial parameters and batches); 0 if it never got there. It is also "
        "the ratio of gradient evaluations, bytes and simulated seconds. IQM: interquartile mean over the runs of all "
        "cells; the interval is a stratified bootstrap that draws cells and seeds again. Cells faster: of those with "
        "the target, where the seed-mean curve got there in fewer rounds than the baseline's own. best tuned: "
        "whichever baseline ended with the lowest training loss in the cell. Test loss ratios above 1 beat DiLoCo; "
        "a diverged run counts 0, and cells with a loss that is not positive have no ratio."
    )
    return Table("aggregate", "Over all cells", note, rows)


def cell_table(cell: str, results: Results, network: Network) -> Table:
    """One row per contender of one comparison."""
    everyone = measures(results, network)
    goals = targets(results)
    metrics = [metric for metric in everyone[0].final["test"] if metric != "loss"]
    header = ["optimizer", "train loss", "valid loss", "test loss", *(f"test {metric}" for metric in metrics)]
    for name, target in goals.items():
        label = f"{TARGETS[name]} ({target.setter.name})" if name == BEST else TARGETS[name]
        header += [f"rounds to {label} {target.loss:.4g}", "speed-up"]
    header += ["gradients", "kB", "simulated s", "diverged", "setting", "tuning runs"]
    rows = [header]
    for contender, m in zip(results.contenders, everyone, strict=True):
        row = [m.name, *(_number(m.final[split]["loss"], 4) for split in ("train", "inner_valid", "test"))]
        row += [_number(m.final["test"][metric], 4) for metric in metrics]
        for target in goals:
            cost = m.to_target[target]
            row += [_whole(cost.rounds), NEVER if cost.speed_up is None else f"{cost.speed_up:.2f}"]
        first = next(iter(m.to_target.values()), None)
        row += [
            _whole(first.gradients if first else None),
            NEVER if first is None or first.bytes is None else f"{first.bytes / 1000:.0f}",
            NEVER if first is None or first.seconds is None else f"{first.seconds:.1f}",
            f"{100 * m.diverged:.0f}%",
            _setting(contender.hparams, m.interior),
            str(m.tuning_runs),
        ]
        rows.append(row)
    goal = TARGETS[next(iter(goals))] if goals else "no target"
    note = (
        f"Means over {results.protocol.num_seeds} seeds; rounds are read off the seed-mean training curve. Gradients "
        f"(minibatch gradients of all workers), kB (sent by one worker) and simulated seconds are to the target "
        f"{goal}. A setting marked edge has untried neighbours beyond its grid."
    )
    return Table(f"cell_{cell}", cell, note, rows)


def axis_table(sweep: Sweep) -> Table:
    """One row per contender and value of an axis sweep."""
    rows = [["optimizer", sweep.plan.label or sweep.plan.name, "speed-up over Local SGD, IQM (95%)"]]
    rows[0] += ["speed-up over DiLoCo, IQM (95%)", "test loss", "diverged runs"]
    for name in contender_names(list(sweep.finished.values())):
        for cell in sweep.plan.cells:
            results = sweep.finished.get(cell.name)
            found = [m for m in measures(results) if m.name == name] if results is not None else []
            if results is None or not found:
                continue
            row = [name, f"{cell.value:g}"]
            for target in (LOCAL_SGD, DILOCO):
                scores = speed_up_scores([results], name, target)
                row.append(_interval(bootstrap(iqm, scores, resample_tasks=False) if scores.size else None))
            rows.append([*row, _number(found[0].final["test"]["loss"], 4), f"{100 * found[0].diverged:.0f}%"])
    note = "Everyone was tuned anew at every value. The interval draws the seeds of the value again."
    return Table(f"axis_{sweep.plan.name}", f"Along the axis {sweep.plan.name}", note, rows)


def diagnostics_table(cells: dict[str, Results]) -> Table | None:
    """The diagnostics averaged over rounds and seeds; None where nothing was recorded."""
    names = list(
        dict.fromkeys(name for results in cells.values() for c in results.contenders for name in c.diagnostics)
    )
    rows = [["cell", "optimizer", *(name.replace("_", " ") for name in names)]]
    for cell, results in cells.items():
        for m in measures(results):
            if m.diagnostics:
                rows.append([cell, m.name, *(_number(m.diagnostics.get(name, math.nan), 4) for name in names)])
    said = "; ".join(
        f"{name.replace('_', ' ')}: {description(DIAGNOSTICS[name])}" for name in names if name in DIAGNOSTICS
    )
    note = f"Averaged over the measured rounds and the seeds. {said}"
    return Table("diagnostics", "Diagnostics", note, rows) if len(rows) > 1 else None


def cost_table(cells: dict[str, Results]) -> Table | None:
    """Time and memory of training; None where nothing was recorded."""
    rows = [["cell", "optimizer", "ms a round", "of Local SGD's", "state kB", "temporaries MB", "compile s"]]
    for cell, results in cells.items():
        everyone = measures(results)
        reference = next((m.cost.get("seconds_per_round") for m in everyone if m.name == LOCAL_SGD), None)
        for m in everyone:
            pace, state, memory = (m.cost.get(f) for f in ("seconds_per_round", "state_bytes", "memory_bytes"))
            if m.cost:
                rows.append(
                    [
                        cell,
                        m.name,
                        NEVER if pace is None else f"{1000 * pace:.3g}",
                        NEVER if pace is None or not reference else f"{pace / reference:.2f}",
                        NEVER if state is None else f"{state / 1000:.1f}",
                        NEVER if memory is None else f"{memory / 1e6:.1f}",
                        _number(m.cost.get("compile_seconds", math.nan), 3),
                    ]
                )
    note = (
        "A round as it ran in the final training: K H minibatch gradients, their batches and the update, one run on "
        "each device (more on accelerators); as exact as the machine was idle. State: of the server optimizer, and of "
        "the local optimizers of all workers. Temporaries: of the compiled training program on one device."
    )
    return Table("cost", "Time and memory", note, rows) if len(rows) > 1 else None


def failure_table(sweeps: Sequence[Sweep]) -> Table | None:
    """Cells that failed or were not run; None if there are none."""
    rows = [["cell", "what happened", "seconds"]]
    for sweep in sweeps:
        rows += [[cell, failure.message, f"{failure.seconds:.0f}"] for cell, failure in sweep.failed.items()]
        rows += [[cell, "not finished", NEVER] for cell in sweep.missing]
    note = "These cells are in no aggregate."
    return Table("failed", "What failed", note, rows) if len(rows) > 1 else None


def loss_ratio_scores(cells: Sequence[Results], name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """DiLoCo's final test loss over a contender's, 0 for a diverged run; the contender's; DiLoCo's; [seeds, cells].

    Cells without both, or where DiLoCo diverged, are left out, and of the ratios those where a loss is not positive.
    """
    own, theirs = [], []
    for results in cells:
        losses = {c.name: c.final["test"]["loss"].astype(np.float64) for c in results.contenders}
        if name in losses and DILOCO in losses and np.isfinite(losses[DILOCO]).all():
            own.append(losses[name])
            theirs.append(losses[DILOCO])
    if not own:
        return np.zeros((0, 0)), np.zeros((0, 0)), np.zeros((0, 0))
    x, y = np.stack(own, axis=1), np.stack(theirs, axis=1)
    positive = (x > 0).all(axis=0) & (y > 0).all(axis=0)
    return y[:, positive] / x[:, positive], x, y


def _cells_faster(taken: Sequence[Measures], target: str) -> str:
    """How many cells, of those with the target, in which the mean curve was faster than the baseline's own."""
    costs = [m.to_target[target] for m in taken if target in m.to_target]
    return f"{sum(1 for c in costs if c.speed_up is not None and c.speed_up > 1)} of {len(costs)}"


def _interval(interval: Interval | None) -> str:
    return NEVER if interval is None else f"{interval.point:.2f} ({interval.low:.2f} to {interval.high:.2f})"


def _number(value: float | None, digits: int) -> str:
    if value is None or math.isnan(value):
        return NEVER
    return f"{value:.{digits}g}" if math.isfinite(value) else "diverged"


def _whole(value: float | None) -> str:
    return NEVER if value is None else f"{value:.0f}"


def _setting(hparams: dict[str, float], interior: bool) -> str:
    if not hparams:
        return "not tuned"
    return ", ".join(f"{name} {value:g}" for name, value in hparams.items()) + ("" if interior else " (edge)")
