"""What the gossip algorithms share: workers with models of their own, and the average with one's neighbours.

In this simulation all models are gathered and each worker takes its own weighted sum of them, in worker order, so that
every layout of the workers gives the same bits. A deployment would exchange them with the neighbours alone;
`bytes_sent` counts that.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt.algorithms.gossip.topology import check_weights, num_neighbours, num_senders
from learned_opt.algorithms.round import dense_bytes, gather, mean_of_workers, num_workers, worker_index
from learned_opt.algorithms.weighted_sum import weighted_sum
from learned_opt.base import Params, RoundState

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int


class Mixing(NamedTuple):
    """A topology at work, inside the named axis "workers".

    Attributes:
      average: (communications so far, worker, models of all [K, *shape]) -> this worker's average with its neighbours.
      bytes_sent: params -> bytes that a worker sends in a communication.
      bytes_received: (params, K) -> bytes that it receives in one.
    """

    average: Callable[[Int[Array, ""], Int[Array, ""], Any], Params]
    bytes_sent: Callable[[Params], int]
    bytes_received: Callable[[Params, int], int]


def make_mixing(weights: Float[np.ndarray, "period n n"]) -> Mixing:
    """Checks a topology.

    Raises:
      ValueError: see `check_weights`; by `average`, a topology for another number of workers.
    """
    weights = check_weights(weights)
    neighbours, shares = sparse_rows(weights)
    neighbours, shares = jnp.asarray(neighbours), jnp.asarray(shares)

    def average(num_communications, worker, everyone):
        if num_workers() != neighbours.shape[1]:
            raise ValueError(
                f"weights are for {neighbours.shape[1]} workers and there are {num_workers()}: use the topology of "
                f"{num_workers()}"
            )
        turn = num_communications % neighbours.shape[0]
        return weighted_sum(shares[turn, worker], everyone, neighbours[turn, worker])

    return Mixing(
        average,
        lambda params: num_neighbours(weights) * dense_bytes(params),
        lambda params, _: num_senders(weights) * dense_bytes(params),
    )


def sparse_rows(
    weights: Float[np.ndarray, "period n n"],
) -> tuple[Int[np.ndarray, "period n terms"], Float[np.ndarray, "period n terms"]]:
    """(workers, weights) of the terms of every row that are not zero, in worker order, so that what is not a number
    reaches neighbours alone; rows with fewer terms than others are filled up with zero times the worker's own."""
    num_terms = max(1, int((weights != 0).sum(axis=2).max()))
    is_zero = weights == 0
    order = np.argsort(is_zero, axis=2, kind="stable")[:, :, :num_terms]
    shares = np.take_along_axis(weights, order, axis=2).astype(np.float32)
    own = np.broadcast_to(np.arange(weights.shape[1])[None, :, None], order.shape)
    return np.where(shares == 0, own, order), shares


def mix_with_neighbours(mixing: Mixing, num_communications: Int[Array, ""], params: Params) -> tuple[Params, Any]:
    """(this worker's average with its neighbours, the models of all [K, *shape] before it)."""
    everyone = gather(params)
    return mixing.average(num_communications, worker_index(), everyone), everyone


def consensus_distance(everyone: Any) -> Float[Array, ""]:
    """Mean squared distance of the workers' models from their mean, Xi^2 of Kong et al. 2021 (arXiv 2102.04828)."""
    squares = [
        jnp.sum(jnp.square(x.astype(jnp.float32) - m.astype(jnp.float32)[None])) / x.shape[0]
        for x, m in zip(jax.tree.leaves(everyone), jax.tree.leaves(mean_of_workers(everyone)), strict=True)
    ]
    return functools.reduce(jnp.add, squares)


def root_mean_square_norm(everyone: Any) -> Float[Array, ""]:
    """Root of the mean over the workers of the squared norm of theirs, of leaves [K, *shape]."""
    leaves = [x.astype(jnp.float32) for x in jax.tree.leaves(everyone) if x.size]
    # Divided by the largest first: a square that overflows would stay in a running mean for good.
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(x)) for x in leaves]))
    scale = jnp.where(largest > 0, largest, 1)
    squares = [jnp.sum(jnp.square(x / scale)) / x.shape[0] for x in leaves]
    return scale * jnp.sqrt(functools.reduce(jnp.add, squares))


def at_round(learning_rate: Any, num_rounds: Int[Array, ""]) -> Any:
    """A learning rate that is a number, or an optax schedule over rounds."""
    return learning_rate(num_rounds) if callable(learning_rate) else learning_rate


def mean_params(state: RoundState) -> Params:
    """Mean of the workers' models: the field `params` of `worker`, with its [workers] axis."""
    return mean_of_models(state.worker.params)


def mean_of_models(models: Any) -> Params:
    """Mean over the leading [workers] axis.

    Added one by one: a sum over an axis that is spread over devices has an order of the backend's choice.
    """
    return jax.tree.map(lambda x: functools.reduce(jnp.add, list(x)) / x.shape[0], models)
