"""SA-SGD and SA-SAM: the learning rate, and the radius of SAM, from the smoothness that the last step has met.

    eta_t = min(sqrt(1 + amplify theta) eta_{t-1}, |y_t - y_{t-1}| / (damp |g_t - g_{t-1}|)) + 1e-8
    theta = eta_{t-1} / eta_{t-2}
    SA-SGD:  y <- y - eta_t g_t
    SA-SAM:  y <- y - eta_t grad(y + sqrt(eta_t) g_t / |g_t|)

Smoothness-adaptive sharpness-aware minimization (Naganuma et al. 2024, ICLR) with the rate of Malitsky & Mishchenko
2020 (arXiv 1910.09529), norms over all parameters together; SAM is Foret et al. 2021 (arXiv 2010.01412). Both gradients
of a difference are of this step's batch, so `update` needs `grad_fn`: params -> gradient on it, as
`learned_opt.local_sgd` passes it. SA-SGD computes two gradients a step and SA-SAM three. The learning rate given is
that of the first step; a schedule multiplies all later ones by its value over its first, which must not be 0.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.optimizers.learning_rate import LearningRate, rate_at

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int, PyTree

SMALLEST = 1e-8
"""Added to every rate."""


class SmoothnessAdaptiveState(NamedTuple):
    """State of both.

    Attributes:
      count: steps taken.
      rate: eta of the last step.
      ratio: theta.
      previous: parameters that the last step began at.
    """

    count: Int[Array, ""]
    rate: Float[Array, ""]
    ratio: Float[Array, ""]
    previous: PyTree


def sa_sgd(
    learning_rate: LearningRate, amplify: float | Array = 0.02, damp: float | Array = 1.0
) -> optax.GradientTransformationExtraArgs:
    """SGD at a rate that follows the curvature; its `update` needs `params` and `grad_fn`.

    Args:
      learning_rate: of the first step, 0.05 to 0.2 in the authors' runs; a number, a traced scalar or a schedule.
      amplify: how fast the rate may grow.
      damp: how many times shorter than the inverse of the curvature a step is.
    """
    return _smoothness_adaptive(
        "sa_sgd", learning_rate, amplify, damp, lambda rate, gradient, params, grad_fn: gradient
    )


def sa_sam(
    learning_rate: LearningRate, amplify: float | Array = 0.02, damp: float | Array = 1.0
) -> optax.GradientTransformationExtraArgs:
    """SAM with the same rate, and its root as the radius; arguments as for `sa_sgd`."""

    def uphill(rate, gradient, params, grad_fn):
        norm = _norm(gradient)
        scale = jnp.sqrt(rate) / jnp.where(norm > 0, norm, 1)
        return grad_fn(jax.tree.map(lambda p, g: p + (scale * g.astype(jnp.float32)).astype(p.dtype), params, gradient))

    return _smoothness_adaptive("sa_sam", learning_rate, amplify, damp, uphill)


def _smoothness_adaptive(name, learning_rate, amplify, damp, direction_at):
    first: Any = rate_at(learning_rate, jnp.zeros((), jnp.int32))
    with contextlib.suppress(jax.errors.ConcretizationTypeError):
        if not float(first) > 0:
            raise ValueError(
                f"{name}: learning_rate begins at {float(first):g}, and is the rate of the first step: use a number "
                "or a schedule that begins above 0"
            )

    def init(params):
        one = jnp.ones((), jnp.float32)
        return SmoothnessAdaptiveState(jnp.zeros((), jnp.int32), one, one, jax.tree.map(jnp.asarray, params))

    def update(updates, state, params: Any = None, *, grad_fn: Any = None, **extra):
        del extra
        if params is None or grad_fn is None:
            raise ValueError(
                f"{name}: update needs params and grad_fn=, params -> gradient on the same batch; "
                "learned_opt.local_sgd and data_parallel pass both"
            )
        moved = _norm(jax.tree.map(_difference, params, state.previous))
        bent = _norm(jax.tree.map(_difference, updates, grad_fn(state.previous)))
        longest = jnp.sqrt(1 + amplify * state.ratio) * state.rate
        # Without a difference of gradients nothing bounds the rate but its growth; one without a step says nothing.
        curved = jnp.where((bent > 0) & (moved > 0), moved / jnp.where(bent > 0, damp * bent, 1), jnp.inf)
        is_first = state.count == 0
        rate = jnp.where(is_first, first, jnp.minimum(longest, curved) + SMALLEST).astype(jnp.float32)
        ratio = jnp.where(is_first, 1, rate / state.rate)
        factor = rate_at(learning_rate, state.count) / first
        direction = direction_at(rate, updates, params, grad_fn)
        steps = jax.tree.map(lambda g: (-rate * factor * g.astype(jnp.float32)).astype(g.dtype), direction)
        count = jnp.asarray(optax.safe_increment(state.count))
        return steps, SmoothnessAdaptiveState(count, rate, ratio, params)

    return optax.GradientTransformationExtraArgs(init, update)


def _difference(x, y):
    return x.astype(jnp.float32) - y.astype(jnp.float32)


def _norm(tree):
    return jnp.sqrt(sum((jnp.sum(jnp.square(x.astype(jnp.float32))) for x in jax.tree.leaves(tree)), jnp.float32(0)))
