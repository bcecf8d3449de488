"""Hyper-parameter grids that grow where the best setting lies on an edge.

After the whole grid has run, the neighbourhood of the best setting is completed: per axis its next
smaller, its own and its next larger value, where values beyond the edge continue the spacing of the
two outermost ones, as many as it takes to double or halve the outermost (one for decays). What is new
is run, and again, until the best setting has all its neighbours or the allowance is used up: k
extensions reach a factor of 2^k beyond the first grid at least.
"""

import itertools
import math
from typing import NamedTuple

Setting = dict[str, float]


class GridAxis(NamedTuple):
    """One hyper-parameter.

    Attributes:
      values: ascending; at least 2, or 1 for a value that is not tuned.
      decay: False: spaced evenly in log(value), as learning rates; True: in log(1 - value), as
        momenta, which end at 0.
    """

    values: tuple[float, ...]
    decay: bool = False


Grid = dict[str, GridAxis]


def log_spaced(low: float, high: float, number: int) -> tuple[float, ...]:
    """`number` values from low to high with a constant ratio, to four significant digits."""
    ratio = (high / low) ** (1 / (number - 1))
    return tuple(float(f"{low * ratio**i:.4g}") for i in range(number))


def settings(grid: Grid) -> list[Setting]:
    """Every combination, the last axis fastest; one empty setting for an empty grid."""
    names = list(grid)
    combinations = itertools.product(*(grid[name].values for name in names))
    return [dict(zip(names, values, strict=True)) for values in combinations]


def grow(grid: Grid, best: Setting) -> tuple[Grid, list[Setting]]:
    """Completes the neighbourhood of the best setting.

    Returns:
      The axes with their new values, and all settings of the neighbourhood, those run before
      included.
    """
    axes, near = {}, {}
    for name, axis in grid.items():
        values = axis.values
        before, after = (), ()
        if len(values) > 1:
            before = _before(axis) if best[name] == values[0] else ()
            after = _after(axis) if best[name] == values[-1] else ()
        values = (*before, *values, *after)
        place = values.index(best[name])
        axes[name] = axis._replace(values=values)
        near[name] = GridAxis(values[place - max(len(before), min(place, 1)) : place + max(len(after), 1) + 1])
    return axes, settings(near)


def for_batch(axis: GridAxis, times: float, adaptive: bool) -> GridAxis:
    """Learning rates for steps on `times` as many examples as those of the axis.

    The rate at which noise stays as it is: in proportion to the batch for SGD, to its root for adaptive optimizers
    (Granziol, Zohren & Roberts 2022, arXiv 2006.09092). Beyond some batch SGD's best rate stands still, so the rule
    says where a sweep begins and not where it ends; grids grow.

    Args:
      axis: of the learning rate.
      times: examples a step over those that the axis is for; with K workers and H local steps, K H B of a round.
      adaptive: whether the optimizer's steps do not grow with the gradient.

    Raises:
      ValueError: `times` is not positive.
    """
    if not 0 < times < math.inf:
        raise ValueError(f"times={times}: use a positive finite number")
    factor = math.sqrt(times) if adaptive else times
    return axis._replace(values=tuple(_rounded(value * factor) for value in axis.values))


def budgeted(grid: Grid, tuning: str) -> Grid:
    """The grid under a budget of `eval.protocol.TUNING_BUDGETS`; written for "full"."""
    return grid if tuning == "full" else coarse(grid)


def coarse(grid: Grid) -> Grid:
    """A third of the settings: every third value of the longest axis, from its second one on, or, where no axis has
    more than three values, the last tuned axis held at its middle value."""
    tuned = [name for name, axis in grid.items() if len(axis.values) > 1]
    if not tuned:
        return grid
    longest = max(tuned, key=lambda name: len(grid[name].values))
    if len(grid[longest].values) > 3:
        return {**grid, longest: grid[longest]._replace(values=grid[longest].values[1::3])}
    values = grid[tuned[-1]].values
    return {**grid, tuned[-1]: grid[tuned[-1]]._replace(values=(values[len(values) // 2],))}


def _before(axis: GridAxis) -> tuple[float, ...]:
    first, second = axis.values[:2]
    if axis.decay:
        return () if first == 0 else (_rounded(max(0.0, 1 - (1 - first) ** 2 / (1 - second))),)
    return _beyond(first, first / second)[::-1]


def _after(axis: GridAxis) -> tuple[float, ...]:
    last, previous = axis.values[-1], axis.values[-2]
    if axis.decay:
        return (_rounded(1 - (1 - last) ** 2 / (1 - previous)),)
    return _beyond(last, last / previous)


def _beyond(edge: float, ratio: float) -> tuple[float, ...]:
    """edge * ratio^1, ^2, ... until twice or half the edge is reached or passed; the tolerance is that of rounded
    grids."""
    number = math.ceil(math.log(2) / abs(math.log(ratio)) - 0.01)
    return tuple(_rounded(edge * ratio**i) for i in range(1, number + 1))


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
