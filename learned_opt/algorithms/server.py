"""Hand-designed server optimizers: optax transforms over the mean pseudo-gradient.

With Delta = params_before - params_after, averaged over the workers:

    fedavg   x <- x - Delta                                          McMahan et al., 1602.05629
    slowmo   u <- b u + Delta / eta;  x <- x - a eta u               Wang et al., 1910.00643
    diloco   m <- b m + Delta;  x <- x - a (Delta + b m)             Douillard et al., 2311.08105
    fedadam  m <- b1 m + (1 - b1) Delta;  v <- b2 v + (1 - b2) Delta^2;
             x <- x - a m / (sqrt(v) + tau)                          Reddi et al., 2003.00295

With a = 1 and b = 0, slowmo and diloco are fedavg to the last bit. Accumulators are float32
whatever the dtype of the parameters, updates have the dtype of the pseudo-gradient, and every
hyper-parameter may be a traced scalar, so a grid of settings is one vmap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

if TYPE_CHECKING:
    from jaxtyping import Array, Float, PyTree


class SlowMoState(NamedTuple):
    """State of `slowmo`.

    Attributes:
      scaled_momentum: eta u, so that a constant eta cancels exactly.
      local_learning_rate: eta of the last round.
    """

    scaled_momentum: PyTree
    local_learning_rate: Float[Array, ""]


class DiLoCoState(NamedTuple):
    """State of `diloco`: `momentum` is m."""

    momentum: PyTree


class FedAdamState(NamedTuple):
    """State of `fedadam`: `mean` is m, `second_moment` is v."""

    mean: PyTree
    second_moment: PyTree


def fedavg() -> optax.GradientTransformation:
    """Takes the workers' average as the new parameters (= `optax.sgd(1.0)`): Local SGD's server."""
    return optax.sgd(1.0)


def slowmo(
    learning_rate: Any = 1.0,
    momentum: float | Array = 0.8,
    local_learning_rate: float | Array = 1.0,
) -> optax.GradientTransformation:
    """Slow momentum on top of local steps.

    Args:
      learning_rate: a, the published code's slow learning rate divided by eta; a number or an optax schedule over
        rounds.
      momentum: b; the published runs use 0.4 to 0.95.
      local_learning_rate: eta of the local steps of this round, above 0. A constant one cancels;
        one that changes from round to round (through `optax.inject_hyperparams`) rescales the
        momentum, as in the paper.
    """
    if callable(learning_rate):
        return optax.inject_hyperparams(slowmo)(learning_rate, momentum, local_learning_rate)

    def init(params):
        return SlowMoState(_zeros(params), jnp.asarray(local_learning_rate, jnp.float32))

    def update(updates, state, params=None):
        del params
        eta = jnp.asarray(local_learning_rate, jnp.float32)
        decay = momentum * (eta / state.local_learning_rate)
        scaled_momentum = jax.tree.map(
            lambda delta, trace: _float32(delta) + decay * trace, updates, state.scaled_momentum
        )
        steps = jax.tree.map(lambda trace: -learning_rate * trace, scaled_momentum)
        return _cast_like(steps, updates), SlowMoState(scaled_momentum, eta)

    return optax.GradientTransformation(init, update)


def diloco(learning_rate: Any = 0.7, momentum: float | Array = 0.9) -> optax.GradientTransformation:
    """Nesterov momentum over rounds, as `optax.sgd(learning_rate, momentum, nesterov=True)`.

    Args:
      learning_rate: a, the server's; a number or an optax schedule over rounds.
      momentum: b.
    """
    if callable(learning_rate):
        return optax.inject_hyperparams(diloco)(learning_rate, momentum)

    def init(params):
        return DiLoCoState(_zeros(params))

    def update(updates, state, params=None):
        del params
        new_momentum = jax.tree.map(lambda delta, trace: _float32(delta) + momentum * trace, updates, state.momentum)
        steps = jax.tree.map(
            lambda delta, trace: -learning_rate * (_float32(delta) + momentum * trace),
            updates,
            new_momentum,
        )
        return _cast_like(steps, updates), DiLoCoState(new_momentum)

    return optax.GradientTransformation(init, update)


def fedadam(
    learning_rate: Any = 0.1,
    b1: float | Array = 0.9,
    b2: float | Array = 0.99,
    tau: float | Array = 1e-3,
) -> optax.GradientTransformation:
    """Adam over rounds, without bias correction and with v starting at tau^2, as published.

    Args:
      learning_rate: a, the server's; about the size of one round's change of a parameter once v has
        settled; a number or an optax schedule over rounds.
      b1: decay of the mean.
      b2: decay of the second moment.
      tau: added to sqrt(v), in units of the pseudo-gradient: large values approach momentum SGD.
    """
    if callable(learning_rate):
        return optax.inject_hyperparams(fedadam)(learning_rate, b1, b2, tau)

    def init(params):
        start = jnp.square(jnp.asarray(tau, jnp.float32))
        second_moment = jax.tree.map(lambda p: jnp.full(jnp.shape(p), start), params)
        return FedAdamState(_zeros(params), second_moment)

    def update(updates, state, params=None):
        del params
        mean = jax.tree.map(lambda delta, m: b1 * m + (1 - b1) * _float32(delta), updates, state.mean)
        second_moment = jax.tree.map(
            lambda delta, v: b2 * v + (1 - b2) * jnp.square(_float32(delta)),
            updates,
            state.second_moment,
        )
        steps = jax.tree.map(lambda m, v: -learning_rate * m / (jnp.sqrt(v) + tau), mean, second_moment)
        return _cast_like(steps, updates), FedAdamState(mean, second_moment)

    return optax.GradientTransformation(init, update)


def _float32(x: Any) -> Any:
    return jnp.asarray(x, jnp.float32)


def _zeros(params: Any) -> Any:
    return jax.tree.map(lambda p: jnp.zeros(jnp.shape(p), jnp.float32), params)


def _cast_like(steps: Any, updates: Any) -> Any:
    return jax.tree.map(lambda step, update: step.astype(update.dtype), steps, updates)
