"""Post-local SGD (Lin et al. 2020, arXiv 1808.07217): synchronous at first, local steps later.

    rounds before the switch:   H rounds of one local step each
    after it:                   one round of H local steps

The same batches either way. The paper switches at the first drop of the learning rate. Any algorithm can be started so:
PALSGD warms up by synchronous steps too (arXiv 2504.18454).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.algorithms.measured import measured_inside
from learned_opt.base import LocalAlgorithm, RoundInfo, RoundState

if TYPE_CHECKING:
    from jaxtyping import Array, Int, PyTree


class Shared(NamedTuple):
    """What the inner algorithm shares, and the rounds that have passed."""

    shared: PyTree
    num_rounds: Int[Array, ""]


def post_local_sgd(
    local_opt: optax.GradientTransformation,
    num_synchronous_rounds: int | Int[Array, ""],
    server_opt: optax.GradientTransformation | None = None,
) -> LocalAlgorithm:
    """Local SGD whose first rounds average after every step.

    Args:
      local_opt: as for `local_sgd`.
      num_synchronous_rounds: rounds before the switch.
      server_opt: as for `local_sgd`; None: plain averaging. It steps at every communication.
    """
    return synchronous_at_first(
        local_sgd(local_opt, optax.sgd(1.0) if server_opt is None else server_opt), num_synchronous_rounds
    )


def synchronous_at_first(algorithm: LocalAlgorithm, num_synchronous_rounds: int | Int[Array, ""]) -> LocalAlgorithm:
    """An algorithm whose first rounds are taken one local step at a time.

    `RoundInfo.diagnostics` are those of the last communication, with `communications`, their number in the round;
    `bytes_sent` is what each of them costs.

    Args:
      algorithm: of one worker.
      num_synchronous_rounds: rounds before the switch.
    """

    def init(params):
        shared, worker = algorithm.init(params)
        return RoundState(Shared(shared, jnp.int32(0)), worker)

    def round_fn(loss_fn, state, key, batches):
        (shared, num_rounds), worker = state
        num_steps = jax.tree.leaves(batches)[0].shape[0]

        def together(state):
            state, info = algorithm.round(loss_fn, state, key, batches)
            return state, RoundInfo(info.losses, info.diagnostics | {"communications": jnp.int32(1)})

        def one_by_one(state):
            def step(state, index_and_batch):
                index, batch = index_and_batch
                one = jax.tree.map(lambda x: x[None], batch)
                return algorithm.round(loss_fn, state, jax.random.fold_in(key, index), one)

            state, infos = jax.lax.scan(step, state, (jnp.arange(num_steps), batches))
            last = jax.tree.map(lambda x: x[-1], infos.diagnostics)
            return state, RoundInfo(infos.losses[:, 0], last | {"communications": jnp.int32(num_steps)})

        is_synchronous = num_rounds < num_synchronous_rounds
        (shared, worker), info = jax.lax.cond(is_synchronous, one_by_one, together, RoundState(shared, worker))
        return RoundState(Shared(shared, num_rounds + 1), worker), info

    return algorithm._replace(
        init=init,
        round=round_fn,
        params=lambda state: algorithm.params(RoundState(state.shared.shared, state.worker)),
        measured=measured_inside(algorithm, lambda inner: synchronous_at_first(inner, num_synchronous_rounds)),
    )
