"""`auto_diloco`: DiLoCo whose server also sets the workers' rate, from what the rounds show.

    m <- b m + D_t;   x <- x - a (D_t + b m)                                        DiLoCo's step on the mean D_t
    log s <- clip(log s + kappa (cos(D_t, D_{t-1}) - tau), lowest, highest)         from the second round on
    z <- z + (1 - c_t) (x - z),   c_t = min(c, (1 + t) / (10 + t))                    what is evaluated

Workers multiply their local updates by s in the next round. Successive rounds that agree say that the rate is too
small, rounds that undo each other that it is too large; there is no horizon and nothing to tune per problem. It is made
for workers whose steps are relative to their tensors (`learned_opt.optimizers.relative_rmsprop`), where one base rate
serves any width. The average z of the global parameters (Polyak & Juditsky 1992) loses most of the noise of the last
rounds, so that the rate need not fall as early; `algorithm.params` returns it, and workers go on from x. Related: the
sign rule of Rprop (Riedmiller & Braun 1993) and hypergradient descent (Baydin et al. 2018, arXiv 1703.04782), which
also compares successive gradients, one step and one machine at a time.

A worker whose pseudo-gradient is not finite is left out of the mean; a round that no worker survives moves nothing:
parameters, momentum and rate stay.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.optimizers.relative_rmsprop import relative_rmsprop

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int, PyTree

LEARNING_RATE, MOMENTUM, KAPPA, TAU, AVERAGE = 1.23, 0.867, 0.072, 0.045, 0.915
WORKER_LEARNING_RATE, WORKER_FLOOR = 0.0172, 0.022
"""Tuned together over 15 meta-training tasks by CMA-ES (16 generations of 10, the last two thirds of a training weighed
double): one setting for all problems."""
LOWEST_LOG_RATE, HIGHEST_LOG_RATE = -7.0, 2.0
NO_COSINE = 2.0
"""Stands for a cosine that there is not: no cosine reaches it, and unlike NaN it does not stop `jax_debug_nans`."""
_SMALLEST_SQUARE = 1e-30


class AutoDiLoCoState(NamedTuple):
    """State of `auto_diloco`.

    Attributes:
      momentum: m, float32, like the parameters.
      previous: the mean pseudo-gradient of the round before, float32; zeros before the first.
      log_rate: log s.
      local_rates: s for every tensor, which `local_sgd` and `local_updates` read.
      averaged_params: z, float32, which `local_sgd` evaluates; empty without averaging.
      num_updates: rounds taken.
    """

    momentum: PyTree
    previous: PyTree
    log_rate: Float[Array, ""]
    local_rates: PyTree
    averaged_params: PyTree
    num_updates: Int[Array, ""]


def auto_diloco(
    learning_rate: float | Array = LEARNING_RATE,
    momentum: float | Array = MOMENTUM,
    kappa: float | Array = KAPPA,
    tau: float | Array = TAU,
    average: float = AVERAGE,
) -> optax.GradientTransformationExtraArgs:
    """The server transform.

    Args:
      learning_rate: a, the server's.
      momentum: b.
      kappa: how fast log s follows the cosine, per round.
      tau: the cosine at which it rests.
      average: c, decay per round of the average that is evaluated; 0 evaluates x itself.

    Returns:
      The transform; every argument may be a traced scalar, `average` where it is not 0. Its state holds three floats
      per parameter, two without averaging.
    """

    averages = not isinstance(average, int | float) or average > 0

    def init(params):
        return AutoDiLoCoState(
            momentum=optax.tree.zeros_like(params, dtype=jnp.float32),
            previous=optax.tree.zeros_like(params, dtype=jnp.float32),
            log_rate=jnp.float32(0),
            local_rates=jax.tree.map(lambda p: jnp.float32(1), params),
            averaged_params=copied(params) if averages else (),
            num_updates=jnp.int32(0),
        )

    def update(updates, state, params=None, *, worker_mean=None, **extra):
        del extra
        if averages and params is None:
            raise ValueError("params is None: call update(updates, state, params), they are averaged")
        delta = surviving_mean(updates, worker_mean)
        new_momentum = jax.tree.map(lambda d, m: d + momentum * m, delta, state.momentum)
        steps = jax.tree.map(lambda d, m: -learning_rate * (d + momentum * m), delta, new_momentum)
        log_rate = next_log_rate(state.log_rate, cosine_of(delta, state.previous), kappa, tau)
        rates = jax.tree.map(lambda _: jnp.exp(log_rate), updates)
        averaged = state.averaged_params
        if averages:
            averaged = averaged_with(averaged, params, steps, jnp.float32(average), state.num_updates)
        new = AutoDiLoCoState(new_momentum, delta, log_rate, rates, averaged, state.num_updates + 1)
        finite = jnp.isfinite(squared_norm(delta))
        state = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, state)
        steps = jax.tree.map(lambda s, u: jnp.where(finite, s, 0).astype(u.dtype), steps, updates)
        return steps, state

    return optax.GradientTransformationExtraArgs(init, update)


def auto_diloco_workers() -> optax.GradientTransformation:
    """The workers that the rule's numbers were tuned with: `relative_rmsprop` at 0.0172, floor 0.022."""
    return relative_rmsprop(WORKER_LEARNING_RATE, floor=WORKER_FLOOR)


