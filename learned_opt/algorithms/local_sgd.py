"""Local SGD (Stich 2019, arXiv 1805.09767) with any local and any server optimizer.

    y_k <- x;  H times: y_k <- local_opt(y_k, grad loss(y_k; batch_{k,h}));
    Delta_k = x - y_k;   x <- server_opt(x, mean_k upload(Delta_k), upload(Delta_1) .. upload(Delta_K))

The server side is an ordinary optax transform over the mean pseudo-gradient (Reddi et al. 2021, arXiv 2003.00295),
which may also read the workers' own in the extra argument `worker_updates`. Local optimizer state, and that of
`upload`, stay on their worker between rounds. A server whose state has a field `local_rates` (one number per tensor)
sets the factor on the workers' local updates in the next round; where it has a field `averaged_params`, that is what
`params` returns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import jax
import optax

from learned_opt.algorithms.measured import measurable
from learned_opt.algorithms.round import (
    dense_bytes,
    evaluated_params,
    local_rates,
    local_steps,
    server_step,
    worker_index,
)
from learned_opt.argument_checks import check_transform, explained_state
from learned_opt.base import LocalAlgorithm, Params, RoundInfo, RoundState

if TYPE_CHECKING:
    from jaxtyping import PyTree


class Shared(NamedTuple):
    """What all workers agree on: global parameters, and the state of the server optimizer."""

    params: Params
    server_state: PyTree


class Worker(NamedTuple):
    """What a worker keeps: the states of its local optimizer and of its upload."""

    local_state: PyTree
    upload_state: PyTree


def local_sgd(
    local_opt: optax.GradientTransformation,
    server_opt: optax.GradientTransformation,
    upload: optax.GradientTransformation | None = None,
    *,
    bytes_sent: Callable[[Params], int] = dense_bytes,
) -> LocalAlgorithm:
    """Builds the algorithm of one worker; drive it with `simulate` or `spread`. H is the leading axis of the batches.

    What the workers send is measured by `learned_opt.algorithms.measured.measured(local_sgd(...), measure)`.

    Args:
      local_opt: applied to minibatch gradients; see `local_steps` for what it receives.
      server_opt: applied to the mean pseudo-gradient; receives `worker_updates=` [K, *shape] and `value=` the mean
        minibatch loss of the round.
      upload: transform of a worker's own pseudo-gradient before it is sent (compression, clipping, noise), with a state
        of its own; receives `key`. None sends it as it is.
      bytes_sent: params -> bytes of what `upload` sends, encoded.

    Raises:
      ValueError: something that is no optax transform; by `round`, a loss that is not (params, key, batch) -> scalar,
        or a state of another optimizer.
    """
    check_transform(local_opt, "local_opt")
    check_transform(server_opt, "server_opt")
    if upload is not None:
        check_transform(upload, "upload")
    local = optax.with_extra_args_support(local_opt)
    server = optax.with_extra_args_support(server_opt)
    sender = None if upload is None else optax.with_extra_args_support(upload)

    def init(params):
        worker = Worker(local.init(params), () if sender is None else sender.init(params))
        return RoundState(Shared(params, server.init(params)), worker)

    def round_fn(measure, loss_fn, state, key, batches):
        if not isinstance(state, RoundState) or not isinstance(state.shared, Shared):
            raise ValueError("state is not one of local_sgd: use what this algorithm's own init and round return")
        with explained_state(state, init, state.shared.params, "local_sgd"):
            return one_round(measure, loss_fn, state, key, batches)

    def one_round(measure, loss_fn, state, key, batches):
        (start, server_state), worker = state
        worker_key = jax.random.fold_in(key, worker_index())
        rates = local_rates(server_state)
        done = local_steps(loss_fn, local, start, worker.local_state, worker_key, batches, rates=rates)
        sent, upload_state = done.pseudo_gradient, worker.upload_state
        if sender is not None:
            # Beyond the keys of the steps' losses and optimizers.
            upload_key = jax.random.fold_in(worker_key, 2 * done.losses.shape[0])
            sent, upload_state = sender.update(sent, upload_state, start, key=upload_key)
        updates, server_state, worker_updates = server_step(server, server_state, start, sent, done.losses)
        info = RoundInfo(done.losses, measure(worker_updates))
        shared = Shared(optax.apply_updates(start, updates), server_state)
        return RoundState(shared, Worker(done.opt_state, upload_state)), info

    return measurable(init, round_fn, lambda state: evaluated_params(*state.shared), bytes_sent)
