"""The diagnostics by name. A literal table: to add one is to add a file and its line."""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from eval.diagnostics.base import Diagnostic
from eval.diagnostics.distance import DISTANCE
from eval.diagnostics.feature_spectrum import FEATURE_SPECTRUM
from eval.diagnostics.fisher_trace import FISHER_TRACE
from eval.diagnostics.sharpness import SHARPNESS
from eval.diagnostics.worker_agreement import WORKER_AGREEMENT
from eval.references import made_by

DIAGNOSTICS: dict[str, Diagnostic] = {
    diagnostic.name: diagnostic
    for diagnostic in (*WORKER_AGREEMENT, SHARPNESS, FISHER_TRACE, FEATURE_SPECTRUM, DISTANCE)
}

GROUPS: dict[str, tuple[str, ...]] = {
    "worker_agreement": tuple(diagnostic.name for diagnostic in WORKER_AGREEMENT),
    "all": tuple(DIAGNOSTICS),
}
"""Names that stand for several."""


def chosen(references: Sequence[str]) -> tuple[Diagnostic, ...]:
    """The diagnostics of names, groups and references of functions that return one.

    Raises:
      ValueError: nothing of that name, something else, or two of one name.
    """
    table = {name: lambda diagnostic=diagnostic: diagnostic for name, diagnostic in DIAGNOSTICS.items()}
    found: dict[str, Diagnostic] = {}
    for reference in [name for given in references for name in GROUPS.get(given, (given,))]:
        made = made_by(reference, table, "diagnostic")
        if not isinstance(made, Diagnostic):
            raise ValueError(f"diagnostic {reference!r} returned {type(made).__name__}: return a Diagnostic")
        if found.setdefault(made.name, made) != made:
            raise ValueError(f"two diagnostics are called {made.name!r}: rename one")
    return tuple(found.values())


def round_measure(references: Sequence[str], num_workers: int) -> Callable[[Any], dict[str, jax.Array]] | None:
    """What every round measures of the workers' pseudo-gradients; None for nothing, and for a single worker."""
    measured = [diagnostic for diagnostic in chosen(references) if diagnostic.needs == "round"]
    if not measured or num_workers < 2:
        return None
    return lambda worker_updates: {diagnostic.name: diagnostic.measure(worker_updates) for diagnostic in measured}


def description(diagnostic: Diagnostic) -> str:
    """One line: the first of its docstring."""
    return (diagnostic.measure.__doc__ or "").strip().partition("\n")[0]
