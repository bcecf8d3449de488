"""The optimizer that a wrapper wraps: given as it is, or, from a checkpoint, as its config."""

from __future__ import annotations

from typing import Any

from learned_opt.base import LearnedOptimizer

_DEEPEST = 4
_MOST_LAYERS = 64


def base_optimizer(base: LearnedOptimizer | dict[str, Any]) -> LearnedOptimizer:
    """Builds it if need be.

    Raises:
      ValueError: neither an optimizer nor a config of one, or one that is nested or layered beyond reason.
    """
    if isinstance(base, LearnedOptimizer):
        return base
    if not isinstance(base, dict):
        raise ValueError(f"base={base!r}: use a LearnedOptimizer, or the config of one")
    # A config may come from anybody's file: it must not make us build for hours.
    depth, inner = 0, base
    while isinstance(inner, dict):
        layers = inner.get("hidden_layers", 0)
        if depth == _DEEPEST or not isinstance(layers, int) or layers > _MOST_LAYERS:
            raise ValueError(
                f"base: use at most {_DEEPEST} optimizers inside each other, and {_MOST_LAYERS} hidden layers"
            )
        depth, inner = depth + 1, inner.get("base")
    # The table holds the wrappers, so they cannot import it while they are imported.
    from learned_opt.architectures import from_config

    return from_config(base)
