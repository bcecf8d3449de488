"""Rounds that show what the workers sent to those who measure it: their spread, spectra, anything of [K, *shape].

An algorithm whose workers send pseudo-gradients to a common average has the field `measured`; gossip, fragments and
steps on gradients alone do not, and what is wanted of them is left out.
"""

from __future__ import annotations

from learned_opt.base import LocalAlgorithm, Measure


def measured(algorithm: LocalAlgorithm, measure: Measure) -> LocalAlgorithm:
    """The algorithm with what `measure` makes of the workers' messages among the diagnostics of every round.

    Args:
      algorithm: of one worker.
      measure: what all workers sent, leaves [K, *shape], after any compression -> scalars by name, or what is to be
        measured outside.

    Returns:
      The algorithm itself where it has no such messages.
    """
    return algorithm if algorithm.measured is None else algorithm._replace(round=algorithm.measured(measure))
