"""Training curves as a picture: loss against rounds, seed mean and range, targets dotted."""

import os
from pathlib import Path

import numpy as np

from eval.report.line_styles import line_styles
from eval.report.svg import legend, legend_height, number_axis
from eval.report.table import loss_text
from eval.results import Results
from eval.scores.scores import seed_band
from eval.scores.targets import BEST, TARGETS, targets

LOSS_TICKS = (1, 1.2, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8)
ROUND_TICKS = (1, 2, 5)
WIDTH, HEIGHT = 7.6, 4.6
"""Inches."""
MOST_INSIDE = 14
"""Contenders whose legend fits beside the lines; of more it stands below them, in columns."""


def draw_curves(results: Results, path: str | os.PathLike[str]) -> None:
    """Writes a PNG (or what the suffix says): mean over seeds, shaded from the lowest to the
    highest seed.

    Both axes are logarithmic; the loss axis is cut at the loss of the first measured round.
    """
    from matplotlib.figure import Figure

    # The Figure class alone draws without a display and without pyplot's global state.
    names = [f"{c.name}  {loss_text(float(seed_band(c.train_loss).mean[-1]))}" for c in results.contenders]
    is_inside = len(names) <= MOST_INSIDE
    height = HEIGHT if is_inside else HEIGHT + legend_height(names, WIDTH)
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots()
    styles = line_styles(results.contenders)
    lowest, highest = np.inf, 0.0
    for name, contender in zip(names, results.contenders, strict=True):
        band = seed_band(contender.train_loss)
        style = styles[contender.name]
        axes.plot(contender.rounds, band.mean, label=name, **style.of_line())
        shade = {"color": style.colour, "alpha": 0.2, "linewidth": 0, "zorder": style.order}
        axes.fill_between(contender.rounds, band.low, band.high, **shade)
        finite = band.low[np.isfinite(band.low)]
        lowest, highest = min([lowest, *finite]), max([highest, *finite[:1]])
    if np.isfinite(lowest):
        axes.set_ylim(0.97 * lowest, 1.02 * highest)
    axes.set_xscale("log")
    axes.set_yscale("log")
    first = results.contenders[0].rounds
    axes.set_xlim(first[0], first[-1])
    number_axis(axes.xaxis, (first[0], first[-1]), ROUND_TICKS)
    number_axis(axes.yaxis, axes.get_ylim(), LOSS_TICKS)
    # Highest first, each label on the far side of its line: the two losses are often close.
    sides = (("bottom", 2), ("top", -2))
    goals = sorted((t for t in targets(results).values() if t.name != BEST), key=lambda target: -target.loss)
    for target, (side, offset) in zip(goals, sides, strict=False):
        axes.axhline(target.loss, color="0.4", linestyle=":", linewidth=1, zorder=1)
        axes.annotate(
            f"final loss of {TARGETS[target.name]}",
            (first[0], target.loss),
            xytext=(4, offset),
            textcoords="offset points",
            verticalalignment=side,
            fontsize=8,
            color="0.35",
        )
    p = results.protocol
    axes.set_xlabel("communication round")
    axes.set_ylabel(f"training loss ({p.num_curve_examples} fixed examples)")
    axes.set_title(
        f"{p.task}: K={p.num_workers}, H={p.num_local_steps}, batch {p.batch_size}; "
        f"mean and range of {p.num_seeds} seeds",
        fontsize=10,
    )
    axes.grid(color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if is_inside:
        axes.legend(title="final loss", frameon=False, fontsize=9, title_fontsize=9, loc="upper right")
    else:
        legend(figure, [axes], WIDTH)
    figure.savefig(Path(path), dpi=160, metadata={"Software": None})
