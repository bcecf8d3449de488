"""A local optimizer whose gradients are corrected before it sees them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import optax

from learned_opt.argument_checks import check_transform

Correction = Callable[[Any, Any, Any, Any], Any]
"""(gradient, params, anchor, grad_fn) -> gradient; `anchor`, the global parameters, `grad_fn`, params -> gradient on
the same batch."""


def corrected(local_opt: optax.GradientTransformation, correct: Correction) -> optax.GradientTransformationExtraArgs:
    """`local_opt` behind a correction, for `local_steps`, which passes `anchor` and `grad_fn`."""
    check_transform(local_opt, "local_opt")
    local = optax.with_extra_args_support(local_opt)

    def update(updates, state, params=None, *, anchor=None, grad_fn=None, **extra):
        updates = correct(updates, params, anchor, grad_fn)
        return local.update(updates, state, params, anchor=anchor, grad_fn=grad_fn, **extra)

    return optax.GradientTransformationExtraArgs(local.init, update)


def plus(gradient: Any, correction: Any) -> Any:
    """Their sum, in the types of the gradient."""
    return jax.tree.map(lambda g, c: g + c.astype(g.dtype), gradient, correction)
