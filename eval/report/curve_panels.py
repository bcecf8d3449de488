"""Curves of every cell, a panel each: training loss with the targets, metrics on the test split, diagnostics."""

from collections.abc import Callable
from typing import Any

import numpy as np

from eval.diagnostics.table import BOUNDS
from eval.protocol import EvalProtocol
from eval.report.line_styles import LineStyle, line_styles
from eval.report.svg import draw_svg, legend, legend_height, number_axis, plain
from eval.results import ContenderResult, Results, everyone
from eval.scores.scores import seed_band
from eval.scores.targets import TARGETS, Target, targets

CELLS_PER_ROW = 3
PANEL_WIDTH = 3.7
"""Inches."""
ROUND_TICKS = (1.0, 2.0, 5.0)
LOSS_TICKS = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
SAME_LINE = 0.05
"""Targets nearer to each other than this share of the panel's height share a label."""
BLOWN_UP = 10.0
"""A loss that begins or ends above this many times the median of the first ones does not set the range of its panel."""
PEAK_BLOWN_UP = 1000.0
"""Nor does the peak of a diagnostic, which may grow far without anything being wrong."""

Curve = Callable[[ContenderResult], tuple[Any, Any] | None]
"""A contender's rounds and its values [seeds, points]; None where there are none."""

Spent = Callable[[ContenderResult, EvalProtocol], Any]
"""What a contender had spent at every point of its curve, [seeds, points]."""


def training_curves(cells: dict[str, Results]) -> str:
    """Training losses, seed mean and range, with the targets dotted."""

    def curve(contender: ContenderResult):
        return contender.rounds, contender.train_loss

    return _figure(cells, curve, "training loss", with_targets=True)


def spending_curves(cells: dict[str, Results], spent: Spent, label: str) -> str:
    """Training losses against what had been spent by then, the mean over seeds."""
    moved = {
        cell: results._replace(
            contenders=tuple(c._replace(rounds=np.mean(spent(c, results.protocol), axis=0)) for c in results.contenders)
        )
        for cell, results in cells.items()
    }
    return _figure(moved, lambda c: (c.rounds, c.train_loss), "training loss", x_label=label)


def metric_curves(cells: dict[str, Results]) -> dict[str, str]:
    """A figure for every metric that was measured on the test split along the runs, by its name."""
    found = {name for results in cells.values() for c in results.contenders for name in c.test_curves}
    names = sorted(found, key=lambda name: (name != "loss", name))

    def curve_of(metric: str) -> Curve:
        return lambda c: (c.test_rounds, c.test_curves[metric]) if metric in c.test_curves else None

    return {name: _figure(_with(cells, curve_of(name)), curve_of(name), f"test {name}") for name in names}


def diagnostic_curves(cells: dict[str, Results], name: str) -> str | None:
    """A diagnostic along the runs, at the rounds where it was measured; None where it is undefined for everyone."""

    def curve(contender: ContenderResult):
        values = contender.diagnostics.get(name)
        if values is None:
            return None
        points = np.isfinite(values).any(axis=0)
        return (contender.rounds[points], values[:, points]) if points.any() else None

    measured = _with(cells, curve)
    if not measured:
        return None
    return _figure(measured, curve, name.replace("_", " "), bound=BOUNDS.get(name), peaks_count=True)


def _with(cells: dict[str, Results], curve: Curve) -> dict[str, Results]:
    """The cells in which somebody has such a curve."""
    return {cell: results for cell, results in cells.items() if any(curve(c) is not None for c in results.contenders)}


