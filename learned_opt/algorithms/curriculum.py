"""A curriculum on every worker: its examples in the order of their loss, easy ones first.

    of the M = H B examples of a round, the loss of each at the model that the worker begins with;
    the first ceil(g_t M) in that order, easiest first, are dealt into the H batches, again from the first when all are
    dealt;   g_t = pacing(t)

As in studies of curricula on one machine (Wu, Dyer & Neyshabur 2021, arXiv 2012.03107) and in federated learning
(Vahidian et al. 2023, arXiv 2212.12712), whose data order it is: nothing else of an algorithm changes. They score all
of a worker's data; here it is what the round has drawn. A round costs M losses more, and no gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from learned_opt.algorithms.measured import measured_inside
from learned_opt.algorithms.post_local_sgd import Shared
from learned_opt.algorithms.round import num_workers, worker_index
from learned_opt.argument_checks import checked_loss
from learned_opt.base import LocalAlgorithm, RoundState

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

ORDERS = ("easy", "hard", "random")
"""Easiest first, hardest first (anti-curriculum), and none, which is the control."""

SHAPES: dict[str, Callable[[Any], Any]] = {
    "linear": lambda p: p,
    "quadratic": jnp.square,
    "root": jnp.sqrt,
    "step": lambda p: jnp.floor(p),
}
"""How the share of examples grows from the start of a curriculum (p = 0) to its end (p = 1)."""


def pacing(
    num_rounds: int, first_share: float = 0.2, until: float = 0.8, shape: str = "linear"
) -> Callable[[Int[Array, ""]], Float[Array, ""]]:
    """Share of the examples that take part: g_t = b + (1 - b) f(t / (a T)), at most 1.

    Args:
      num_rounds: T, of the training.
      first_share: b, of the first round.
      until: a, share of the training after which all examples take part.
      shape: f, of SHAPES.

    Raises:
      ValueError: shares out of range, or a shape that is not there.
    """
    for name, value in (("first_share", first_share), ("until", until)):
        if not 0 < value <= 1:
            raise ValueError(f"{name}={value}: use more than 0 and at most 1")
    if shape not in SHAPES:
        raise ValueError(f"shape={shape!r}: use one of {', '.join(SHAPES)}")
    length = max(until * num_rounds, 1.0)
    return lambda t: first_share + (1 - first_share) * SHAPES[shape](jnp.minimum(t.astype(jnp.float32) / length, 1.0))


def with_curriculum(
    algorithm: LocalAlgorithm,
    share: Callable[[Int[Array, ""]], Float[Array, ""]],
    order: str = "easy",
) -> LocalAlgorithm:
    """An algorithm whose workers see their examples in order.

    Args:
      algorithm: of one worker, whose shared or own state has a field `params`.
      share: rounds so far -> share of the examples that take part, from `pacing` or any optax schedule.
      order: of ORDERS.

    Raises:
      ValueError: an order that is not there; by `round`, a state without `params`.
    """
    if order not in ORDERS:
        raise ValueError(f"order={order!r}: use one of {', '.join(ORDERS)}")

    def init(params):
        shared, worker = algorithm.init(params)
        return RoundState(Shared(shared, jnp.int32(0)), worker)

    def round_fn(loss_fn, state, key, batches):
        (shared, num_rounds), worker = state
        inner = RoundState(shared, worker)
        num_steps, batch_size = jax.tree.leaves(batches)[0].shape[:2]
        examples = jax.tree.map(lambda x: x.reshape(num_steps * batch_size, *x.shape[2:]), batches)
        # Beyond the keys of the workers.
        order_key = jax.random.fold_in(jax.random.fold_in(key, 2 * num_workers()), worker_index())
        if order == "random":
            ranking = jax.random.permutation(order_key, num_steps * batch_size)
        else:
            ranking = by_loss(loss_fn, own_params(inner), order_key, examples, order == "hard")
        chosen = dealt(ranking, share(num_rounds))
        batches = jax.tree.map(lambda x: x[chosen].reshape(num_steps, batch_size, *x.shape[1:]), examples)
        (shared, worker), info = algorithm.round(loss_fn, inner, key, batches)
        return RoundState(Shared(shared, num_rounds + 1), worker), info

    return algorithm._replace(
        init=init,
        round=round_fn,
        params=lambda state: algorithm.params(RoundState(state.shared.shared, state.worker)),
        measured=measured_inside(algorithm, lambda inner: with_curriculum(inner, share, order)),
    )


def by_loss(loss_fn: Any, params: Any, key: jax.Array, examples: Any, hardest_first: bool) -> Int[Array, "examples"]:
    """Indices of the examples by their loss, what is not a number last."""
    loss = checked_loss(loss_fn)
    losses = jax.vmap(lambda example: loss(params, key, jax.tree.map(lambda x: x[None], example)))(examples)
    return jnp.argsort(-losses if hardest_first else losses)


def dealt(ranking: Int[Array, "examples"], share: Any) -> Int[Array, "examples"]:
    """The first ceil(share M) of a ranking of M, at least one, again and again until there are M."""
    size = ranking.shape[0]
    # A share that is a whole number of examples but for rounding must not have one more.
    count = jnp.clip(jnp.ceil(share * size - 1e-3), 1, size).astype(jnp.int32)
    return ranking[jnp.arange(size) % count]


def own_params(state: RoundState) -> Any:
    """The model that this worker begins with."""
    for part in (state.worker, state.shared):
        if hasattr(part, "params"):
            return part.params
    raise ValueError(
        f"state of {type(state.shared).__name__} has no field params: put the curriculum around the algorithm itself"
    )
