"""Who averages with whom: mixing matrices W, with x_i <- sum_j W_ij x_j.

A topology is an array [period, workers, workers] of doubly stochastic matrices, taken in turn, one a communication. A
period of them shrinks the disagreement of the workers by 1 - spectral gap, or to less.

    ring, torus, social_network, complete    undirected, Metropolis-Hastings weights 1 / (1 + max(d_i, d_j))
    static_exponential                       from i + 1, i + 2, i + 4, ..., all at once (Ying et al. 2021, 2110.13363)
    one_peer_exponential                     from i + 2^t, one at a time; after log2(n) of them, if n is a power of
                                             two, every worker has the exact mean

The social network is that of Davis, Gardner & Gardner 1941: 18 women and 14 events, who was seen where; gossip on it as
in Lin et al. 2021 (arXiv 2102.04761).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from learned_opt.argument_checks import check_count

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

ATTENDANCE = (
    (1, 2, 3, 4, 5, 6, 8, 9),
    (1, 2, 3, 5, 6, 7, 8),
    (2, 3, 4, 5, 6, 7, 8, 9),
    (1, 3, 4, 5, 6, 7, 8),
    (3, 4, 5, 7),
    (3, 5, 6, 8),
    (5, 6, 7, 8),
    (6, 8, 9),
    (5, 7, 8, 9),
    (7, 8, 9, 12),
    (8, 9, 10, 12),
    (8, 9, 10, 12, 13, 14),
    (7, 8, 9, 10, 12, 13, 14),
    (6, 7, 9, 10, 11, 12, 13, 14),
    (7, 8, 10, 11, 12),
    (8, 9),
    (9, 11),
    (9, 11),
)
"""Events, numbered from 1, at which each woman was seen."""


def ring(num_workers: int) -> Float[np.ndarray, "1 n n"]:
    """Neighbours to the left and to the right."""
    return torus(num_workers, 1)


def torus(num_workers: int, num_rows: int | None = None) -> Float[np.ndarray, "1 n n"]:
    """Neighbours on four sides of a grid without borders.

    Args:
      num_workers: n.
      num_rows: a divisor of n; None: the largest up to its root.

    Raises:
      ValueError: rows that do not divide n.
    """
    _check_number(num_workers)
    if num_rows is None:
        num_rows = max(rows for rows in range(1, math.isqrt(num_workers) + 1) if num_workers % rows == 0)
    if num_rows < 1 or num_workers % num_rows:
        raise ValueError(f"num_rows={num_rows}: use a divisor of num_workers={num_workers}")
    places = np.arange(num_workers).reshape(num_rows, -1)
    is_edge = np.zeros((num_workers, num_workers), bool)
    for axis in (0, 1):
        for shift in (-1, 1):
            is_edge[places.ravel(), np.roll(places, shift, axis).ravel()] = True
    return metropolis(is_edge)


def complete(num_workers: int) -> Float[np.ndarray, "1 n n"]:
    """Everybody: the mean, as a server would take it."""
    _check_number(num_workers)
    return metropolis(np.ones((num_workers, num_workers), bool))


def static_exponential(num_workers: int) -> Float[np.ndarray, "1 n n"]:
    """Those 1, 2, 4, ... further on, and oneself, with equal weights; directed."""
    _check_number(num_workers)
    shifts = [0, *(2**p for p in range((num_workers - 1).bit_length()))]
    return np.mean([_shift(num_workers, shift) for shift in shifts], axis=0)[None]


def one_peer_exponential(num_workers: int) -> Float[np.ndarray, "period n n"]:
    """Half of oneself and half of the one 2^t further on, t = 0, 1, ..., log2(n) - 1 in turn; directed."""
    _check_number(num_workers)
    shifts = [2**p for p in range((num_workers - 1).bit_length())] or [0]
    return np.stack([(_shift(num_workers, 0) + _shift(num_workers, shift)) / 2 for shift in shifts])


def social_network(num_workers: int = 32) -> Float[np.ndarray, "1 32 32"]:
    """18 women and 14 events.

    Raises:
      ValueError: another number of workers.
    """
    if num_workers != 32:
        raise ValueError(f"num_workers={num_workers}: use 32, the social network has as many nodes")
    is_edge = np.zeros((32, 32), bool)
    for woman, events in enumerate(ATTENDANCE):
        is_edge[woman, [17 + event for event in events]] = True
    return metropolis(is_edge | is_edge.T)


TOPOLOGIES: dict[str, Callable[[int], np.ndarray]] = {
    "ring": ring,
    "torus": torus,
    "complete": complete,
    "static_exponential": static_exponential,
    "one_peer_exponential": one_peer_exponential,
    "social_network": social_network,
}
"""Name -> number of workers -> mixing matrices."""


def metropolis(is_edge: Bool[np.ndarray, "n n"]) -> Float[np.ndarray, "1 n n"]:
    """Metropolis-Hastings weights of an undirected graph: symmetric, rows sum to one. The diagonal is ignored."""
    is_edge = is_edge & ~np.eye(len(is_edge), dtype=bool)
    degrees = is_edge.sum(axis=1)
    weights = is_edge / (1 + np.maximum(degrees[:, None], degrees[None]))
    return (weights + np.diag(1 - weights.sum(axis=1)))[None]


def spectral_gap(weights: Float[np.ndarray, "period n n"]) -> float:
    """1 - the largest factor by which a period may shrink a disagreement; 1 - abs(lambda_2) of a symmetric matrix."""
    num_workers = weights.shape[-1]
    product = np.eye(num_workers)
    for matrix in weights:
        product = matrix @ product
    return float(1 - np.linalg.norm(product - 1 / num_workers, ord=2))


def num_neighbours(weights: Float[np.ndarray, "period n n"]) -> int:
    """Models that a worker sends in a communication, at most."""
    return int(_is_edge(weights).sum(axis=1).max())


def num_senders(weights: Float[np.ndarray, "period n n"]) -> int:
    """Models that a worker receives in a communication, at most; of a directed graph it may be another number."""
    return int(_is_edge(weights).sum(axis=2).max())


def check_weights(weights: Any) -> Float[np.ndarray, "period n n"]:
    """The weights as an array.

    Raises:
      ValueError: what does not average: no square matrices, sums other than one, a graph that is not connected.
    """
    try:
        weights = np.asarray(weights, np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            f"weights={str(weights)[:60]}: use an array [period, workers, workers], as topology.ring(8) returns"
        ) from None
    if weights.ndim != 3 or weights.shape[1] != weights.shape[2] or 0 in weights.shape:
        raise ValueError(f"weights have shape {weights.shape}: use [period, workers, workers]")
    for what, axis in (("row", 2), ("column", 1)):
        sums = weights.sum(axis=axis)
        matrix, index = np.unravel_index(np.argmax(np.abs(sums - 1)), sums.shape)
        if not abs(sums[matrix, index] - 1) < 1e-6:
            raise ValueError(
                f"weights: {what} {index} of matrix {matrix} sums to {sums[matrix, index]:.6g}: use rows and columns "
                "that sum to 1, e.g. topology.metropolis"
            )
    reached = np.any(weights != 0, axis=0) | np.eye(weights.shape[-1], dtype=bool)
    for _ in range(weights.shape[-1].bit_length()):
        reached = reached @ reached
    if not reached.all():
        to, origin = np.argwhere(~reached)[0]
        raise ValueError(f"weights: nothing of worker {origin} ever reaches worker {to}: use a connected graph")
    return weights


def _is_edge(weights):
    return (weights != 0) & ~np.eye(weights.shape[-1], dtype=bool)[None]


def _shift(num_workers, shift):
    """Worker i receives from i + shift."""
    return np.roll(np.eye(num_workers), shift, axis=1)


def _check_number(num_workers):
    check_count(num_workers, "num_workers")
