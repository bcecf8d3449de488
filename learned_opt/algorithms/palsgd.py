"""PALSGD, pseudo-asynchronous local SGD (Naganuma et al. 2025, arXiv 2504.18454): pulls in the place of some gradients.

    with probability p:   y_k <- y_k - (eta alpha / p) (y_k - x)                no gradient is computed
    otherwise:            y_k <- opt(y_k, grad; learning rate eta / (1 - p))
    every H steps:        x <- server(x, mean_k (x - y_k));  y_k <- x

x is the last global model. In expectation a step is one of local SGD and a pull alpha. All tensors are pulled; in the
authors' code the first one alone is. Every worker draws for itself; on a pull its optimizer rests. The published runs
begin with synchronous steps: `post_local_sgd.synchronous_at_first`. This simulation computes the gradients of pulled
steps too, and their losses; count (1 - p) H gradients a round.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.algorithms.server import diloco
from learned_opt.argument_checks import check_number
from learned_opt.base import LocalAlgorithm

if TYPE_CHECKING:
    from jaxtyping import Array, Int, PyTree


class ScheduledState(NamedTuple):
    """State under a schedule: local steps, pulls among them, and the state of the optimizer."""

    count: Int[Array, ""]
    inner_state: PyTree


def palsgd(
    make_local_opt: Callable[[Any], optax.GradientTransformation],
    learning_rate: Any,
    *,
    probability: float = 0.1,
    alpha: float | Array = 0.5,
    server_opt: optax.GradientTransformation | None = None,
) -> LocalAlgorithm:
    """PALSGD.

    Args:
      make_local_opt: learning rate -> local optimizer, e.g. `optax.sgd`; it gets eta / (1 - p).
      learning_rate: eta, a number or an optax schedule over local steps.
      probability: p of a pull, at each step of each worker; 0 is `local_sgd`.
      alpha: strength of the pull.
      server_opt: as for `local_sgd`; None: DiLoCo's.

    Raises:
      ValueError: a probability out of range, or an optimizer in the place of what makes it.
    """
    local_opt = pulled(make_local_opt, learning_rate, probability, alpha)
    algorithm = local_sgd(local_opt, diloco() if server_opt is None else server_opt)
    return algorithm._replace(gradients=lambda num_steps: (1 - probability) * num_steps)


def pulled(
    make_local_opt: Callable[[Any], optax.GradientTransformation],
    learning_rate: Any,
    probability: float,
    alpha: float | Array,
) -> optax.GradientTransformationExtraArgs:
    """The local optimizer of `palsgd`, for `local_steps`, which passes `anchor` and `key`."""
    if not callable(make_local_opt):
        raise ValueError(
            f"make_local_opt={type(make_local_opt).__name__}: use a function of the learning rate, e.g. optax.sgd"
        )
    check_number(alpha, "alpha")
    if not 0 <= probability < 1:
        raise ValueError(f"probability={probability}: use 0 or more, below 1")
    if callable(learning_rate):
        return _scheduled(make_local_opt, learning_rate, probability, alpha)
    local = optax.with_extra_args_support(make_local_opt(learning_rate / (1 - probability)))
    strength = learning_rate * alpha / probability if probability else 0.0

    def update(updates, state, params=None, *, anchor=None, key=None, **extra):
        if key is None or anchor is None:
            raise ValueError("palsgd: update needs key and anchor, the global parameters; use it in local_sgd")
        draw_key, local_key = jax.random.split(key)
        is_pull = jax.random.bernoulli(draw_key, probability)
        steps, new_state = local.update(updates, state, params, anchor=anchor, key=local_key, **extra)
        pulls = jax.tree.map(lambda y, x: (strength * (x - y)).astype(y.dtype), params, anchor)

        def choose(on_pull, otherwise):
            return jax.tree.map(lambda a, b: jnp.where(is_pull, a, b), on_pull, otherwise)

        return choose(pulls, steps), choose(state, new_state)

    return optax.GradientTransformationExtraArgs(local.init, update)


def _scheduled(make_local_opt, learning_rate, probability, alpha):
    """At every step that of its own rate: the optimizer rests on a pull, the schedule does not."""

    def at(count):
        return pulled(make_local_opt, learning_rate(count), probability, alpha)

    def init(params):
        return ScheduledState(jnp.int32(0), at(jnp.int32(0)).init(params))

    def update(updates, state, params=None, **extra):
        updates, inner_state = at(state.count).update(updates, state.inner_state, params, **extra)
        return updates, ScheduledState(state.count + 1, inner_state)

    return optax.GradientTransformationExtraArgs(init, update)
