"""An optax transform that reads parameters and extra arguments, with mistakes in its arguments said in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optax

from learned_opt.argument_checks import check_like, explained_state


def checked_transform(
    init: Callable[[Any], Any], update: Callable[..., tuple[Any, Any]]
) -> optax.GradientTransformationExtraArgs:
    """Both functions as a transform.

    Args:
      init: params -> state.
      update: (updates, state, params, **extra) -> (updates to add, state); is called with parameters, of the form that
        the updates have.

    Raises:
      ValueError: by its `update`, parameters that are missing or of another form than the updates, or a state that is
        not one of `init`.
    """

    def checked_update(updates, state, params=None, **extra: Any):
        if params is None:
            raise ValueError("params is None: call update(updates, state, params), this optimizer reads the parameters")
        check_like(updates, params, "updates")
        with explained_state(state, init, params, "this optimizer"):
            return update(updates, state, params, **extra)

    return optax.GradientTransformationExtraArgs(init, checked_update)  # pyright: ignore[reportArgumentType]
