"""The published optimizers: how each is built here, and what its leaves are called there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from learned_opt.architectures.adafac_mlp_lopt import adafac_mlp_lopt
from learned_opt.architectures.celo import celo
from learned_opt.architectures.celo2 import celo2
from learned_opt.architectures.celo2_base import celo2_base
from learned_opt.architectures.celo_adam import celo_adam
from learned_opt.architectures.hyper_v2 import hyper_v2
from learned_opt.architectures.lagg_a import lagg_a
from learned_opt.architectures.learnable_adam import learnable_adam
from learned_opt.architectures.learnable_sgd import learnable_sgd
from learned_opt.architectures.learnable_sgdm import learnable_sgdm
from learned_opt.architectures.lopt_a import lopt_a
from learned_opt.architectures.mlp_lopt import mlp_lopt
from learned_opt.architectures.mup import mup
from learned_opt.architectures.nn_adam import nn_adam
from learned_opt.architectures.rnn_mlp_lopt import rnn_mlp_lopt
from learned_opt.base import LearnedOptimizer
from learned_opt.per_parameter.velo_features import BLOCK_SIZES
from learned_opt.published import arguments as published

Leaves = Mapping[str, tuple[int, ...]]
"""Shapes by published name."""


class Kind(NamedTuple):
    """A published optimizer.

    Attributes:
      arguments: what its constructor takes.
      build: our architecture.
      prefixes: beginnings of our leaf names -> of the published ones; the first that fits counts, and leaves that begin
        with none are called alike. A name that ends in "linear_" is that of a layer: w0 is there linear_0/w.
      sizes: shapes by published name -> our arguments that say how large it is; a name that is missing raises KeyError.
      defaults: our arguments where nothing is given, if not those of `build`; "mup." as in `our_arguments`.
      has_multipliers: whether it is wrapped by `mup`.
    """

    arguments: published.Arguments
    build: Callable[..., LearnedOptimizer]
    prefixes: Mapping[str, str]
    sizes: Callable[[Leaves], dict[str, int]]
    defaults: Mapping[str, Any] = {}
    has_multipliers: bool = False


def build_optimizer(kind: Kind, arguments: Mapping[str, Any]) -> LearnedOptimizer:
    """Our optimizer; arguments as `our_arguments` returns them."""
    arguments = {**kind.defaults, **arguments}
    inner = {name: value for name, value in arguments.items() if not name.startswith(_WRAPPER)}
    lopt = kind.build(**inner)
    if not kind.has_multipliers:
        return lopt
    outer = {name.removeprefix(_WRAPPER): arguments[name] for name in arguments.keys() - inner.keys()}
    return mup(lopt, **outer)


def published_names(kind: Kind, name: str) -> list[str]:
    """What the published file calls our leaf; several names: its rows, one block after another."""
    for prefix, theirs in kind.prefixes.items():
        if name.startswith(prefix):
            rest = name.removeprefix(prefix)
            if theirs.endswith("linear_"):
                return [f"{theirs}{rest[1:]}/{rest[0]}"]
            if theirs == _STACK and rest == "w0":
                return [f"{_STACK}w0__{i}" for i in range(len(BLOCK_SIZES))]
            return [theirs + rest]
    return [name]


_WRAPPER = "mup."
_STACK = "ff_mod_stack/~/"
_LSTM = {"lstm/": "rnn_params/rnn/linear/"}


def _no_sizes(leaves: Leaves) -> dict[str, int]:
    del leaves
    return {}


def _mlp_sizes(biases: str, ends: str = "") -> Callable[[Leaves], dict[str, int]]:
    """Of an MLP whose first bias is called `biases`0`ends`."""

    def sizes(leaves):
        num_layers = sum(name.startswith(biases) and name.endswith(ends) for name in leaves)
        return {"hidden_size": leaves[f"{biases}0{ends}"][-1], "hidden_layers": num_layers - 1}

    return sizes


def _lstm_sizes(leaves):
    return {"lstm_hidden_size": leaves["lstm_init_state/hidden"][-1]}


def _stack_sizes(leaves):
    return _mlp_sizes(f"{_STACK}b")(leaves) | _lstm_sizes(leaves) | {"num_mlps": leaves[f"{_STACK}b0"][0]}


def _rnn_sizes(leaves):
    messages = {
        "from_mlp_size": leaves["initial_from_mlp"][-1],
        "from_lstm_size": leaves["initial_from_lstm"][-1],
        "to_mlp_size": leaves["rnn_to_ff_params/rnn_to_ff/b"][-1],
    }
    return _lstm_sizes(leaves) | _mlp_sizes("ffmod_params/mlp/~/linear_", "/b")(leaves) | messages


def _lagg_sizes(leaves):
    # 38 inputs are not workers' updates.
    return _mlp_sizes("nn/~/b")(leaves) | {"num_workers": max(1, leaves["nn/~/w0"][0] - 38)}


_ADAFAC_PREFIXES = {"mlp/": "nn/~/"}
_HYPER_PREFIXES = {"rnn_params/lstm/": "rnn_params/rnn/linear/", "ff_mod_stack/": _STACK}
_CELO2_PREFIXES = {"": _STACK}
_CELO2_SIZES = _mlp_sizes(f"{_STACK}b")

KINDS = {
    "learnable_sgd": Kind(published.LEARNABLE_SGD, learnable_sgd, {}, _no_sizes),
    "learnable_sgdm": Kind(published.LEARNABLE_SGDM, learnable_sgdm, {}, _no_sizes),
    "learnable_adam": Kind(published.LEARNABLE_ADAM, learnable_adam, {}, _no_sizes),
    "mlp_lopt": Kind(published.MLP_LOPT, mlp_lopt, {"": "mlp/~/linear_"}, _mlp_sizes("mlp/~/linear_", "/b")),
    "adafac_mlp_lopt": Kind(published.ADAFAC_MLP_LOPT, adafac_mlp_lopt, _ADAFAC_PREFIXES, _mlp_sizes("nn/~/b")),
    "nn_adam": Kind(
        published.NN_ADAM,
        nn_adam,
        _LSTM | {"rnn_to_controls/": "rnn_to_controls_params/rnn_to_controls/", "hyperparameters/": "per_layer_"},
        _lstm_sizes,
    ),
    "rnn_mlp_lopt": Kind(
        published.RNN_MLP_LOPT,
        rnn_mlp_lopt,
        _LSTM
        | {
            "rnn_to_ff/": "rnn_to_ff_params/rnn_to_ff/",
            "rnn_to_in/": "rnn_to_in_params/rnn_to_in/",
            "mlp/": "ffmod_params/mlp/~/linear_",
        },
        _rnn_sizes,
    ),
    "hyper_v2": Kind(published.HYPER_V2, hyper_v2, _HYPER_PREFIXES, _stack_sizes),
    "celo": Kind(published.CELO, celo, _HYPER_PREFIXES, _stack_sizes),
    "celo_adam": Kind(published.CELO_ADAM, celo_adam, _HYPER_PREFIXES, _lstm_sizes),
    "celo2": Kind(published.CELO2_RECIPE, celo2, _CELO2_PREFIXES, _CELO2_SIZES),
    "celo2_base": Kind(published.CELO2_BASE, celo2_base, _CELO2_PREFIXES, _CELO2_SIZES),
    "mup_adafac_mlp_lopt": Kind(
        published.MUP_ADAFAC_MLP_LOPT,
        adafac_mlp_lopt,
        _ADAFAC_PREFIXES,
        _mlp_sizes("nn/~/b"),
        {"mup.zero_nan": True},
        has_multipliers=True,
    ),
    "mup_hyper_v2": Kind(published.MUP_HYPER_V2, hyper_v2, _HYPER_PREFIXES, _stack_sizes, has_multipliers=True),
    "lopt_a": Kind(published.LOPT_A, lopt_a, _ADAFAC_PREFIXES, _mlp_sizes("nn/~/b")),
    "lagg_a": Kind(published.LAGG_A, lagg_a, _ADAFAC_PREFIXES, _lagg_sizes),
}
"""By the names that `import_weights` takes."""


_CELO2_OF_MATRICES = Kind(published.CELO2_BASE, celo2_base, _CELO2_PREFIXES, _CELO2_SIZES, {"orthogonalize": True})
# There the expression alone decides which tensors are Adam's.
_CELO2_META_TRAINING = Kind(
    published.CELO2_META_TRAINING,
    celo2,
    _CELO2_PREFIXES,
    _CELO2_SIZES,
    {"adam_rank": -1, "adam_paths": ".*bias.*|.*embed.*", "adam_form": "meta_training", "adam_b2": 0.999},
)


def find_kind(name: str, given: Mapping[str, Any]) -> Kind:
    """The kind of this name; Celo2 has three published forms, told apart by the arguments that only one of them has:
    the recipe of its README, the wrapper it was meta-trained in, and the rule alone for every tensor."""
    if name == "celo2" and {"regex_1d", "adam_b1", "adam_b2", "adam_epsilon"} & set(given):
        return _CELO2_META_TRAINING
    if name == "celo2" and "orthogonalize" in given and not {"recipe", "mult_1d", "adamw_b1"} & set(given):
        return _CELO2_OF_MATRICES
    return KINDS[name]
