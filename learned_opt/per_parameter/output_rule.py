"""The output rule of the published per-parameter optimizers: from the MLP's two outputs to a step.

    step = -step_mult * s * d * exp(exp_mult * m)

(Metz et al. 2022, arXiv 2203.11860.) Beside a hand-made step s is the root mean square of the tensor's (mean pseudo-)
gradient, and the step a correction of its size; without one s is 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Step = Callable[[Any, Any, Any], jax.Array]
"""(direction d, log magnitude m, scale s) -> what is added to the parameters, elementwise."""

PUBLISHED_STEP_MULT = 1e-3
ANCHORED_STEP_MULT = 3.0


def check_nominal(nominal: str, choices: tuple[str, ...]) -> None:
    """ValueError for a hand-made step that is not among the choices."""
    if nominal not in choices:
        raise ValueError(f"nominal={nominal!r}: use one of {', '.join(choices)}")


def default_step_mult(nominal: str) -> float:
    """1e-3, or 3 beside a hand-made step."""
    return PUBLISHED_STEP_MULT if nominal == "none" else ANCHORED_STEP_MULT


def exponential_step(step_mult: float | jax.Array, exp_mult: float) -> Step:
    """The rule above, for any s."""
    return lambda direction, magnitude, scale: -(step_mult * scale) * direction * jnp.exp(exp_mult * magnitude)


def unscaled_exponential_step(step_mult: float | jax.Array, exp_mult: float) -> Step:
    """The rule above with s = 1, whatever the scale of the gradient."""
    step = exponential_step(step_mult, exp_mult)
    return lambda direction, magnitude, scale: step(direction, magnitude, 1.0)
