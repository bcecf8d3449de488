"""D-PSGD (Lian et al. 2017, arXiv 1705.09056) with any local optimizer and H local steps.

    H times: y_i <- opt(y_i, grad);   x_i <- sum_j W_ij y_j

With a server optimizer, which every worker runs for itself on how far its average is from where it began:

    x_i <- server_i(x_i, x_i - sum_j W_ij y_j)

Any one will do that needs no other worker's pseudo-gradient; plain averaging is D-PSGD. Published with H = 1. Models
are averaged after the step, as in the code of its successors, where the paper averages those before it and adds it;
with the complete graph it is then `local_sgd`, whatever the data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.algorithms.gossip.mixing import consensus_distance, make_mixing, mean_of_models, mix_with_neighbours
from learned_opt.algorithms.round import evaluated_params, local_rates, local_steps, worker_index
from learned_opt.argument_checks import check_transform
from learned_opt.base import LocalAlgorithm, Params, RoundInfo, RoundState

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Array, Float, Int, PyTree


class Shared(NamedTuple):
    """Rounds that have passed."""

    num_rounds: Int[Array, ""]


class Worker(NamedTuple):
    """A worker's model, the state of its optimizer, and that of its server optimizer, if it has one."""

    params: Params
    local_state: PyTree
    server_state: PyTree = ()


def dpsgd(
    local_opt: optax.GradientTransformation,
    weights: Float[np.ndarray, "period n n"],
    server_opt: optax.GradientTransformation | None = None,
) -> LocalAlgorithm:
    """D-PSGD; diagnostics have the `consensus_distance`, a mean square, before the average.

    Args:
      local_opt: as for `local_sgd`; its state stays on its worker.
      weights: mixing matrices, see `topology`.
      server_opt: receives the difference to the neighbours' average as a pseudo-gradient, and as `value` the worker's
        own mean loss; None: the average is the new model.

    Raises:
      ValueError: weights that do not sum to one or do not connect the workers; by `round`, for another number of them.
    """
    check_transform(local_opt, "local_opt")
    mixing = make_mixing(weights)
    if server_opt is not None:
        check_transform(server_opt, "server_opt")
    server = None if server_opt is None else optax.with_extra_args_support(server_opt)

    def init(params):
        server_state = () if server is None else server.init(params)
        return RoundState(Shared(jnp.int32(0)), Worker(params, local_opt.init(params), server_state))

    def round_fn(loss_fn, state, key, batches):
        (num_rounds,), (start, local_state, server_state) = state
        worker_key = jax.random.fold_in(key, worker_index())
        params, local_state, losses, _ = local_steps(
            loss_fn, local_opt, start, local_state, worker_key, batches, rates=local_rates(server_state)
        )
        params, everyone = mix_with_neighbours(mixing, num_rounds, params)
        if server is not None:
            moved = jax.tree.map(jnp.subtract, start, params)
            updates, server_state = server.update(
                moved, server_state, start, pseudo_gradient=True, value=jnp.mean(losses)
            )
            params = optax.apply_updates(start, updates)
        info = RoundInfo(losses, {"consensus_distance": consensus_distance(everyone)})
        return RoundState(Shared(num_rounds + 1), Worker(params, local_state, server_state)), info

    def params_of(state):
        return mean_of_models(evaluated_params(state.worker.params, state.worker.server_state))

    return LocalAlgorithm(init, round_fn, params_of, mixing.bytes_sent, mixing.bytes_received)
