"""Sequential gradient coding by selective repeat (Krishnan et al. 2023, arXiv 2211.13802): a shorter code is enough,
because what is missing is sent again B rounds later.

    in round t, with r_t workers whose c_i(t) has arrived, and a code that decodes from any n - s:
    n - s - r_{t-B} workers (none if that is not above 0) of those whose c_i(t - B) has not arrived send it,
    all others send c_i(t) of this round;  then the gradient of round t - B is decoded

Where in any W = xB + 1 rounds at most L workers are late, each in a burst of at most B rounds, every gradient is exact
with s = ceil(B L / (W - 1 + B)), about half of what a code without repeats needs at W = B + 1. Otherwise decoding is
that of least squares.

A deviation: the paper trains B + 1 models in turn, each of which waits for its own gradient. One model does not wait
here: it takes the gradient at the parameters of B rounds before,  x_{t+1} = opt(x_t, g(x_{t-B})).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.algorithms.round import gather, num_workers, worker_index
from learned_opt.algorithms.stragglers.gilbert_elliott import GilbertElliott, check_chain
from learned_opt.algorithms.stragglers.gradient_coding import coded_algorithm, coded_step, is_late, make_coder
from learned_opt.argument_checks import check_count, check_transform
from learned_opt.base import LocalAlgorithm, Params, RoundInfo, RoundState

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Array, Bool, Int, PyTree


class Shared(NamedTuple):
    """Parameters, the state of the optimizer, and rounds that have passed."""

    params: Params
    opt_state: PyTree
    num_rounds: Int[Array, ""]


class Worker(NamedTuple):
    """What a worker keeps of the last B rounds, the oldest first.

    Attributes:
      coded: (loss, gradient) as it sends them, leaves [B, *shape].
      has_arrived: [B], whether the server has them.
      is_slow: whether this worker was late in the last round.
    """

    coded: PyTree
    has_arrived: Bool[Array, "delay"]
    is_slow: Bool[Array, ""]


def who_repeats(has_arrived: Bool[Array, "n"], num_stragglers: int) -> Bool[Array, "n"]:
    """The first workers whose message has not arrived, as many as a code for `num_stragglers` lacks."""
    missing = has_arrived.size - num_stragglers - jnp.sum(has_arrived.astype(jnp.int32))
    return ~has_arrived & (jnp.cumsum((~has_arrived).astype(jnp.int32)) <= missing)


def sequential_coded_data_parallel(
    opt: optax.GradientTransformation,
    code: np.ndarray,
    delay: int = 1,
    chain: GilbertElliott | None = None,
) -> LocalAlgorithm:
    """`data_parallel` on gradients that are `delay` rounds old, and that does not wait for late workers.

    The first `delay` rounds move nothing. Diagnostics: `num_late`, and `num_repeated`, messages sent again. Losses are
    those of all parts of the round's data.

    Args:
      opt: as for `data_parallel`.
      code: B [n, n], from `fractional_repetition` or `cyclic`; s is one less than the parts of a worker.
      delay: B, in rounds.
      chain: which workers are late; None: its defaults.

    Raises:
      ValueError: a code that is not square, or a delay below 1; by `round`, a code for another number of workers.
    """
    check_transform(opt, "opt")
    check_count(delay, "delay")
    coder = make_coder(code)
    num_stragglers = coder.load - 1
    opt, process = optax.with_extra_args_support(opt), check_chain(GilbertElliott() if chain is None else chain)

    def init(params):
        coded = (jnp.zeros(delay), jax.tree.map(lambda p: jnp.zeros((delay, *p.shape), jnp.float32), params))
        # Before the first round nothing is missing.
        worker = Worker(coded, jnp.ones(delay, bool), jnp.zeros((), bool))
        return RoundState(Shared(params, opt.init(params), jnp.int32(0)), worker)

    def round_fn(loss_fn, state, key, batches):
        (params, opt_state, num_rounds), worker = state
        num_steps = jax.tree.leaves(batches)[0].shape[0]
        sent = coder.sent(loss_fn, params, key, batches)
        is_slow = is_late(process, key, worker.is_slow)
        repeaters = who_repeats(gather(worker.has_arrived[0]), num_stragglers)
        repeats = repeaters[worker_index()]
        oldest = (jax.tree.map(lambda x: x[0], worker.coded), worker.has_arrived[0] | (repeats & ~is_slow))
        moved = coded_step(opt, opt_state, params, coder.decoded(*gather(oldest)))
        params, opt_state = jax.tree.map(
            lambda new, old: jnp.where(num_rounds >= delay, new, old), moved, (params, opt_state)
        )
        coded = jax.tree.map(lambda x, new: jnp.concatenate([x[1:], new[None]]), worker.coded, sent)
        has_arrived = jnp.append(worker.has_arrived[1:], ~repeats & ~is_slow)
        now = coder.decoded(gather(sent[0]), jnp.ones(num_workers(), bool))
        diagnostics = {
            "num_late": jnp.sum(gather(is_slow).astype(jnp.int32)),
            "num_repeated": jnp.sum(repeaters.astype(jnp.int32)),
        }
        shared = Shared(params, opt_state, num_rounds + 1)
        return RoundState(shared, Worker(coded, has_arrived, is_slow)), RoundInfo(
            jnp.full((num_steps,), now), diagnostics
        )

    return coded_algorithm(init, round_fn, coder)
