"""What a round of an algorithm costs one worker: bytes, gradients, memory.

Bytes are those of a server that gathers the workers' messages and sends a mean back, or of an exchange among all where
the messages of the others are shorter (SparseLoCo's are); gossip exchanges models with neighbours. Both are those of
the encoded messages, not of what this simulation moves.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import jax

from learned_opt.algorithms.round import dense_bytes
from learned_opt.argument_checks import check_count
from learned_opt.base import LocalAlgorithm, Params

if TYPE_CHECKING:
    from jaxtyping import PyTree


class RoundCost(NamedTuple):
    """Of one worker.

    Attributes:
      bytes_sent: a round; a communication, where the round's diagnostics count `communications`.
      bytes_received: likewise.
      peak_bytes: sent at once, at most.
      gradients: minibatch gradients, a round.
      state_bytes_per_parameter: kept between rounds beside one copy of the parameters, shared state included.
    """

    bytes_sent: int
    bytes_received: int
    peak_bytes: int
    gradients: float
    state_bytes_per_parameter: float


def round_cost(algorithm: LocalAlgorithm, params: Params, num_workers: int, num_local_steps: int) -> RoundCost:
    """The cost of a round; nothing is computed.

    Args:
      algorithm: of one worker, as it is written, not driven by `simulate` or `spread`.
      params: of the model.
      num_workers: K; one worker communicates nothing.
      num_local_steps: H.

    Raises:
      ValueError: K or H below 1.
    """
    check_count(num_workers, "num_workers")
    check_count(num_local_steps, "num_local_steps")
    state = num_bytes(jax.eval_shape(algorithm.init, params)) - num_bytes(params)
    num_params = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    sent = received = peak = 0
    if num_workers > 1:
        sent = algorithm.bytes_sent(params)
        peak = sent if algorithm.peak_bytes is None else algorithm.peak_bytes(params)
        if algorithm.bytes_received is None:
            received = min(dense_bytes(params), (num_workers - 1) * sent)
        else:
            received = algorithm.bytes_received(params, num_workers)
    return RoundCost(sent, received, peak, algorithm.gradients(num_local_steps), state / max(num_params, 1))


def num_bytes(tree: PyTree) -> int:
    """Of all arrays of a tree, or of what `jax.eval_shape` returns in their place."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
