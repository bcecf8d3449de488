"""The report's figures as SVG text; the same results give the same bytes."""

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from eval.report.line_styles import LineStyle, everyone, line_styles
from eval.report.tables import contender_names
from eval.results import Results
from eval.scores.measures import speed_up_scores
from eval.scores.scores import seed_band
from eval.scores.statistics import bootstrap, iqm, performance_profile
from eval.scores.targets import DILOCO, LOCAL_SGD, TARGETS, targets
from eval.sweep.axes import meta_training_range
from eval.sweep.sweep import Sweep

CELLS_PER_ROW = 3
LOSS_TICKS = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
LOG_AXIS_FACTOR = 8
"""An axis whose positive values span more than this factor is drawn logarithmically."""


def draw_svg(draw: Callable[[Any], None], width: float, height: float) -> str:
    """The SVG of a figure that `draw` fills; inches."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.hashsalt": "learned_opt", "svg.fonttype": "path", "font.size": 9}):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()


def aggregate_figure(cells: Sequence[Results]) -> str:
    """IQM speed-ups with their intervals, a panel for each target."""
    from matplotlib.ticker import MaxNLocator

    names = contender_names(cells)
    styles = line_styles(list(everyone(cells).values()))

    def draw(figure):
        panels = figure.subplots(1, len(TARGETS), sharey=True)
        for axes, (target, title) in zip(panels, TARGETS.items(), strict=True):
            for place, name in enumerate(names):
                scores = speed_up_scores(cells, name, target)
                if scores.size:
                    found = bootstrap(iqm, scores)
                    colour = styles[name].colour
                    axes.plot([found.low, found.high], [place, place], color=colour, linewidth=5, alpha=0.35)
                    axes.plot(found.point, place, "o", color=colour, markersize=6)
            axes.axvline(1, color="0.4", linestyle=":", linewidth=1)
            axes.set_title(f"over {title}", fontsize=10)
            axes.set_yticks(range(len(names)), names)
            axes.set_xlim(left=-0.04 * axes.get_xlim()[1])
            axes.xaxis.set_major_locator(MaxNLocator(4))
            _plain(axes)
        panels[0].invert_yaxis()
        figure.supxlabel("speed-up in rounds to the baseline's final training loss (IQM, 95% interval)", fontsize=9)

    return draw_svg(draw, 9, 0.9 + 0.28 * len(names))


def profile_figure(cells: Sequence[Results]) -> str:
    """Share of the runs whose speed-up exceeds a threshold, over Local SGD and over DiLoCo."""
    names = contender_names(cells)
    styles = line_styles(list(everyone(cells).values()))

    def draw(figure):
        panels = figure.subplots(1, 2, sharey=True)
        for axes, target in zip(panels, (LOCAL_SGD, DILOCO), strict=True):
            highest = 2.0
            for name in names:
                scores = speed_up_scores(cells, name, target)
                if scores.size:
                    highest = max(highest, float(np.quantile(scores, 0.95)))
            thresholds = np.linspace(0, 1.1 * highest, 221)
            for name in names:
                scores = speed_up_scores(cells, name, target)
                if scores.size:
                    colour, width, _, dashes = styles[name]
                    axes.step(
                        thresholds,
                        performance_profile(scores, list(thresholds)),
                        color=colour,
                        linewidth=width,
                        linestyle=dashes,
                        where="post",
                        label=name,
                    )
            axes.axvline(1, color="0.4", linestyle=":", linewidth=1)
            axes.set_xlabel(f"speed-up over {TARGETS[target]}")
            axes.set_ylim(0, 1.02)
            axes.set_xlim(0, thresholds[-1])
            _plain(axes)
        panels[0].set_ylabel("share of runs above it")
        _legend(figure, panels)

    return draw_svg(draw, 9, 3.6)


def curves_figure(cells: dict[str, Results]) -> str:
    """Training curves of every cell, seed mean and range."""
    styles = line_styles(list(everyone(list(cells.values())).values()))
    columns = min(CELLS_PER_ROW, len(cells))
    rows = -(-len(cells) // columns)

    def draw(figure):
        panels = figure.subplots(rows, columns, squeeze=False).reshape(-1)
        for axes in panels[len(cells) :]:
            axes.set_visible(False)
        for axes, (cell, results) in zip(panels, cells.items(), strict=False):
            _draw_cell(axes, cell, results, styles)
        _legend(figure, panels[: len(cells)])

    return draw_svg(draw, 3.2 * max(columns, 2), (2.5 if rows > 1 else 3.4) * rows + 0.7)


def axis_figure(sweep: Sweep) -> str:
    """Speed-up over Local SGD and test loss along an axis; where an optimizer was meta-trained is shaded in its
    colour."""
    finished = list(sweep.finished.values())
    names, styles = contender_names(finished), line_styles(list(everyone(finished).values()))

    def draw(figure):
        panels = figure.subplots(1, 2)
        shaded = set()
        for name in names:
            speed, loss = _axis_points(sweep, name)
            colour, width, _, dashes = styles[name]
            line = {"color": colour, "linewidth": width, "linestyle": dashes, "marker": "o", "markersize": 3}
            for axes, (x, points) in zip(panels, (speed, loss), strict=True):
                if len(x):
                    axes.plot(x, points[0], label=name, **line)
                    axes.fill_between(x, points[1], points[2], color=colour, alpha=0.15, linewidth=0)
            for band in _ranges(sweep, name, sweep.plan.card_field):
                for axes in panels:
                    _shade(axes, band, colour)
                shaded.add(band)
        values = [cell.value for cell in sweep.plan.cells if cell.value is not None]
        logarithmic = min(values) > 0 and max(values) / min(values) > LOG_AXIS_FACTOR
        for axes in panels:
            if logarithmic:
                axes.set_xscale("log")
            axes.set_xticks(values, [f"{value:g}" for value in values])
            axes.minorticks_off()
            axes.set_xlabel((sweep.plan.label or sweep.plan.name) + (" (shaded: meta-training)" if shaded else ""))
            _plain(axes)
        panels[0].axhline(1, color="0.4", linestyle=":", linewidth=1)
        panels[0].set_ylabel("speed-up over Local SGD (IQM)")
        panels[0].set_ylim(bottom=0)
        panels[1].set_ylabel("final test loss")
        _legend(figure, panels)

    return draw_svg(draw, 9, 4.0)


def _axis_points(sweep: Sweep, name: str):
    """((values, [point, low, high]) of the speed-up, the same of the test loss)."""
    speed_x, speed, loss_x, loss = [], [], [], []
    for cell in sweep.plan.cells:
        results = sweep.finished.get(cell.name)
        if results is None:
            continue
        scores = speed_up_scores([results], name, LOCAL_SGD)
        if scores.size:
            speed_x.append(cell.value)
            speed.append(bootstrap(iqm, scores, resample_tasks=False))
        for contender in results.contenders:
            values = contender.final["test"]["loss"]
            if contender.name == name and np.isfinite(values).all():
                loss_x.append(cell.value)
                loss.append((np.mean(values), np.min(values), np.max(values)))
    return (speed_x, np.array(speed, float).T), (loss_x, np.array(loss, float).T)


def _ranges(sweep: Sweep, name: str, field: str | None):
    """The meta-training range of a learned optimizer, at most one."""
    for results in sweep.finished.values():
        for contender in results.contenders:
            if contender.name == name and "card" in contender.details:
                found = meta_training_range(contender.details["card"], field)
                return [] if found is None else [found]
    return []


def _shade(axes, band, colour) -> None:
    low, high = band
    # A single value still gets a visible strip.
    axes.axvspan(
        low * 0.93 if low == high else low, high * 1.07 if low == high else high, color=colour, alpha=0.12, lw=0
    )


def _draw_cell(axes, cell: str, results: Results, styles: dict[str, LineStyle]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    lowest, highest = np.inf, 0.0
    for contender in results.contenders:
        band = seed_band(contender.train_loss)
        colour, width, order, dashes = styles[contender.name]
        axes.plot(
            contender.rounds,
            band.mean,
            color=colour,
            linewidth=width,
            linestyle=dashes,
            zorder=order,
            label=contender.name,
        )
        axes.fill_between(contender.rounds, band.low, band.high, color=colour, alpha=0.15, linewidth=0)
        finite = band.low[np.isfinite(band.low)]
        lowest, highest = min([lowest, *finite]), max([highest, *finite[:1]])
    for target in targets(results).values():
        axes.axhline(target.loss, color="0.5", linestyle=":", linewidth=0.8, zorder=1)
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(plain)
    if np.isfinite(lowest):
        positive = lowest > 0
        if positive:
            axes.set_yscale("log")
            # Ranges of less than a decade get a tick at every step.
            wide = highest > 10 * lowest
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 3) if wide else LOSS_TICKS))
            axes.yaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_formatter(plain)
        margin = 0.05 * (highest - lowest)
        axes.set_ylim(0.95 * lowest if positive else lowest - margin, 1.05 * highest if positive else highest + margin)
    axes.set_title(cell, fontsize=9)
    axes.set_xlabel("round", fontsize=8)
    axes.set_ylabel("training loss", fontsize=8)
    axes.tick_params(labelsize=7, which="both")
    _plain(axes)


def _plain(axes) -> None:
    axes.grid(color="0.92", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _legend(figure, panels) -> None:
    handles = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=min(5, max(1, len(handles))), frameon=False
    )
