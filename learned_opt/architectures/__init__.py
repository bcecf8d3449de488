"""The architectures by name: rebuilds a learned optimizer from the `config` it carries."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from learned_opt.architectures.adafac_mlp_lopt import adafac_mlp_lopt
from learned_opt.architectures.lagg import lagg_a, lopt_a
from learned_opt.architectures.lagg_set import lagg_set
from learned_opt.base import LearnedOptimizer

ARCHITECTURES: dict[str, Callable[..., LearnedOptimizer]] = {
    "adafac_mlp_lopt": adafac_mlp_lopt,
    "lopt_a": lopt_a,
    "lagg_a": lagg_a,
    "lagg_set": lagg_set,
}
SINGLE_MACHINE = ("adafac_mlp_lopt",)
"""Those that are fed gradients; the others are fed what workers did in their local steps."""


def from_config(
    config: dict[str, Any], architectures: Mapping[str, Callable[..., LearnedOptimizer]] | None = None
) -> LearnedOptimizer:
    """The inverse of `LearnedOptimizer.config`.

    Args:
      config: `{"architecture": name, **arguments of that architecture}`; missing arguments take
        their defaults.
      architectures: name -> function, beside the library's own.

    Raises:
      ValueError: an unknown architecture, an unknown argument, or a bad value.
    """
    arguments = dict(config)
    name = arguments.pop("architecture", None)
    known = {**ARCHITECTURES, **(architectures or {})}
    build = known.get(str(name))
    if build is None:
        raise ValueError(f"architecture={name!r}{_hint(name, known)}")
    fields = list(inspect.signature(build).parameters)
    for field in arguments:
        if field not in fields:
            raise ValueError(f"{name} has no argument {field!r}{_hint(field, fields)}")
    try:
        return build(**arguments)
    except TypeError as error:
        raise ValueError(f"{name} with {arguments}: {error}") from None


def _hint(value: Any, choices: Any) -> str:
    close = difflib.get_close_matches(str(value), list(choices), n=1)
    return f": {f'did you mean {close[0]!r}? ' if close else ''}use one of {', '.join(choices)}"
