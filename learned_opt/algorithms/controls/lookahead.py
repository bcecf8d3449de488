"""Lookahead (Zhang et al. 2019, arXiv 1907.08610): slow parameters that follow the end of every H fast steps.

    y <- x;  H times: y <- opt(y, mean_k grad loss(y; batch_{k,h}));   x <- x - a (x - y)

A step back toward the old parameters every H steps, without any worker drifting: what `local_sgd` gains beyond this is
not owed to averaging in time. Any other server optimizer may take the step on x - y (SNOO: Nesterov's). Published for
one worker; with several, their gradients are averaged at every step, which is one worker with their batches together.
The state of `opt` goes on from round to round, as in `optax.lookahead`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.algorithms.controls.synchronous import synchronous_steps
from learned_opt.algorithms.round import dense_bytes, evaluated_params, gather, local_rates, server_step
from learned_opt.argument_checks import check_count, check_transform
from learned_opt.base import LocalAlgorithm, Params, RoundInfo, RoundState

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree


class Shared(NamedTuple):
    """Slow parameters x, and the states of the slow and of the fast optimizer."""

    params: Params
    server_state: PyTree
    opt_state: PyTree


def lookahead(
    opt: optax.GradientTransformation, num_local_steps: int, slow_learning_rate: float | Array = 0.5
) -> LocalAlgorithm:
    """Lookahead around `opt`.

    Args:
      opt: fast optimizer, of mean gradients.
      num_local_steps: H, steps between two slow ones; the paper's k, 5 to 10 there.
      slow_learning_rate: a; 1 is `opt` alone.

    Raises:
      ValueError: H below 1; by `round`, batches of another number of steps.
    """
    return two_loops(opt, optax.sgd(slow_learning_rate), num_local_steps)


def two_loops(
    opt: optax.GradientTransformation, server_opt: optax.GradientTransformation, num_local_steps: int
) -> LocalAlgorithm:
    """Lookahead with any server optimizer for the slow step, fed x - y as the pseudo-gradient of a single worker."""
    check_transform(opt, "opt")
    check_transform(server_opt, "server_opt")
    fast, slow = optax.with_extra_args_support(opt), optax.with_extra_args_support(server_opt)
    num_local_steps = check_count(num_local_steps, "num_local_steps")

    def init(params):
        return RoundState(Shared(params, slow.init(params), fast.init(params)), ())

    def round_fn(loss_fn, state, key, batches):
        start, server_state, opt_state = state.shared
        params, opt_state, losses = synchronous_steps(
            loss_fn, fast, start, opt_state, key, batches, num_local_steps, local_rates(server_state)
        )
        moved = jax.tree.map(jnp.subtract, start, params)
        # The workers moved as one.
        mean_losses = jnp.mean(gather(losses), axis=0)
        updates, server_state, _ = server_step(slow, server_state, start, moved, mean_losses, axis_name=None)
        shared = Shared(optax.apply_updates(start, updates), server_state, opt_state)
        return RoundState(shared, ()), RoundInfo(losses, {})

    return LocalAlgorithm(
        init,
        round_fn,
        lambda state: evaluated_params(*state.shared[:2]),
        lambda params: num_local_steps * dense_bytes(params),
        bytes_received=lambda params, num_workers: num_local_steps * dense_bytes(params),
        peak_bytes=dense_bytes,
    )
