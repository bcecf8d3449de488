"""muLO: a learned optimizer whose steps keep their meaning as the width grows (Therien et al. 2024, arXiv 2406.00153).

    x_i <- x_i + multiplier_i * update_i

In the maximal-update parametrisation (Yang et al. 2022, arXiv 2203.03466) hidden weights get 1 / fan_in, everything
else 1; the multiplier of the output layer and its zero start are the model's. The rule inside is unchanged: its
features are divided by their size, which is free of the width already.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from learned_opt.base import LearnedOptimizer

Multipliers = Any
"""One number a tensor: a tree like the parameters, or a sequence in the order of their leaves."""


def mup(
    base: LearnedOptimizer,
    multipliers: Multipliers = None,
    clip_norm: float | None = None,
    zero_nan: bool = False,
) -> LearnedOptimizer:
    """Wraps any learned optimizer; theta is the base's.

    Args:
      base: the optimizer.
      multipliers: of the steps. None: every `update` is given them, `update(..., multipliers=...)`.
      clip_norm: gradients of a larger global norm are scaled down to it first; None: they are not.
      zero_nan: NaN in gradients counts as 0 (after the clip).

    Raises:
      ValueError: by `update`, multipliers that are missing or do not fit the parameters.
    """
    if multipliers is not None:
        multipliers = jax.tree.map(float, _as_list(multipliers))
    config = {
        "architecture": "mup",
        "base": base.config,
        "multipliers": multipliers,
        "clip_norm": clip_norm,
        "zero_nan": zero_nan,
    }
    prepare = optax.identity() if clip_norm is None else optax.clip_by_global_norm(clip_norm)

    def transform(theta, num_steps=None):
        return _transform(base.transform(theta, num_steps), multipliers, prepare, zero_nan)

    return base._replace(transform=transform, config=config)


def _transform(inner, own_multipliers, prepare, zero_nan):
    def update(updates, state, params=None, *, multipliers: Multipliers = None, **extra: Any):
        multipliers = own_multipliers if multipliers is None else multipliers
        factors = _for_leaves(multipliers, jax.tree.structure(updates))
        updates = jax.tree.map(lambda g: jnp.asarray(g).astype(jnp.float32), updates)
        updates, _ = prepare.update(updates, prepare.init(updates))
        if zero_nan:
            updates = jax.tree.map(jnp.nan_to_num, updates)
        steps, state = inner.update(updates, state, params, **extra)
        leaves, treedef = jax.tree.flatten(steps)
        scaled = [
            (jnp.asarray(factor, jnp.float32) * step.astype(jnp.float32)).astype(step.dtype)
            for factor, step in zip(factors, leaves, strict=True)
        ]
        return treedef.unflatten(scaled), state

    return optax.GradientTransformationExtraArgs(inner.init, update)


def _as_list(multipliers):
    # An array of numbers is a sequence; JSON knows lists.
    return [float(x) for x in multipliers] if getattr(multipliers, "ndim", 0) == 1 else multipliers


def _for_leaves(multipliers, treedef):
    if multipliers is None:
        raise ValueError(
            "multipliers=None: build mup(base, multipliers=...), or call update(..., multipliers=one number a tensor)"
        )
    try:
        leaves = treedef.flatten_up_to(multipliers)
    except (ValueError, TypeError):
        is_sequence = isinstance(multipliers, Sequence) or getattr(multipliers, "ndim", 0) == 1
        leaves = list(multipliers) if is_sequence else []
    if len(leaves) != treedef.num_leaves or not all(_is_number(leaf) for leaf in leaves):
        raise ValueError(
            f"multipliers={str(multipliers):.200}: use one number for each of the {treedef.num_leaves} tensors"
        )
    return leaves


def _is_number(leaf):
    return isinstance(leaf, int | float) or getattr(leaf, "ndim", None) == 0
