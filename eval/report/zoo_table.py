"""The table of the zoo: everyone against tuned AdamW, with intervals, and what each cost.

Speed-up: updates in which tuned AdamW first had its own final training loss over those of the row, 0 where it was never
reached, per seed; loss ratio: final loss of tuned AdamW over the row's, averaged by its logarithm. Both are
interquartile means over the cells with a stratified bootstrap (`eval.scores.statistics`).
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from eval.compare.zoo import ADAMW, MISSTATED
from eval.results import Results, named
from eval.scores.rivals import loss_ratios, speed_up_scores
from eval.scores.statistics import bootstrap, iqm
from eval.sweep.sweep import Sweep
from eval.sweep.zoo import LONG

LARGEST_RATIO = 1000.0
"""Ratios beyond it, or below its inverse, count as that: without noise losses fall to rounding, and a diverged run's is
infinite."""
HEADER = (
    "optimizer",
    "speed-up over tuned AdamW, IQM (95 %)",
    "AdamW's final loss / its own, IQM (95 %)",
    "AdamW's test loss / its own, IQM (95 %)",
    "cells better",
    "told 1/4 of the updates",
    "told 4 times the updates",
    "ten times the longest episode",
    "diverged",
    "tuning: runs, s",
    "meta-training",
)


def zoo_table(sweep: Sweep) -> str:
    """The table in Markdown, with its last newline.

    Raises:
      ValueError: no finished cell with tuned AdamW.
    """
    short = [results for cell, results in sweep.finished.items() if not cell.endswith(LONG)]
    long = [results for cell, results in sweep.finished.items() if cell.endswith(LONG)]
    short = [results for results in short if named(results, ADAMW) is not None]
    if not short:
        raise ValueError("no cell of the zoo is finished")
    endings = tuple(f"_{name}" for name in MISSTATED)
    names = [c.name for c in short[0].contenders if not c.name.endswith(endings)]
    lines = [HEADER, ("---", *["---:"] * (len(HEADER) - 1)), *(_row(name, short, long) for name in names)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def final_losses(cells: Sequence[Results], name: str, split: str) -> np.ndarray:
    """Final losses [seeds, cells], inf where a run diverged."""
    columns = []
    for results in cells:
        found = named(results, name)
        if found is not None:
            columns.append(found.final[split]["loss"].astype(np.float64))
    return np.stack(columns, axis=1) if columns else np.zeros((0, 0))


def _row(name: str, short: Sequence[Results], long: Sequence[Results]) -> tuple[str, ...]:
    cells = [results for results in short if named(results, name) is not None]
    found = [c for results in cells if (c := named(results, name)) is not None]
    train, rival = final_losses(cells, name, "train"), final_losses(cells, ADAMW, "train")
    speed = speed_up_scores(cells, name, lambda results: named(results, ADAMW))
    better = np.mean(train, axis=0) < np.mean(rival, axis=0)
    is_adamw = name == ADAMW
    runs = sum(int(c.tuning["num_runs"]) for c in found)
    seconds = sum(float(c.tuning.get("seconds", 0.0)) for c in found)
    return (
        name,
        "1" if is_adamw else _interval(speed),
        "1" if is_adamw else _interval(_log_ratios(cells, name, "train"), np.exp),
        "1" if is_adamw else _interval(_log_ratios(cells, name, "test"), np.exp),
        "-" if is_adamw else f"{np.sum(better)} of {len(better)}",
        *(_ratio(cells, f"{name}_{ending}") for ending in MISSTATED),
        "1" if is_adamw and long else _ratio(long, name),
        f"{100 * np.mean(~np.isfinite(train)):.0f}%",
        f"{runs}, {seconds:.0f}" if runs else "0",
        _meta_training(found[0].details),
    )


def _log_ratios(cells: Sequence[Results], name: str, split: str) -> np.ndarray:
    """Logarithms of tuned AdamW's final losses over those of a row, [seeds, cells]."""
    cells = [results for results in cells if named(results, name) is not None]
    ratios = loss_ratios(final_losses(cells, name, split), final_losses(cells, ADAMW, split))
    return np.log(np.clip(ratios, 1 / LARGEST_RATIO, LARGEST_RATIO))


def _ratio(cells: Sequence[Results], name: str) -> str:
    """Tuned AdamW's final training loss over that of a row."""
    logs = _log_ratios(cells, name, "train")
    return f"{np.exp(iqm(logs)):.2f}" if logs.size else "-"


def _interval(scores: np.ndarray, shown: Callable[[float], float] = lambda score: score) -> str:
    if not scores.size:
        return "-"
    point, low, high = map(shown, bootstrap(iqm, scores))
    return f"{point:.2f} ({low:.2f} to {high:.2f})"


def _meta_training(details: Any) -> str:
    card = details.get("card") or {}
    if "published_kind" in card:
        return "its authors'"
    if search := card.get("search"):
        judged = search["generations"] * search["population"]
        return (
            f"{judged} settings of {search['numbers']} numbers"
            if judged
            else f"{search['numbers']} numbers, by hand or searched before"
        )
    seconds = card.get("meta_train_seconds")
    return f"{seconds / 60:.0f} min" if isinstance(seconds, int | float) else "none"
