"""The report's figures over all cells and along an axis."""

from collections.abc import Sequence

import numpy as np

from eval.report.line_styles import line_styles
from eval.report.svg import draw_svg, legend, legend_height, plain
from eval.report.tables import contender_names
from eval.results import Results, everyone
from eval.scores.rivals import speed_up_scores, target_setter
from eval.scores.statistics import bootstrap, iqm, performance_profile
from eval.scores.targets import DILOCO, LOCAL_SGD, TARGETS
from eval.sweep.axes import meta_training_range
from eval.sweep.sweep import Sweep

WIDTH = 11.0
"""Inches."""
LOG_AXIS_FACTOR = 8
"""An axis whose positive values span more than this factor is drawn logarithmically."""


def aggregate_figure(cells: Sequence[Results]) -> str:
    """IQM speed-ups with their intervals, a panel for each target."""
    from matplotlib.ticker import MaxNLocator

    names = contender_names(cells)
    styles = line_styles(list(everyone(cells).values()))

    def draw(figure):
        panels = figure.subplots(1, len(TARGETS), sharey=True)
        for axes, (target, title) in zip(panels, TARGETS.items(), strict=True):
            for place, name in enumerate(names):
                scores = speed_up_scores(cells, name, target_setter(target))
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
            plain(axes)
        panels[0].invert_yaxis()
        figure.supxlabel("speed-up in rounds to the baseline's final training loss (IQM, 95% interval)", fontsize=9)

    return draw_svg(draw, WIDTH, 1.0 + 0.25 * len(names))


def profile_figure(cells: Sequence[Results]) -> str:
    """Share of the runs whose speed-up exceeds a threshold, over Local SGD and over DiLoCo."""
    names = contender_names(cells)
    styles = line_styles(list(everyone(cells).values()))

    def draw(figure):
        panels = figure.subplots(1, 2, sharey=True)
        for axes, target in zip(panels, (LOCAL_SGD, DILOCO), strict=True):
            scores = {name: speed_up_scores(cells, name, target_setter(target)) for name in names}
            scores = {name: values for name, values in scores.items() if values.size}
            highest = max([2.0, *(float(np.quantile(values, 0.95)) for values in scores.values())])
            thresholds = np.linspace(0, 1.1 * highest, 221)
            for name, values in scores.items():
                profile = performance_profile(values, list(thresholds))
                axes.step(thresholds, profile, where="post", label=name, **styles[name].of_line())
            axes.axvline(1, color="0.4", linestyle=":", linewidth=1)
            axes.set_xlabel(f"speed-up over {TARGETS[target]}")
            axes.set_ylim(0, 1.02)
            axes.set_xlim(0, thresholds[-1])
            plain(axes)
        panels[0].set_ylabel("share of runs above it")
        legend(figure, panels, WIDTH)

    return draw_svg(draw, WIDTH, 3.4 + legend_height(names, WIDTH))


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
            line, colour = styles[name].of_line(), styles[name].colour
            for axes, (x, points) in zip(panels, (speed, loss), strict=True):
                if len(x):
                    axes.plot(x, points[0], label=name, marker="o", markersize=3, **line)
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
            plain(axes)
        panels[0].axhline(1, color="0.4", linestyle=":", linewidth=1)
        panels[0].set_ylabel("speed-up over Local SGD (IQM)")
        panels[0].set_ylim(bottom=0)
        panels[1].set_ylabel("final test loss")
        legend(figure, panels, WIDTH)

    return draw_svg(draw, WIDTH, 3.8 + legend_height(names, WIDTH))


def _axis_points(sweep: Sweep, name: str):
    """((values, [point, low, high]) of the speed-up, the same of the test loss)."""
    speed_x, speed, loss_x, loss = [], [], [], []
    for cell in sweep.plan.cells:
        results = sweep.finished.get(cell.name)
        if results is None:
            continue
        scores = speed_up_scores([results], name, target_setter(LOCAL_SGD))
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
            if contender.name == name and contender.kind == "learned":
                found = meta_training_range(contender.details.get("card", {}), field)
                return [] if found is None else [found]
    return []


def _shade(axes, band, colour) -> None:
    low, high = band
    # A single value still gets a visible strip.
    axes.axvspan(
        low * 0.93 if low == high else low, high * 1.07 if low == high else high, color=colour, alpha=0.12, lw=0
    )
