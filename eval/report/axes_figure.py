"""Losses of a learned optimizer over its anchor's along several axes: what learning adds, and where it stops."""

from collections.abc import Sequence

import numpy as np

from eval.report.line_styles import line_styles
from eval.report.svg import draw_svg, legend, legend_height, plain
from eval.results import ContenderResult, Results, everyone, named
from eval.scores.rivals import own_anchor
from eval.sweep.sweep import Sweep

WIDTH = 11.0
"""Inches."""
COLUMNS = 3


def axes_figure(sweeps: Sequence[Sweep]) -> str | None:
    """A panel for each axis: final training (solid) and test losses (dotted) over those of the optimizer's own anchor,
    geometric means over the seeds; None where no axis has a learned optimizer with an anchor beside it."""
    sweeps = [sweep for sweep in sweeps if sweep.plan.kind == "axis" and sweep.finished]
    finished = [results for sweep in sweeps for results in sweep.finished.values()]
    names = [name for name, c in everyone(finished).items() if c.kind == "learned" and _has_anchor(finished, name)]
    if not names:
        return None
    styles = line_styles(list(everyone(finished).values()))
    rows = -(-len(sweeps) // COLUMNS)

    def draw(figure):
        panels = figure.subplots(rows, min(COLUMNS, len(sweeps)), sharey=True, squeeze=False).flatten()
        for axes, sweep in zip(panels, sweeps, strict=False):
            for name in names:
                for which, dashes in (("training", "-"), ("test", ":")):
                    x, ratios = _ratios(sweep, name, which)
                    axes.plot(
                        x, ratios, dashes, color=styles[name].colour, marker="o", markersize=3, label=f"{name}, {which}"
                    )
            values = [cell.value for cell in sweep.plan.cells if cell.value is not None]
            axes.set_xscale("log")
            axes.set_xticks(values, [f"{value:g}" for value in values])
            axes.minorticks_off()
            axes.axhline(1, color="0.4", linestyle="--", linewidth=1)
            axes.set_xlabel(sweep.plan.label or sweep.plan.name)
            plain(axes)
        for axes in panels[len(sweeps) :]:
            axes.set_visible(False)
        figure.supylabel("final loss over the anchor's", fontsize=9)
        legend(figure, panels, WIDTH)

    return draw_svg(draw, WIDTH, 0.3 + 2.3 * rows + legend_height([f"{name}, training" for name in names], WIDTH))


def _has_anchor(finished: Sequence[Results], name: str) -> bool:
    return any(own_anchor(name)(results) is not None for results in finished)


def _ratios(sweep: Sweep, name: str, which: str) -> tuple[list[float], list[float]]:
    """Values of the axis and the ratios there; without cells that lack one of both."""
    x, ratios = [], []
    for cell in sweep.plan.cells:
        results = sweep.finished.get(cell.name)
        if results is None or cell.value is None:
            continue
        mine, anchor = named(results, name), own_anchor(name)(results)
        if mine is None or anchor is None:
            continue
        ratio = np.exp(np.mean(np.log(_losses(mine, which)) - np.log(_losses(anchor, which))))
        if np.isfinite(ratio):
            x.append(cell.value)
            ratios.append(float(ratio))
    return x, ratios


def _losses(contender: ContenderResult, which: str) -> np.ndarray:
    """Of every seed, at the end."""
    losses = np.asarray(contender.train_loss)[:, -1] if which == "training" else contender.final["test"]["loss"]
    return np.asarray(losses, np.float64)
