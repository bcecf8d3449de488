"""The diagnostics by name. A literal table: to add one is to add a file and its line."""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from eval.diagnostics.balancedness import BALANCEDNESS
from eval.diagnostics.base import Diagnostic
from eval.diagnostics.distance import DISTANCE
from eval.diagnostics.example_coherence import EXAMPLE_COHERENCE
from eval.diagnostics.feature_spectrum import FEATURE_SPECTRUM
from eval.diagnostics.fisher_trace import FISHER_TRACE
from eval.diagnostics.hessian_trace import HESSIAN_TRACE
from eval.diagnostics.input_sensitivity import INPUT_SENSITIVITY
from eval.diagnostics.neural_collapse import NEURAL_COLLAPSE
from eval.diagnostics.ntk_drift import NTK_DRIFT
from eval.diagnostics.path_geometry import PATH_GEOMETRY
from eval.diagnostics.pseudo_gradient_spectrum import PSEUDO_GRADIENT_SPECTRUM
from eval.diagnostics.radial_fraction import RADIAL_FRACTION
from eval.diagnostics.sharpness import SHARPNESS
from eval.diagnostics.stability import BOUND, STABILITY
from eval.diagnostics.worker_agreement import WORKER_AGREEMENT
from eval.references import made_by
from tasks.base import TaskFamily

DIAGNOSTICS: dict[str, Diagnostic] = {
    diagnostic.name: diagnostic
    for diagnostic in (
        *WORKER_AGREEMENT,
        *PSEUDO_GRADIENT_SPECTRUM,
        *PATH_GEOMETRY,
        SHARPNESS,
        HESSIAN_TRACE,
        *STABILITY,
        FISHER_TRACE,
        *FEATURE_SPECTRUM,
        INPUT_SENSITIVITY,
        *NEURAL_COLLAPSE,
        EXAMPLE_COHERENCE,
        NTK_DRIFT,
        DISTANCE,
        *RADIAL_FRACTION,
        BALANCEDNESS,
    )
}

GROUPS: dict[str, tuple[str, ...]] = {
    "worker_agreement": tuple(diagnostic.name for diagnostic in WORKER_AGREEMENT),
    "path_geometry": tuple(diagnostic.name for diagnostic in PATH_GEOMETRY),
    "neural_collapse": tuple(diagnostic.name for diagnostic in NEURAL_COLLAPSE),
    "cheap": (
        *(diagnostic.name for diagnostic in (*WORKER_AGREEMENT, *PATH_GEOMETRY, *NEURAL_COLLAPSE, *RADIAL_FRACTION)),
        "activation_spectrum",
        "input_sensitivity",
        "example_coherence",
        "distance_from_initialisation",
        "balancedness_drift",
    ),
    "all": tuple(DIAGNOSTICS),
}
"""Names that stand for several, for those of them that the task has what they need for; each of the cheap ones costs
less than a tenth of the training (python -m eval.speed.diagnostics)."""

BOUNDS: dict[str, float] = {diagnostic.name: BOUND for diagnostic in STABILITY}
"""Values that curves are to be read against, drawn as a dotted line."""


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


def measurable(references: Sequence[str], family: TaskFamily) -> tuple[Diagnostic, ...]:
    """The chosen diagnostics that a family has what they need for; a group may lose some of its members.

    Raises:
      ValueError: as `chosen`; or the family lacks what one needs that was named by itself, or all of a group.
    """
    known: dict[Callable[[TaskFamily], str | None], str | None] = {}

    def lack(diagnostic: Diagnostic) -> str | None:
        for check in () if diagnostic.requires is None else diagnostic.requires.checks:
            if check not in known:
                known[check] = check(family)
            if known[check] is not None:
                return known[check]
        return None

    kept = set()
    for reference in references:
        members = chosen((reference,))
        fitting = [diagnostic.name for diagnostic in members if lack(diagnostic) is None]
        if members and not fitting:
            needed = members[0].requires
            assert needed is not None
            raise ValueError(
                f"diagnostics={reference!r}: the task family {family.name} {lack(members[0])}; leave it out, or use "
                f"one that has {needed.words}: {needed.families}"
            )
        kept.update(fitting)
    return tuple(diagnostic for diagnostic in chosen(references) if diagnostic.name in kept)


SENT = "sent"
"""Name under which an algorithm hands what its workers sent to those who measure it, see `round_measure`."""


def handed_over(worker_updates: Any) -> dict[str, Any]:
    """The `measure` of an algorithm that is measured from outside, where what is wanted in a round is known."""
    return {SENT: worker_updates}


def round_measure(references: Sequence[str], num_workers: int) -> Callable[[Any], dict[str, jax.Array]] | None:
    """What is measured of the workers' pseudo-gradients of a round; None for nothing, and for a single worker."""
    measured = [diagnostic for diagnostic in chosen(references) if diagnostic.needs == "round"]
    if not measured or num_workers < 2:
        return None
    return lambda worker_updates: {diagnostic.name: diagnostic.measure(worker_updates) for diagnostic in measured}


def description(diagnostic: Diagnostic) -> str:
    """One line: the first of its docstring."""
    return (diagnostic.measure.__doc__ or "").strip().partition("\n")[0]
