"""The architectures by name: rebuilds a learned optimizer from the `config` it carries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from learned_opt.architectures.adafac_mlp_lopt import adafac_mlp_lopt
from learned_opt.architectures.lagg_a import lagg_a
from learned_opt.architectures.lagg_set import lagg_set
from learned_opt.architectures.lopt_a import lopt_a
from learned_opt.base import LearnedOptimizer
from learned_opt.names import check_arguments, hint

ARCHITECTURES: dict[str, Callable[..., LearnedOptimizer]] = {
    "adafac_mlp_lopt": adafac_mlp_lopt,
    "lopt_a": lopt_a,
    "lagg_a": lagg_a,
    "lagg_set": lagg_set,
}


def from_config(
    config: Mapping[str, Any], architectures: Mapping[str, Callable[..., LearnedOptimizer]] | None = None
) -> LearnedOptimizer:
    """The inverse of `LearnedOptimizer.config`.

    Args:
      config: `{"architecture": name, **arguments of that architecture}`; missing arguments take their defaults. An
        argument that is itself a config, of an optimizer that the architecture wraps, is built first.
      architectures: name -> function, beside the library's own.

    Raises:
      ValueError: an unknown architecture, an unknown argument, or a bad value.
    """
    arguments = dict(config)
    name = str(arguments.pop("architecture", None))
    known = {**ARCHITECTURES, **(architectures or {})}
    if name not in known:
        raise ValueError(f"architecture={name!r}: {hint(name, known)}")
    check_arguments(known[name], arguments, name)
    for field, value in arguments.items():
        if isinstance(value, Mapping) and "architecture" in value:
            arguments[field] = from_config(value, architectures)
    try:
        return known[name](**arguments)
    except TypeError as error:
        raise ValueError(f"{name} with {arguments}: {error}") from None