def _figure(
    cells: dict[str, Results],
    curve: Curve,
    label: str,
    with_targets: bool = False,
    x_label: str = "round",
    bound: float | None = None,
    peaks_count: bool = False,
) -> str:
    contenders = everyone(list(cells.values()))
    styles = line_styles(list(contenders.values()))
    names = [name for name, c in contenders.items() if curve(c) is not None]
    columns = min(CELLS_PER_ROW, len(cells))
    rows = -(-len(cells) // columns)
    width = PANEL_WIDTH * max(columns, 2)

    def draw(figure):
        panels = figure.subplots(rows, columns, squeeze=False).reshape(-1)
        for axes in panels[len(cells) :]:
            axes.set_visible(False)
        for axes, (cell, results) in zip(panels, cells.items(), strict=False):
            _draw_panel(axes, results, curve, styles, label, peaks_count)
            if with_targets:
                _draw_targets(axes, list(targets(results).values()), int(results.contenders[0].rounds[0]))
            if bound is not None:
                low, high = axes.get_ylim()
                axes.axhline(bound, color="0.5", linestyle=":", linewidth=0.8, zorder=1)
                axes.set_ylim(min(low, bound / 1.5), max(high, 1.5 * bound))
            axes.set_title(cell, fontsize=9)
            axes.set_xlabel(x_label, fontsize=8)
            axes.set_ylabel(label, fontsize=8)
            axes.tick_params(labelsize=7, which="both")
            plain(axes)
        legend(figure, panels[: len(cells)], width)

    return draw_svg(draw, width, (2.7 if rows > 1 else 3.4) * rows + legend_height(names, width))


def _draw_panel(
    axes, results: Results, curve: Curve, styles: dict[str, LineStyle], label: str, peaks_count: bool = False
) -> None:
    """Losses on a logarithmic axis where they are positive, others where they span a decade; the upper end is where the
    curves begin or end, or their highest point where peaks count."""
    lows, starts, ends, peaks, first, last = [], [], [], [], [], []
    for contender in results.contenders:
        found = curve(contender)
        if found is None:
            continue
        rounds, values = found
        band = seed_band(values)
        style = styles[contender.name]
        axes.plot(rounds, band.mean, label=contender.name, **style.of_line())
        axes.fill_between(rounds, band.low, band.high, color=style.colour, alpha=0.15, linewidth=0)
        finite = band.mean[np.isfinite(band.mean)]
        if finite.size:
            lows.append(finite.min())
            # Rising curves, of an accuracy say, end high; falling ones begin high.
            starts.append(finite[0])
            ends.append(finite[-1])
            peaks.append(finite.max())
            first.append(rounds[0])
            last.append(rounds[-1])
    if not lows:
        return
    low, usual = float(min(lows)), float(np.median(starts))
    blown_up = PEAK_BLOWN_UP if peaks_count else BLOWN_UP if label.endswith("loss") else np.inf
    bound = blown_up * usual if usual > 0 else np.inf
    ranged = (*starts, *ends, *(peaks if peaks_count else ()))
    high = max([low, *(float(value) for value in ranged if value <= bound)])
    axes.set_xscale("log")
    number_axis(axes.xaxis, (float(min(first)), float(max(last))), ROUND_TICKS)
    if low > 0 and high > (1.5 if label.endswith("loss") else 10) * low:
        axes.set_yscale("log")
        number_axis(axes.yaxis, (low, high), LOSS_TICKS)
        axes.set_ylim(0.93 * low, 1.07 * high)
    else:
        margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
        axes.set_ylim(low - margin, high + margin)


def _draw_targets(axes, goals: list[Target], first_round: Any) -> None:
    """Dotted lines with their names at the left end, where falling curves leave room; near ones share a label."""
    groups: list[list[Target]] = []
    for goal in sorted(goals, key=lambda goal: -goal.loss):
        if groups and _height(axes, groups[-1][0].loss) - _height(axes, goal.loss) < SAME_LINE:
            groups[-1].append(goal)
        else:
            groups.append([goal])
        axes.axhline(goal.loss, color="0.5", linestyle=":", linewidth=0.8, zorder=1)
    for group in groups:
        axes.annotate(
            ", ".join(TARGETS[goal.name] for goal in group),
            (first_round, group[0].loss),
            xytext=(2, 1),
            textcoords="offset points",
            fontsize=6,
            color="0.35",
        )


def _height(axes, loss: float) -> float:
    """Where a loss lies in a panel: 0 at its lower end, 1 at its upper."""
    return float(axes.transAxes.inverted().transform(axes.transData.transform((1.0, loss)))[1])
