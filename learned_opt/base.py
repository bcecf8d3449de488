"""The types of the library: a learned optimizer, and a distributed training algorithm that it takes part in.

A learned optimizer is two pure functions and a description: `init` draws the meta-parameters `theta`, `transform` turns
them into an ordinary optax transform, and `config` says in JSON how to build the same pair again, which is what a
checkpoint stores. A `LocalAlgorithm` is written for one worker, with collectives over the named axis "workers"; what is
equal on every worker and what is a worker's own are two fields of its state. `learned_opt.algorithms.round` has what
drives it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import jax
import optax

if TYPE_CHECKING:
    from jaxtyping import Array, Float, PyTree

Theta = Any
"""Meta-parameters: any tree of float32 arrays; each architecture has its own."""

Params = Any
"""Parameters of the model in training: any tree of arrays."""

LossFn = Callable[[Any, jax.Array, Any], jax.Array]
"""(params, key, batch) -> scalar loss, the mean over the batch."""

Measure = Callable[[Any], dict[str, Any]]
"""What all workers sent, leaves [K, *shape] -> diagnostics by name."""

Reads = Literal["gradient", "mean", "workers", "statistics"]
"""What a learned optimizer is fed: gradients, the mean pseudo-gradient, every worker's own, or statistics of them."""


class LearnedOptimizer(NamedTuple):
    """A learned optimizer.

    Attributes:
      init: key -> theta. The layout of theta does not depend on the task it will be used on.
      transform: (theta, num_steps=None) -> optax transform; `num_steps` is the length of the training, in updates, for
        those that read it. The transform's `update(updates, state, params, *, worker_updates=None, value=None,
        **extra)` takes gradients, or mean pseudo-gradients (params_before - params_after, Reddi et al. 2021, arXiv
        2003.00295), and returns updates to add to the parameters.
      config: `{"architecture": name, **arguments}`, JSON-serialisable; `learned_opt.from_config` is its inverse.
      reads: what `updates` must be. "gradient": gradients of minibatches, on a single machine. The others are server
        optimizers of local SGD, fed pseudo-gradients: "mean" needs nothing else, "workers" needs `worker_updates`
        [K, *shape] beside it, and "statistics" takes what can be had of them by all-reduce.
      num_workers: K, for an optimizer that is tied to one number of workers; None: any.
    """

    init: Callable[[jax.Array], Theta]
    transform: Callable[..., optax.GradientTransformationExtraArgs]
    config: dict[str, Any]
    reads: Reads = "mean"
    num_workers: int | None = None


class RoundState(NamedTuple):
    """State of an algorithm between rounds.

    Attributes:
      shared: equal on every worker: global parameters, server state, a control variate.
      worker: this worker's own: local optimizer state, error feedback, its model; with a leading [workers] axis
        outside the named axis.
    """

    shared: PyTree
    worker: PyTree


class RoundInfo(NamedTuple):
    """What a round met.

    Attributes:
      losses: minibatch losses, each before its local step: [local steps] of one worker, [workers, local steps] outside
        the named axis; the first is at the parameters that the round began with.
      diagnostics: by name, equal on every worker; scalars, or a tree that someone outside is to measure.
    """

    losses: Float[Array, "*workers steps"]
    diagnostics: dict[str, Any]


class LocalAlgorithm(NamedTuple):
    """A communication-efficient training algorithm.

    As it is written, `init` and `round` are those of one worker, inside the named axis "workers"; what `simulate` and
    `spread` return has the same type and takes all workers at once.

    Attributes:
      init: params -> RoundState.
      round: (loss_fn, state, key, batches) -> (RoundState, RoundInfo); leaves of `batches` are [local steps, batch,
        ...], driven: [workers, local steps, batch, ...].
      params: state, with its [workers] axis -> the parameters to evaluate.
      bytes_sent: params -> bytes that one worker sends in a round, encoded; in each communication, where the round's
        diagnostics count `communications`.
      bytes_received: (params, K) -> bytes that it receives as often; None: the mean in full, or the messages of the
        K - 1 others where these are shorter.
      peak_bytes: params -> bytes that it sends at once, at most; None: all of `bytes_sent`.
      gradients: H -> minibatch gradients that it computes in a round, unless the diagnostics count `num_local_steps`.
      waits: whether a round ends with its slowest worker.
      measured: (what all workers sent [K, *shape] -> diagnostics by name) -> `round` with these among its diagnostics,
        see `learned_opt.algorithms.measured`; None where no pseudo-gradients meet.
    """

    init: Callable[[Params], RoundState]
    round: Callable[[LossFn, RoundState, jax.Array, Any], tuple[RoundState, RoundInfo]]
    params: Callable[[RoundState], Params]
    bytes_sent: Callable[[Params], int]
    bytes_received: Callable[[Params, int], int] | None = None
    peak_bytes: Callable[[Params], int] | None = None
    gradients: Callable[[int], float] = float
    waits: bool = True
    measured: Callable[[Measure], Callable[..., tuple[RoundState, RoundInfo]]] | None = None
