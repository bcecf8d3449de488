"""Loss-weighted averaging: workers count by how low their loss is, as in consensus-based optimization (CBO; Riedl et
al. 2023, arXiv 2306.09778).

    w_k = exp(-a L_k) / sum_j exp(-a L_j);   x <- server(x, sum_k w_k (x - y_k))

The consensus point of CBO in the place of the mean; the workers explore by SGD where CBO's particles explore by noise.
L_k is the loss of the worker's last minibatch, before its last step: one more number is sent. With a = 0 it is
`local_sgd`. On different data it favours the workers whose data are easy. Losses that are not a number spoil the mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import optax

from learned_opt.algorithms.local_sgd import Shared
from learned_opt.algorithms.measured import measurable
from learned_opt.algorithms.round import dense_bytes, evaluated_params, gather, local_rates, local_steps, worker_index
from learned_opt.algorithms.weighted_sum import weighted_sum
from learned_opt.argument_checks import check_transform
from learned_opt.base import LocalAlgorithm, RoundInfo, RoundState

if TYPE_CHECKING:
    from jaxtyping import Array


def loss_weighted_averaging(
    local_opt: optax.GradientTransformation,
    sharpness: float | Array = 1.0,
    server_opt: optax.GradientTransformation | None = None,
) -> LocalAlgorithm:
    """Loss-weighted averaging; diagnostics: `effective_workers` = 1 / sum w_k^2, 1 to K.

    Args:
      local_opt: as for `local_sgd`.
      sharpness: a, in units of one over the loss.
      server_opt: as for `local_sgd`; None: the weighted average becomes the new parameters.
    """
    check_transform(local_opt, "local_opt")
    server = optax.with_extra_args_support(optax.sgd(1.0) if server_opt is None else server_opt)

    def init(params):
        return RoundState(Shared(params, server.init(params)), local_opt.init(params))

    def one_round(measure, loss_fn, state, key, batches):
        (start, server_state), local_state = state
        worker_key = jax.random.fold_in(key, worker_index())
        rates = local_rates(server_state)
        done = local_steps(loss_fn, local_opt, start, local_state, worker_key, batches, rates=rates)
        everyone, all_losses = gather((done.pseudo_gradient, done.losses))
        weights = jax.nn.softmax(-sharpness * all_losses[:, -1])
        updates, server_state = server.update(
            weighted_sum(weights, everyone),
            server_state,
            start,
            pseudo_gradient=True,
            worker_updates=everyone,
            worker_mean=lambda fn: weighted_sum(weights, jax.vmap(fn)(everyone)),
            num_workers=all_losses.shape[0],
            value=jnp.mean(all_losses),
            losses=all_losses,
        )
        info = RoundInfo(done.losses, {"effective_workers": 1 / jnp.sum(jnp.square(weights))} | measure(everyone))
        return RoundState(Shared(optax.apply_updates(start, updates), server_state), done.opt_state), info

    return measurable(
        init,
        one_round,
        lambda state: evaluated_params(*state.shared),
        lambda params: dense_bytes(params) + 4,
    )
