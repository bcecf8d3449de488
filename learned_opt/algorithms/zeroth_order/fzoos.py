"""FZooS, federated zeroth-order optimization with surrogates (Shu et al. 2023, arXiv 2308.04077).

    at each of H local steps:
      ask for the loss at y_k and at a few points around it;   w_k <- ridge regression on the last N questions
      y_k <- opt(y_k, J(y_k)^T (w_k + c (w' - w'_k)))          J: Jacobian of the random features
    w'_k <- w_k;   w' <- mean_k w_k;   x <- server(x, mean_k (x - y_k))

No gradient of the loss is taken. c (w' - w'_k) is SCAFFOLD's control variate as a function: the gradient of the mean of
the workers' surrogates less that of the worker's own, at wherever y_k has come to. Simpler than published: the same
random features serve the worker's own estimate, for which the authors fit a Gaussian process, and points around y_k are
drawn evenly, where they choose those of greatest uncertainty.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.algorithms.round import (
    dense_bytes,
    evaluated_params,
    gather,
    local_rates,
    mean_of_workers,
    scale_by_rates,
    server_step,
    worker_index,
)
from learned_opt.algorithms.zeroth_order.random_features import draw_features, fit, surrogate_gradient
from learned_opt.argument_checks import check_transform, checked_loss
from learned_opt.base import LocalAlgorithm, Params, RoundInfo, RoundState

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int, PyTree


class Shared(NamedTuple):
    """Global parameters, the state of the server, and w' [M]."""

    params: Params
    server_state: PyTree
    weights: Float[Array, "features"]


class Questions(NamedTuple):
    """The last N points at which a worker asked, in a ring, their losses, and how many there have been."""

    points: Float[Array, "points dimension"]
    losses: Float[Array, "points"]
    count: Int[Array, ""]


class Worker(NamedTuple):
    """The state of the local optimizer, what was asked, and w'_k [M]."""

    local_state: PyTree
    questions: Questions
    weights: Float[Array, "features"]


def fzoos(
    local_opt: optax.GradientTransformation,
    *,
    num_features: int = 1000,
    num_points: int = 64,
    num_around: int = 4,
    radius: float | Array = 0.1,
    lengthscale: float | Array = 1.0,
    ridge: float | Array = 1e-4,
    correction: float | Array = 1.0,
    server_opt: optax.GradientTransformation | None = None,
    seed: int = 0,
) -> LocalAlgorithm:
    """FZooS; a local step costs 1 + `num_around` losses and a system of N equations.

    Args:
      local_opt: receives the surrogate's gradients; Adam with 0.01 in the paper.
      num_features: M; 10,000 in the paper.
      num_points: N.
      num_around: questions around y_k, a step.
      radius: half the side of the cube they are drawn from, in units of the parameters.
      lengthscale: distance over which the loss changes, in units of the parameters.
      ridge: of the regression.
      correction: c.
      server_opt: as for `local_sgd`; None: plain averaging.
      seed: of the features.

    Raises:
      ValueError: fewer points than a step asks for, or no features.
    """
    if num_around < 0 or num_points < 1 + num_around:
        raise ValueError(f"num_points={num_points}: use at least 1 + num_around={num_around}, which is 0 or more")
    if num_features < 1:
        raise ValueError(f"num_features={num_features}: use at least 1")
    check_transform(local_opt, "local_opt")
    local = optax.with_extra_args_support(local_opt)
    server = optax.with_extra_args_support(optax.sgd(1.0) if server_opt is None else server_opt)

    def init(params):
        weights, dimension = jnp.zeros(num_features), _flat(params).shape[0]
        questions = Questions(jnp.zeros((num_points, dimension)), jnp.zeros(num_points), jnp.int32(0))
        return RoundState(Shared(params, server.init(params), weights), Worker(local.init(params), questions, weights))

    def round_fn(loss_fn, state, key, batches):
        (start, server_state, weights), worker = state
        loss_fn = checked_loss(loss_fn)
        features = draw_features(seed, num_features, _flat(start).shape[0], lengthscale)
        rates = local_rates(server_state)
        control = correction * (weights - worker.weights)
        worker_key = jax.random.fold_in(key, worker_index())

        def step(carry, index_and_batch):
            params, local_state, questions, _ = carry
            index, batch = index_and_batch
            question_key = jax.random.fold_in(worker_key, index)
            loss, questions = _asked(loss_fn, params, question_key, batch, questions, num_around, radius)
            is_known = jnp.arange(num_points) < questions.count
            own = fit(features, questions.points, questions.losses, is_known, ridge)
            gradient = _tree(surrogate_gradient(features, own + control, _flat(params)), params)
            updates, local_state = local.update(gradient, local_state, params, value=loss, anchor=start)
            updates = updates if rates is None else scale_by_rates(updates, rates)
            return (optax.apply_updates(params, updates), local_state, questions, own), loss

        indices = jnp.arange(jax.tree.leaves(batches)[0].shape[0])
        carry = (start, worker.local_state, worker.questions, worker.weights)
        (params, local_state, questions, own), losses = jax.lax.scan(step, carry, (indices, batches))
        sent = jax.tree.map(jnp.subtract, start, params)
        updates, server_state, _ = server_step(server, server_state, start, sent, losses)
        shared = Shared(optax.apply_updates(start, updates), server_state, mean_of_workers(gather(own)))
        return RoundState(shared, Worker(local_state, questions, own)), RoundInfo(losses, {})

    return LocalAlgorithm(
        init,
        round_fn,
        lambda state: evaluated_params(*state.shared[:2]),
        lambda params: dense_bytes(params) + 4 * num_features,
        bytes_received=lambda params, num_workers: dense_bytes(params) + 4 * num_features,
        gradients=lambda num_steps: 0.0,
    )


def _asked(loss_fn, params, key, batch, questions, num_around, radius) -> tuple[Float[Array, ""], Questions]:
    """The loss at params, and the questions with those of a step."""
    loss_key, point_key = jax.random.split(key)
    point = _flat(params)
    around = jax.random.uniform(point_key, (num_around, point.shape[0]), minval=-radius, maxval=radius)
    points = jnp.concatenate([point[None], point[None] + around])
    losses = jax.vmap(lambda x: loss_fn(_tree(x, params), loss_key, batch))(points)
    places = (questions.count + jnp.arange(1 + num_around)) % len(questions.losses)
    return losses[0], Questions(
        questions.points.at[places].set(points),
        questions.losses.at[places].set(losses.astype(jnp.float32)),
        questions.count + 1 + num_around,
    )


def _flat(tree: Any) -> Float[Array, "dimension"]:
    return jnp.concatenate([jnp.ravel(leaf).astype(jnp.float32) for leaf in jax.tree.leaves(tree)])


def _tree(flat: Float[Array, "dimension"], like: Any) -> Any:
    leaves, structure = jax.tree.flatten(like)
    parts, begin = [], 0
    for leaf in leaves:
        size = int(jnp.size(leaf))
        parts.append(flat[begin : begin + size].reshape(jnp.shape(leaf)).astype(jnp.result_type(leaf)))
        begin += size
    return jax.tree.unflatten(structure, parts)
