"""Checks of the numbers that a learned optimizer is built with."""

from __future__ import annotations

import math

from learned_opt.argument_checks import check_count


def check_at_least_one(**sizes: int) -> None:
    """ValueError for a size that is no whole number above 0, named by its argument."""
    for name, size in sizes.items():
        check_count(size, name)


def check_between(low: float, high: float, **numbers: float) -> None:
    """ValueError for a number that is not strictly between the two, named by its argument."""
    for name, number in numbers.items():
        if not low < number < high:
            bounds = " and ".join(
                text for text, bound in ((f"above {low:g}", low), (f"below {high:g}", high)) if math.isfinite(bound)
            )
            raise ValueError(f"{name}={number}: use a number {bounds or 'that is finite'}")
