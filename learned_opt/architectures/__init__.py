"""The architectures by name: rebuilds a learned optimizer from the `config` it carries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from learned_opt.architectures.adafac_mlp_lopt import adafac_mlp_lopt
from learned_opt.architectures.as_server import as_server
from learned_opt.architectures.celo import celo
from learned_opt.architectures.celo2 import celo2
from learned_opt.architectures.celo2_base import celo2_base
from learned_opt.architectures.celo_adam import celo_adam
from learned_opt.architectures.hyper_v2 import hyper_v2
from learned_opt.architectures.lagg_a import lagg_a
from learned_opt.architectures.lagg_set import lagg_set
from learned_opt.architectures.learnable_adam import learnable_adam
from learned_opt.architectures.learnable_sgd import learnable_sgd
from learned_opt.architectures.learnable_sgdm import learnable_sgdm
from learned_opt.architectures.lopt_a import lopt_a
from learned_opt.architectures.mlp_lopt import mlp_lopt
from learned_opt.architectures.mup import mup
from learned_opt.architectures.nn_adam import nn_adam
from learned_opt.architectures.rnn_mlp_lopt import rnn_mlp_lopt
from learned_opt.base import LearnedOptimizer
from learned_opt.names import check_arguments, hint

ARCHITECTURES: dict[str, Callable[..., LearnedOptimizer]] = {
    "adafac_mlp_lopt": adafac_mlp_lopt,
    "lopt_a": lopt_a,
    "lagg_a": lagg_a,
    "lagg_set": lagg_set,
    "learnable_sgd": learnable_sgd,
    "learnable_sgdm": learnable_sgdm,
    "learnable_adam": learnable_adam,
    "mlp_lopt": mlp_lopt,
    "nn_adam": nn_adam,
    "rnn_mlp_lopt": rnn_mlp_lopt,
    "hyper_v2": hyper_v2,
    "celo": celo,
    "celo_adam": celo_adam,
    "celo2_base": celo2_base,
    "celo2": celo2,
    "as_server": as_server,
    "mup": mup,
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
      ValueError: an unknown architecture, an unknown argument, a bad value, or a function that returns no optimizer.
    """
    arguments = dict(config)
    name = str(arguments.pop("architecture", None))
    known = {**ARCHITECTURES, **_checked(architectures)}
    if name not in known:
        raise ValueError(
            f"architecture={name!r}: {hint(name, known)}; one of your own comes with its function, "
            f"architectures={{{name!r}: FUNCTION}}, on a command line NAME_OR_FILE,architecture=FILE.py:FUNCTION"
        )
    check_arguments(known[name], arguments, name)
    for field, value in arguments.items():
        if isinstance(value, Mapping) and "architecture" in value:
            arguments[field] = from_config(value, architectures)
    try:
        built = known[name](**arguments)
    except TypeError as error:
        raise ValueError(f"{name} with {arguments}: {error}") from None
    if not isinstance(built, LearnedOptimizer):
        raise ValueError(f"architectures[{name!r}] returned {type(built).__name__}: return a LearnedOptimizer")
    return built


def _checked(architectures):
    if architectures is None:
        return {}
    if not isinstance(architectures, Mapping):
        raise ValueError(f"architectures={str(architectures)[:60]}: use a dict of functions by name")
    for name, function in architectures.items():
        if isinstance(function, LearnedOptimizer) or not callable(function):
            raise ValueError(f"architectures[{name!r}]={str(function)[:60]}: use the function, not what it returns")
    return architectures
