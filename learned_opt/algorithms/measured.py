"""Rounds that show what the workers sent to those who measure it: their spread, spectra, anything of [K, *shape].

An algorithm whose workers send pseudo-gradients to a common average has the field `measured`; gossip, fragments and
steps on gradients alone do not, and what is wanted of them is left out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from learned_opt.base import LocalAlgorithm, Measure, Params, RoundInfo, RoundState


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


def measurable(
    init: Callable[[Params], RoundState],
    round_fn: Callable[..., tuple[RoundState, RoundInfo]],
    params: Callable[[RoundState], Params],
    bytes_sent: Callable[[Params], int],
    **fields: Any,
) -> LocalAlgorithm:
    """The algorithm of a round that can be measured, and is not measured at first.

    Args:
      init, params, bytes_sent: of the algorithm.
      round_fn: (measure, loss_fn, state, key, batches) -> state and info, with what `measure` makes of the messages
        among the diagnostics.
      **fields: further ones of the algorithm.
    """
    return LocalAlgorithm(
        init,
        functools.partial(round_fn, lambda sent: {}),
        params,
        bytes_sent,
        measured=lambda measure: functools.partial(round_fn, measure),
        **fields,
    )


def measured_inside(
    algorithm: LocalAlgorithm, around: Callable[[LocalAlgorithm], LocalAlgorithm]
) -> Callable[[Measure], Callable[..., tuple[RoundState, RoundInfo]]] | None:
    """The field `measured` of what `around` makes of an algorithm, whose messages are the algorithm's; None where it
    has none."""
    if algorithm.measured is None:
        return None
    return lambda measure: around(measured(algorithm, measure)).round
