"""How the lines of contenders look: muted colours for baselines, strong ones for learned optimizers, an anchor dashed
in the colour of its optimizer. Any number of them: where colours come round again, dashes tell them apart."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from eval.results import ContenderResult

BASELINE_COLOURS = ("#999999", "#56b4e9", "#0072b2", "#009e73", "#e69f00", "#cc79a7", "#b2df8a", "#999933", "#88ccee")
"""After Okabe and Ito, and Tol, which colour-blind readers can tell apart."""

LEARNED_COLOURS = ("#d55e00", "#000000", "#7b3294", "#8c510a", "#b2182b")

DASHES = ("-", "--", "-.", (0, (1, 1)))


class LineStyle(NamedTuple):
    """Colour, width in points, place in depth and dashes, as matplotlib takes them."""

    colour: str
    width: float
    order: int
    dashes: str | tuple[int, tuple[int, ...]]

    def of_line(self) -> dict[str, Any]:
        """Arguments of matplotlib's `plot`."""
        return {"color": self.colour, "linewidth": self.width, "linestyle": self.dashes, "zorder": self.order}


def line_styles(contenders: Sequence[ContenderResult]) -> dict[str, LineStyle]:
    """A style for every contender."""
    styles: dict[str, LineStyle] = {}
    num_muted = num_strong = 0
    for contender in contenders:
        if "one_setting" in contender.details:
            # Beside its tuned twin, in the same colour.
            tuned = styles.get(contender.name.removesuffix("_one_setting"))
            styles[contender.name] = LineStyle("#999999" if tuned is None else tuned.colour, 0.9, 1, (0, (1, 2)))
            continue
        if contender.kind == "baseline":
            colour, turn = _in_turn(BASELINE_COLOURS, num_muted)
            styles[contender.name] = LineStyle(colour, 1.3, 2, DASHES[turn % len(DASHES)])
            num_muted += 1
            continue
        owner = next((name for name in contender.details.get("anchor_of", ()) if name in styles), None)
        if contender.kind == "anchor" and owner is not None:
            styles[contender.name] = LineStyle(styles[owner].colour, 1.3, 3, "--")
            continue
        colour, turn = _in_turn(LEARNED_COLOURS, num_strong)
        styles[contender.name] = LineStyle(colour, 2.2, 4, DASHES[turn % len(DASHES)])
        num_strong += 1
    return styles


def _in_turn(colours: tuple[str, ...], number: int) -> tuple[str, int]:
    return colours[number % len(colours)], number // len(colours)
