"""Hyper-parameter grids that grow where the best setting lies on an edge.

After the whole grid has run, the neighbourhood of the best setting is completed: per axis its next
smaller, its own and its next larger value, where a value beyond the edge continues the spacing of
the two outermost ones. What is new in it is run, and again, until the best setting has all its
neighbours or the allowance is used up.
"""

import itertools
from typing import NamedTuple

Setting = dict[str, float]


class Axis(NamedTuple):
    """One hyper-parameter.

    Attributes:
      values: ascending; at least 2, or 1 for a value that is not tuned.
      decay: False: spaced evenly in log(value), as learning rates; True: in log(1 - value), as
        momenta, which end at 0.
    """

    values: tuple[float, ...]
    decay: bool = False


Grid = dict[str, Axis]


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
        if len(values) > 1:
            if best[name] == values[0]:
                values = (*_before(axis), *values)
            if best[name] == values[-1]:
                values = (*values, *_after(axis))
        place = values.index(best[name])
        axes[name] = axis._replace(values=values)
        near[name] = Axis(values[max(place - 1, 0) : place + 2])
    return axes, settings(near)


def _before(axis: Axis) -> tuple[float, ...]:
    first, second = axis.values[:2]
    if not axis.decay:
        return (_rounded(first**2 / second),)
    if first == 0:
        return ()
    return (_rounded(max(0.0, 1 - (1 - first) ** 2 / (1 - second))),)


def _after(axis: Axis) -> tuple[float, ...]:
    last, previous = axis.values[-1], axis.values[-2]
    if not axis.decay:
        return (_rounded(last**2 / previous),)
    return (_rounded(1 - (1 - last) ** 2 / (1 - previous)),)


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
