"""DIFF2 (Murata & Suzuki 2023, arXiv 2302.03884): workers send differences of gradients, with noise for privacy.

    every T rounds:  v <- mean_k clip(g_k(x_t), C1) + s1 noise
    otherwise:       v <- v + mean_k clip(g_k(x_t) - g_k(x_{t-1}), C2 r) + s2 r noise,   r = norm(x_t - x_{t-1})
    x <- opt(x, v)

Both gradients are of the same batch, so that their difference is small when the step was, and so is the noise that
hides it. Without noise and clipping it is a variance-reduced method like SARAH and PAGE (two gradients a round), and
with T = 1 it is `data_parallel`. clip scales down to a norm, over all parameters of a worker.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.algorithms.round import dense_bytes, gather, mean_of_workers, num_workers, worker_index
from learned_opt.argument_checks import check_count, check_transform, checked_loss
from learned_opt.base import LocalAlgorithm, Params, RoundInfo, RoundState

if TYPE_CHECKING:
    from jaxtyping import Array, Int, PyTree


class Shared(NamedTuple):
    """x_t, x_{t-1}, the estimate v, float32, the state of the optimizer, and the rounds so far."""

    params: Params
    previous: Params
    estimate: PyTree
    opt_state: PyTree
    num_rounds: Int[Array, ""]


def diff2(
    opt: optax.GradientTransformation,
    restart_every: int = 20,
    *,
    gradient_clip: float | Array = math.inf,
    difference_clip: float | Array = math.inf,
    gradient_noise: float | Array = 0.0,
    difference_noise: float | Array = 0.0,
) -> LocalAlgorithm:
    """DIFF2: one step of `opt` a round, on an estimate of the gradient from all K H B examples.

    Args:
      opt: as for `data_parallel`.
      restart_every: T, rounds.
      gradient_clip: C1, in units of the gradient.
      difference_clip: C2, a bound on the curvature: gradient per parameter.
      gradient_noise: s1, standard deviation of the noise on the mean of gradients.
      difference_noise: s2, that on the mean of differences, per norm of the step.

    Raises:
      ValueError: no restart.
    """
    check_count(restart_every, "restart_every")
    check_transform(opt, "opt")
    opt = optax.with_extra_args_support(opt)

    def init(params):
        estimate = jax.tree.map(lambda p: jnp.zeros(jnp.shape(p), jnp.float32), params)
        return RoundState(Shared(params, params, estimate, opt.init(params), jnp.int32(0)), ())

    def round_fn(loss_fn, state, key, batches):
        params, previous, estimate, opt_state, num_rounds = state.shared
        loss_fn = checked_loss(loss_fn)
        num_steps = jax.tree.leaves(batches)[0].shape[0]
        batch = jax.tree.map(lambda x: x.reshape((-1, *x.shape[2:])), batches)
        worker_key = jax.random.fold_in(key, worker_index())
        loss, gradient = jax.value_and_grad(loss_fn)(params, worker_key, batch)
        step_size = optax.tree.norm(_difference(params, previous))

        def restart():
            return _clip(_float32(gradient), gradient_clip), jax.tree.map(jnp.zeros_like, estimate), jnp.float32(0)

        def go_on():
            change = _difference(gradient, jax.grad(loss_fn)(previous, worker_key, batch))
            return _clip(change, difference_clip * step_size), estimate, step_size

        sent, base, step_size = jax.lax.cond(num_rounds % restart_every == 0, restart, go_on)
        # A step too long for its square must not make noise of none.
        noise_on_difference = jnp.where(jnp.asarray(difference_noise) > 0, difference_noise * step_size, 0)
        deviation = jnp.where(num_rounds % restart_every == 0, gradient_noise, noise_on_difference)
        mean_loss, mean = mean_of_workers(gather((loss, sent)))
        # Beyond the keys of the workers; the server draws it.
        noise = _normal_like(jax.random.fold_in(key, num_workers()), mean)
        estimate = jax.tree.map(lambda v, m, n: v + m + deviation * n, base, mean, noise)
        typed = jax.tree.map(lambda v, p: v.astype(p.dtype), estimate, params)
        updates, opt_state = opt.update(typed, opt_state, params, value=mean_loss)
        shared = Shared(optax.apply_updates(params, updates), params, estimate, opt_state, num_rounds + 1)
        return RoundState(shared, ()), RoundInfo(jnp.full((num_steps,), mean_loss), {})

    return LocalAlgorithm(
        init,
        round_fn,
        lambda state: state.shared.params,
        dense_bytes,
        # Two a batch, but for the rounds that restart.
        gradients=lambda num_steps: (2 - 1 / restart_every) * num_steps,
    )


def _clip(tree: Any, size: Any) -> Any:
    norm = optax.tree.norm(tree)
    scale = jnp.where(norm > size, size / jnp.where(norm > 0, norm, 1), 1)
    return jax.tree.map(lambda x: scale * x, tree)


def _float32(tree):
    return jax.tree.map(lambda x: x.astype(jnp.float32), tree)


def _difference(first, second):
    return jax.tree.map(lambda a, b: a.astype(jnp.float32) - b.astype(jnp.float32), first, second)


def _normal_like(key, tree):
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(structure, [jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)])
