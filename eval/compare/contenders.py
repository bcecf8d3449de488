"""Everyone who takes part is a `Contender`, and any optax transform becomes one in the same way.

With `local` it is the server optimizer over the mean pseudo-gradient of local SGD, whose workers run the optax
transform `local`; without, it gets one gradient a round, of the whole batch. The protocol's schedule is applied here,
to all of them.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import optax

from eval.compare.grids import Grid
from eval.protocol import EvalProtocol
from eval.results import Kind
from eval.schedules import scheduled
from learned_opt.algorithms.data_parallel import data_parallel
from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.base import LocalAlgorithm

MakeTransform = Callable[[Mapping[str, Any]], optax.GradientTransformation]
"""Hyper-parameters by name (scalars, possibly traced) -> optax transform."""


class Contender(NamedTuple):
    """One training algorithm with what is tuned of it.

    Attributes:
      name: in tables and files.
      make: hyper-parameters by name (scalars, possibly traced) -> algorithm of one worker.
      grid: axes by hyper-parameter; empty for what is not tuned.
      details: JSON values for the results file (a checkpoint's path and card).
      kind: what it is in tables and figures; only baselines set targets.
    """

    name: str
    make: Callable[[Mapping[str, Any]], LocalAlgorithm]
    grid: Grid
    details: Mapping[str, Any] = {}
    kind: Kind = "other"


def contender(
    name: str,
    protocol: EvalProtocol,
    transform: MakeTransform,
    grid: Grid,
    local: MakeTransform | None = None,
    details: Mapping[str, Any] | None = None,
    kind: Kind = "other",
    own_units: bool = False,
) -> Contender:
    """Any optax transform as a contender; the baselines and the learned optimizers are made by it too.

    It sees gradients (or pseudo-gradients) of training batches, the parameters, and the extra arguments `value` (the
    loss) and `worker_updates`; never an example, and nothing of another split.

    Args:
      name: in tables and files.
      protocol: of the comparison.
      transform: the server optimizer with `local`, otherwise the optimizer of data-parallel training.
      grid: what is tuned; empty for nothing.
      local: the workers' own optimizer.
      details: JSON values for the results file.
      kind: as in `Contender`.
      own_units: whether the server's step keeps its size when the pseudo-gradients shrink, as Adam's does; the
        protocol's schedule then multiplies it too, beside the workers' rate.
    """

    def make(hparams: Mapping[str, Any]) -> LocalAlgorithm:
        if local is None:
            return data_parallel(over_rounds(transform(hparams), protocol))
        server = over_rounds(transform(hparams), protocol) if own_units else transform(hparams)
        return local_sgd(over_local_steps(local(hparams), protocol), server)

    return Contender(name, make, grid, dict(details or {}), kind)


def over_rounds(transform: optax.GradientTransformation, protocol: EvalProtocol) -> optax.GradientTransformation:
    """A transform that steps once a round, under the protocol's schedule."""
    return scheduled(transform, protocol.schedule, protocol.num_rounds)


def over_local_steps(transform: optax.GradientTransformation, protocol: EvalProtocol) -> optax.GradientTransformation:
    """A transform that steps H times a round, under the protocol's schedule."""
    return scheduled(transform, protocol.schedule, protocol.num_rounds * protocol.num_local_steps)
