"""How an algorithm of learned_opt.algorithms becomes a tuned baseline, and the axes that the grids of several share."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from eval.compare.contenders import Contender, over_local_steps
from eval.compare.grids import Grid, GridAxis, budgeted, log_spaced, settings
from eval.protocol import EvalProtocol
from eval.schedules import factor
from learned_opt.base import LocalAlgorithm

Hparams = Mapping[str, Any]
MakeAlgorithm = Callable[[Hparams, optax.GradientTransformation, EvalProtocol], LocalAlgorithm]
"""(hyper-parameters, the workers' optimizer under the protocol's schedule, protocol) -> algorithm of one worker."""

LOCAL_LR = GridAxis((0.25, 0.5, 1.0))
ADAM_LR = GridAxis((0.001, 0.003, 0.01))
SERVER_LR = GridAxis((0.3, 0.7, 1.4))
MOMENTUM = GridAxis((0.5, 0.8, 0.9), decay=True)
MANY_LOCAL_LRS = GridAxis(log_spaced(0.03, 3.0, 27))
SOME_LOCAL_LRS = GridAxis(log_spaced(0.03, 3.0, 9))
SOME_ADAM_LRS = GridAxis(log_spaced(0.001, 0.1, 9))
MANY_LRS = GridAxis(log_spaced(0.01, 10.0, 27))
"""Of one step a round."""
WEIGHT_DECAY = GridAxis((0.001, 0.01, 0.1))
DILOCO_GRID: Grid = {"local_lr": LOCAL_LR, "server_lr": SERVER_LR, "momentum": MOMENTUM}


def rival(
    name: str,
    make: MakeAlgorithm,
    grid: Grid,
    local: Callable[[Hparams], optax.GradientTransformation] = lambda h: optax.sgd(h["local_lr"]),
    of_steps: bool = True,
) -> Callable[[EvalProtocol], Contender]:
    """protocol -> the baseline of that name; an error of the algorithm's about its settings is raised then.

    Args:
      name: in tables and references.
      make: see `MakeAlgorithm`.
      grid: what is tuned.
      local: hyper-parameters -> the workers' optimizer.
      of_steps: whether the protocol's schedule is applied to it, over its steps; False: `make` does.
    """

    def baseline(protocol: EvalProtocol) -> Contender:
        def algorithm(hparams: Hparams) -> LocalAlgorithm:
            workers = local(hparams)
            return make(hparams, over_local_steps(workers, protocol) if of_steps else workers, protocol)

        algorithm(settings(grid)[0])
        return Contender(name, algorithm, budgeted(grid, protocol.tuning), kind="baseline")

    return baseline


class RoundRatesState(NamedTuple):
    """State of `averaging_over_rounds`: rounds, and what the workers' rates are multiplied by in the next one."""

    count: Any
    local_rates: Any


def averaging_over_rounds(protocol: EvalProtocol) -> optax.GradientTransformation:
    """The plain average, by a server that sets the workers' rates: the schedule over rounds, for algorithms that choose
    how many steps a round has. Over the steps they take, a schedule would end in its middle."""
    if protocol.schedule == "constant":
        return optax.sgd(1.0)

    def rates(like, count):
        now = factor(protocol.schedule, count, protocol.num_rounds)
        return jax.tree.map(lambda leaf: now, like)

    def init(params):
        return RoundRatesState(jnp.int32(0), rates(params, jnp.int32(0)))

    def update(updates, state, params=None):
        del params
        count = state.count + 1
        return jax.tree.map(jnp.negative, updates), RoundRatesState(count, rates(updates, count))

    return optax.GradientTransformation(init, update)


def rate_over_rounds(hparams: Hparams, protocol: EvalProtocol) -> Callable[[Any], Any]:
    """The local learning rate as a schedule over rounds."""
    return lambda round: hparams["local_lr"] * factor(protocol.schedule, round, protocol.num_rounds)


def rate_over_local_steps(hparams: Hparams, protocol: EvalProtocol) -> Callable[[Any], Any]:
    """The local learning rate as a schedule over the local steps of the run."""
    num_steps = protocol.num_rounds * protocol.num_local_steps
    return lambda step: hparams["local_lr"] * factor(protocol.schedule, step, num_steps)
