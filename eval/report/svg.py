"""How the report's figures are drawn: SVG text, the same results give the same bytes, and nothing is cut."""

import io
import math
from collections.abc import Callable, Sequence
from typing import Any

INCHES_PER_LETTER = 0.072
"""Width of a letter of a legend, about."""
INCHES_PER_HANDLE = 0.55
INCHES_PER_ROW = 0.19


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


def plain(axes) -> None:
    """A light grid behind, no frame above and on the right."""
    axes.grid(color="0.92", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def legend(figure, panels: Any, width: float) -> None:
    """One legend for all panels below them, in as many columns as fit the figure's width in inches."""
    handles = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if handles:
        figure.legend(
            handles.values(),
            handles.keys(),
            loc="outside lower center",
            ncols=legend_columns(list(handles), width),
            frameon=False,
            fontsize=8,
        )


def legend_columns(names: Sequence[str], width: float) -> int:
    """Columns of a legend that fit the width in inches."""
    entry = INCHES_PER_HANDLE + INCHES_PER_LETTER * max(map(len, names))
    return max(1, min(len(names), int(0.96 * width / entry)))


def legend_height(names: Sequence[str], width: float) -> float:
    """Inches that the legend of these names takes."""
    return 0.15 + INCHES_PER_ROW * math.ceil(len(names) / legend_columns(names, width)) if names else 0.0


def number_axis(axis, values: tuple[Any, Any], subs: tuple[float, ...]) -> None:
    """Ticks of a logarithmic axis as plain numbers, at `subs` times powers of ten within the values."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = values
    axis.set_major_locator(LogLocator(subs=subs if high < 100 * low else (1,)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
