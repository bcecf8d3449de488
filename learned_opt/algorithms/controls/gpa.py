"""Generalized primal averaging, GPA (2025, arXiv 2512.17131): DiLoCo's outer step at K = 1, smoothed over every step.

    y = mu_y x + (1 - mu_y) z;   z <- z + opt(mean_k grad loss(y));   x <- mu_x x + (1 - mu_x) z

x is evaluated. One loop and no copy of the start of a round; mu_x = 0.9^(1/H) takes the place of an outer momentum of
0.9 every H steps. Weight decay acts at y, where the gradient is taken. With mu_x = 0 it is `opt` alone, as
y = x = z then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import optax

from learned_opt.algorithms.controls.synchronous import mean_gradient, numbered
from learned_opt.algorithms.round import dense_bytes
from learned_opt.argument_checks import check_count, check_transform
from learned_opt.base import LocalAlgorithm, Params, RoundInfo, RoundState

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree


class Shared(NamedTuple):
    """The average x, the iterate z, and the state of the optimizer that moves z."""

    params: Params
    iterate: Params
    opt_state: PyTree


def gpa(
    opt: optax.GradientTransformation,
    num_local_steps: int,
    averaging: float | Array | None = None,
    interpolation: float | Array = 0.7,
) -> LocalAlgorithm:
    """GPA around `opt`, with the mean gradient of all workers at every step.

    Args:
      opt: moves z; receives y as the parameters, and `value`, the mean loss.
      num_local_steps: H, which the batches must have.
      averaging: mu_x; None: 0.9^(1/H), e.g. 0.9869 at H = 8 and 0.9967 at H = 32.
      interpolation: mu_y.

    Raises:
      ValueError: H below 1; by `round`, batches of another number of steps.
    """
    check_transform(opt, "opt")
    opt, num_local_steps = optax.with_extra_args_support(opt), check_count(num_local_steps, "num_local_steps")
    mu_x = 0.9 ** (1 / num_local_steps) if averaging is None else averaging

    def step(loss_fn, key, carry, index_and_batch):
        average, iterate, opt_state = carry
        point = _mix(interpolation, average, iterate)
        loss, mean_loss, gradient = mean_gradient(loss_fn, point, key, *index_and_batch)
        updates, opt_state = opt.update(gradient, opt_state, point, value=mean_loss)
        iterate = optax.apply_updates(iterate, updates)
        return Shared(_mix(mu_x, average, iterate), iterate, opt_state), loss

    def round_fn(loss_fn, state, key, batches):
        shared, losses = jax.lax.scan(
            lambda carry, inputs: step(loss_fn, key, carry, inputs), state.shared, numbered(batches, num_local_steps)
        )
        return RoundState(shared, ()), RoundInfo(losses, {})

    return LocalAlgorithm(
        lambda params: RoundState(Shared(params, params, opt.init(params)), ()),
        round_fn,
        lambda state: state.shared.params,
        lambda params: num_local_steps * dense_bytes(params),
        bytes_received=lambda params, num_workers: num_local_steps * dense_bytes(params),
        peak_bytes=dense_bytes,
    )


def _mix(weight, first, second):
    """weight * first + (1 - weight) * second, exact where both are equal."""
    return jax.tree.map(lambda a, b: (b + weight * (a - b)).astype(b.dtype), first, second)
