"""Streaming DiLoCo (Douillard et al. 2025, arXiv 2501.18512): a fragment a round, merged some steps later.

    round r:  H local steps of y_k;  p = r mod P
              x_p <- server(x_p, mean_k (x_p - y_{k,p}))                        for the tensors of fragment p alone
    round r + 1, after V steps:  y_{k,p} <- alpha y_{k,p} + (1 - alpha) x_p

Our round is the time between two communications, of one fragment each; a fragment is averaged every P rounds, or P H
steps, the H of the paper, and fragments are H steps apart. The server has a state for every fragment. With one
fragment, no delay and alpha = 0 it is `local_sgd`, e.g. DiLoCo.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.algorithms.fragments.partition import partition
from learned_opt.algorithms.round import (
    dense_bytes,
    evaluated_params,
    gather,
    local_rates,
    local_steps,
    server_step,
    worker_index,
)
from learned_opt.algorithms.server import diloco
from learned_opt.argument_checks import check_count, check_transform
from learned_opt.base import LocalAlgorithm, Params, RoundInfo, RoundState

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int, PyTree

Choice = Callable[["Int[Array, '']", "Float[Array, 'fragments']"], "Int[Array, '']"]
"""(rounds so far, norm of every fragment's pseudo-gradient, root mean square over the workers) -> fragment."""


class Shared(NamedTuple):
    """Global parameters, a server state for each fragment, rounds so far, and the fragment to be merged (-1: none)."""

    params: Params
    server_states: tuple[PyTree, ...]
    num_rounds: Int[Array, ""]
    pending: Int[Array, ""]


class Worker(NamedTuple):
    """A worker's model, and the state of its optimizer."""

    params: Params
    local_state: PyTree


def streaming_diloco(
    local_opt: optax.GradientTransformation,
    num_fragments: int,
    server_opt: optax.GradientTransformation | None = None,
    *,
    num_delay_steps: int = 0,
    alpha: float | Array = 0.0,
) -> LocalAlgorithm:
    """Streaming DiLoCo, round robin; diagnostics have the `fragment` that was sent.

    Args:
      local_opt: as for `local_sgd`; its state stays on its worker.
      num_fragments: P.
      server_opt: as for `local_sgd`, over the tensors of one fragment as a tuple; None: DiLoCo's.
      num_delay_steps: V, local steps of the next round before the average is there; below H.
      alpha: share of a worker's own tensors in the merge; 0.5 in the paper.

    Raises:
      ValueError: a negative delay; by `init`, more fragments than tensors; by `round`, a delay of H or more.
    """
    return by_fragments(
        local_opt,
        num_fragments,
        server_opt,
        lambda num_rounds, norms: num_rounds % num_fragments,
        num_delay_steps=num_delay_steps,
        alpha=alpha,
    )


def by_fragments(
    local_opt: optax.GradientTransformation,
    num_fragments: int,
    server_opt: optax.GradientTransformation | None,
    choose: Choice,
    *,
    num_delay_steps: int = 0,
    alpha: float | Array = 0.0,
) -> LocalAlgorithm:
    """As `streaming_diloco`, with a choice of the fragment; `bytes_sent` is the mean over fragments."""
    check_transform(local_opt, "local_opt")
    server = optax.with_extra_args_support(diloco() if server_opt is None else server_opt)
    check_count(num_fragments, "num_fragments")
    if num_delay_steps < 0:
        raise ValueError(f"num_delay_steps={num_delay_steps}: use at least 0")

    def init(params):
        fragments = partition(params, num_fragments)
        states = tuple(server.init(_part(params, fragments, p)) for p in range(num_fragments))
        return RoundState(Shared(params, states, jnp.int32(0), jnp.int32(-1)), Worker(params, local_opt.init(params)))

    def round_fn(loss_fn, state, key, batches):
        shared, worker = state
        fragments = partition(shared.params, num_fragments)
        params, local_state, losses = _delayed_steps(
            loss_fn, local_opt, shared, worker, key, batches, fragments, num_delay_steps, alpha
        )
        moved = jax.tree.map(jnp.subtract, shared.params, params)
        fragment = choose(shared.num_rounds, fragment_norms(moved, fragments, num_fragments))

        def communicate(p, shared):
            """Averages fragment p, a Python number: the others' tensors are not gathered."""
            own, server_state = _part(shared.params, fragments, p), shared.server_states[p]
            updates, server_state, _ = server_step(server, server_state, own, _part(moved, fragments, p), losses)
            parts: list[Any] = [_part(shared.params, fragments, i) for i in range(num_fragments)]
            parts[p] = optax.apply_updates(own, updates)
            states = tuple(server_state if i == p else old for i, old in enumerate(shared.server_states))
            return _whole(parts, shared.params, fragments), states

        branches = [lambda shared, p=p: communicate(p, shared) for p in range(num_fragments)]
        global_params, server_states = jax.lax.switch(fragment, branches, shared)
        fragment = fragment.astype(jnp.int32)
        shared = Shared(global_params, server_states, shared.num_rounds + 1, fragment)
        return RoundState(shared, Worker(params, local_state)), RoundInfo(losses, {"fragment": fragment})

    def params_of(state):
        shared = state.shared
        fragments = partition(shared.params, num_fragments)
        parts = [
            evaluated_params(_part(shared.params, fragments, p), server_state)
            for p, server_state in enumerate(shared.server_states)
        ]
        return _whole(parts, shared.params, fragments)

    def mean_bytes(params):
        return -(-dense_bytes(params) // num_fragments)

    def peak_bytes(params):
        fragments = partition(params, num_fragments)
        return max(dense_bytes(_part(params, fragments, p)) for p in range(num_fragments))

    return LocalAlgorithm(
        init,
        round_fn,
        params_of,
        mean_bytes,
        bytes_received=lambda params, num_workers: mean_bytes(params),
        peak_bytes=peak_bytes,
    )


def _delayed_steps(loss_fn, local_opt, shared, worker, key, batches, fragments, num_delay_steps, alpha):
    """The local steps of a round, with the last round's fragment merged after the first of them."""
    num_steps = jax.tree.leaves(batches)[0].shape[0]
    if num_delay_steps >= num_steps:
        raise ValueError(
            f"num_delay_steps={num_delay_steps}: the batches have {num_steps} local steps; use at most {num_steps - 1}"
        )
    params, local_state = worker
    rates = [local_rates(server_state) for server_state in shared.server_states]
    rates = None if any(rate is None for rate in rates) else _whole(rates, shared.params, fragments)
    kept = {"anchor": shared.params, "rates": rates}
    worker_key = jax.random.fold_in(key, worker_index())
    first, rest = (
        jax.tree.map(lambda x, s=s: x[s], batches) for s in (slice(num_delay_steps), slice(num_delay_steps, None))
    )
    losses = []
    if num_delay_steps:
        # Beyond the keys of the other steps.
        first_key = jax.random.fold_in(worker_key, 2 * num_steps)
        params, local_state, early, _ = local_steps(loss_fn, local_opt, params, local_state, first_key, first, **kept)
        losses.append(early)
    merged = [
        jnp.where(shared.pending == f, (alpha * y + (1 - alpha) * x).astype(y.dtype), y)
        for y, x, f in zip(jax.tree.leaves(params), jax.tree.leaves(shared.params), fragments, strict=True)
    ]
    params = jax.tree.unflatten(jax.tree.structure(params), merged)
    params, local_state, late, _ = local_steps(loss_fn, local_opt, params, local_state, worker_key, rest, **kept)
    return params, local_state, jnp.concatenate([*losses, late])


def fragment_norms(moved: Any, fragments: tuple[int, ...], num_fragments: int) -> Float[Array, "fragments"]:
    """Root mean square over the workers of the norm of every fragment; a number a fragment is sent."""
    squares = [jnp.float32(0)] * num_fragments
    for leaf, fragment in zip(jax.tree.leaves(moved), fragments, strict=True):
        squares[fragment] += jnp.sum(jnp.square(leaf.astype(jnp.float32)))
    return jnp.sqrt(jnp.mean(gather(jnp.stack(squares)), axis=0))


def _part(tree, fragments, fragment):
    """The tensors of a fragment, as a tuple."""
    return tuple(leaf for leaf, f in zip(jax.tree.leaves(tree), fragments, strict=True) if f == fragment)


def _whole(parts, like, fragments):
    """The tensors of all fragments as a tree, the inverse of `_part`."""
    left = [iter(jax.tree.leaves(part)) for part in parts]
    return jax.tree.unflatten(jax.tree.structure(like), [next(left[fragment]) for fragment in fragments])
