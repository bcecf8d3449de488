"""The one type of this library: a learned optimizer is two pure functions and a description.

`init` draws the meta-parameters `theta`, `transform` turns them into an ordinary optax transform, and `config`
says in JSON how to build the same pair again, which is what a checkpoint stores.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

Theta = dict[str, Any]
"""Meta-parameters: `momentum_decays` [3], `rms_decays` [1], `adafactor_decays` [3] and `mlp` (w0, b0, w1, b1, ...)."""


class LearnedOptimizer(NamedTuple):
    """A learned optimizer.

    Attributes:
      init: key -> theta. The layout of theta does not depend on the task it will be used on.
      transform: theta -> optax transform. Its `update(updates, state, params, *, worker_updates=None, value=None,
        **extra)` takes gradients, or mean pseudo-gradients (params_before - params_after, Reddi et al. 2021,
        arXiv 2003.00295), and returns updates to add to the parameters.
      config: `{"architecture": name, **arguments}`, JSON-serialisable; `learned_opt.from_config` is its inverse.
    """

    init: Callable[[jax.Array], Theta]
    transform: Callable[[Theta], optax.GradientTransformationExtraArgs]
    config: dict[str, Any]