def wide(tree: Any) -> Any:
    """The tree in float32."""
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree)


def copied(tree: Any) -> Any:
    """A copy in float32, which a donated state may take away without the parameters."""
    return jax.tree.map(lambda x: jnp.array(x, jnp.float32, copy=True), tree)


def averaged_with(averaged: Any, params: Any, steps: Any, decay: Float[Array, ""], count: Int[Array, ""]) -> Any:
    """z after the round that moves `params` by `steps`; its decay starts smaller, as c_t above."""
    age = count.astype(jnp.float32)
    share = 1 - jnp.minimum(decay, (1 + age) / (10 + age))
    return jax.tree.map(lambda z, x, step: z + share * (x + step - z), averaged, wide(params), steps)


def surviving_mean(updates: Any, worker_mean: Callable[[Callable[[Any], Any]], Any] | None) -> Any:
    """The mean pseudo-gradient in float32, over the workers whose own is finite; NaN where no worker survives.

    Args:
      updates: the mean over all workers.
      worker_mean: the extra argument of that name of `learned_opt.algorithms.round.server_step`; None: `updates` it is.
    """
    if worker_mean is None:
        return wide(updates)

    def surviving(own):
        own = wide(own)
        finite = jnp.isfinite(squared_norm(own))
        return jax.tree.map(lambda x: jnp.where(finite, x, 0), own), finite.astype(jnp.float32)

    total, share = worker_mean(surviving)
    return jax.tree.map(lambda x: x / share, total)


def squared_norm(tree: Any) -> Float[Array, ""]:
    """Sum of squares over all tensors."""
    return jnp.asarray(sum(jnp.sum(jnp.square(x)) for x in jax.tree.leaves(tree)), jnp.float32)


def cosine_of(a: Any, b: Any) -> Float[Array, ""]:
    """Cosine of two trees as vectors; `NO_COSINE` where one of them is zero."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    product = jnp.asarray(sum(jnp.sum(x * y) for x, y in pairs), jnp.float32)
    size_a, size_b = squared_norm(a), squared_norm(b)
    # One root after the other: the product of two small squares would be zero.
    cosine = product * jax.lax.rsqrt(jnp.maximum(size_a, _SMALLEST_SQUARE))
    cosine = cosine * jax.lax.rsqrt(jnp.maximum(size_b, _SMALLEST_SQUARE))
    return jnp.where((size_a > 0) & (size_b > 0), cosine, NO_COSINE)


def is_cosine(x: Float[Array, "*S"]) -> Bool[Array, "*S"]:
    """Where x is a cosine: neither `NO_COSINE` nor NaN."""
    return x < NO_COSINE


def next_log_rate(
    log_rate: Float[Array, ""], cosine: Float[Array, ""], kappa: float | Array, tau: float | Array
) -> Float[Array, ""]:
    """log s after a round whose cosine with the one before is given; it stays where there is none."""
    moved = jnp.where(is_cosine(cosine), kappa * (cosine - tau), 0)
    return jnp.clip(log_rate + moved, LOWEST_LOG_RATE, HIGHEST_LOG_RATE)
