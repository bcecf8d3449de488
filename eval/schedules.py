"""Learning-rate schedules of an evaluation: one for every contender alike, over the length of a run.

    constant  1
    cosine    (1 + cos(pi p)) / 2                        Loshchilov & Hutter 2017, arXiv 1608.03983
    linear    1 - p                                      Defazio et al. 2023, arXiv 2310.07831
    wsd       min(q / 0.05, 1, (1 - p) / 0.2)            warm-up, stable, decay: Hu et al. 2024, arXiv 2404.06395

p = t / T and q = (t + 1) / T at step t = 0 .. T - 1. The factor multiplies a transform's updates, which is its learning
rate where that is the last factor, as in optax (decoupled weight decay is scaled with it, as there).
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

WARMUP, DECAY = 0.05, 0.2
"""Shares of a run that "wsd" warms up and decays for."""

SCHEDULES: dict[str, Callable[[Any, Any], Any]] = {
    "constant": lambda p, q: jnp.ones_like(p),
    "cosine": lambda p, q: 0.5 * (1 + jnp.cos(jnp.pi * p)),
    "linear": lambda p, q: 1 - p,
    "wsd": lambda p, q: jnp.minimum(jnp.minimum(q / WARMUP, 1), (1 - p) / DECAY),
}
"""Name -> (p, q) -> factor."""


def factor(schedule: str, step: Any, num_steps: int) -> Float[Array, ""]:
    """The factor at a step, 0 to num_steps - 1; of the last one beyond."""
    done = jnp.minimum(jnp.asarray(step, jnp.float32), num_steps - 1)
    return SCHEDULES[schedule](done / num_steps, (done + 1) / num_steps)


def scheduled(
    transform: optax.GradientTransformation, schedule: str, num_steps: int
) -> optax.GradientTransformationExtraArgs:
    """The transform with its updates times the factor; under "constant" the transform itself."""
    transform = optax.with_extra_args_support(transform)
    if schedule == "constant":
        return transform
    return optax.chain(transform, optax.scale_by_schedule(lambda step: factor(schedule, step, num_steps)))
