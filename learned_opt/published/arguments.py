"""Constructor arguments of published optimizers, as arguments of ours.

A published optimizer is built with dozens of switches. Those that we have are renamed or converted; those that only
concern logging or the way of computing are dropped; those of which we have one value must have it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from learned_opt.names import hint


class Arguments(NamedTuple):
    """What a published constructor takes, by its names.

    Attributes:
      renamed: -> our name.
      fixed: -> the value that it must have.
      converted: -> a function from its value to our arguments.
      ignored: those that make no difference to an update.
    """

    renamed: dict[str, str]
    fixed: dict[str, Any] = {}
    converted: dict[str, Callable[[Any], dict[str, Any]]] = {}
    ignored: frozenset[str] = frozenset()


def our_arguments(kind: str, known: Arguments, given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the optimizer, and of the muP wrapper around it with "mup." in front.

    Raises:
      ValueError: an argument that the kind does not have, or a value that we do not.
    """
    names = {*known.renamed, *known.fixed, *known.converted, *known.ignored}
    result = {}
    for name, value in given.items():
        if name not in names:
            raise ValueError(f"{kind} has no published argument {name!r}; {hint(name, sorted(names))}")
        if name in known.renamed:
            result[known.renamed[name]] = value
        elif name in known.converted:
            result |= known.converted[name](value)
        elif name in known.fixed and not _equal(value, known.fixed[name]):
            raise ValueError(f"{name}={value!r}: {kind} is implemented with {name}={known.fixed[name]!r} only")
    return result


def same(*names: str) -> dict[str, str]:
    """Names that we have taken over."""
    return {name: name for name in names}


def _equal(value, expected):
    if isinstance(expected, tuple):
        return isinstance(value, list | tuple) and tuple(value) == expected
    return value == expected and isinstance(value, bool) == isinstance(expected, bool)


def _all(value: Any, *names: str) -> dict[str, Any]:
    return {name: value for name in names}


_DECAYS = {
    "initial_momentum_decays": (0.9, 0.99, 0.999),
    "initial_rms_decays": (0.999,),
    "initial_adafactor_decays": (0.9, 0.99, 0.999),
}
_CHANNELS = _all(
    True,
    "with_g",
    "with_m",
    "with_rms",
    "with_rms_norm_g",
    "with_rsqrt_rms",
    "with_p",
    "with_fac_norm_g",
    "with_fac_rms",
    "with_fac_rsqrt",
    "with_grad_clip_feat",
    "with_fac_mom_mult",
    "with_rms_only_norm_g",
)
_VELO_CHANNELS = _CHANNELS | _all(True, "with_m_feat", "with_rms_feat", "adafactor_accumulator")
_NETWORK = _all(False, "validation_mode", "with_validation_feature_dim", "constant_loss") | {
    "mix_layers": True,
    "rnn_state_decay": 0.0,
    "clip_param_scale_amount": None,
}
_MLP = same("exp_mult", "step_mult", "hidden_size", "hidden_layers")
_FF = {"exp_mult": "exp_mult", "ff_hidden_size": "hidden_size", "ff_hidden_layers": "hidden_layers"}
_STACK = _FF | {"step_mult": "step_mult", "lstm_hidden_size": "lstm_hidden_size", "param_inits": "num_mlps"}
_SUMMARIES = frozenset({"summarize_each_layer", "summarize_all_control", "reparam_decay"})
_MULTIPLIERS = dict.fromkeys(
    ("mup_lrs", "multipliers"), lambda numbers: {} if numbers is None else {"mup.multipliers": numbers}
)
_BUGS = {
    "use_bugged_next_lstm_state": lambda bugged: {"keep_lstm_state": not bugged},
    "use_bugged_loss_features": lambda bugged: {"loss_horizon": not bugged},
}
_WEIGHT_LAYOUT = _all(False, "make_separate_weights", "split_weights")

LEARNABLE_SGD = Arguments(same("initial_lr"))
LEARNABLE_SGDM = Arguments(same("initial_lr", "initial_momentum"))
LEARNABLE_ADAM = Arguments(
    same("initial_lr", "initial_beta1", "initial_beta2", "initial_epsilon"), ignored=frozenset({"use_summary"})
)
MLP_LOPT = Arguments(_MLP, ignored=frozenset({"compute_summary"}))
ADAFAC_MLP_LOPT = Arguments(_MLP, _DECAYS | _WEIGHT_LAYOUT, ignored=frozenset({"concat_weights"}))
MUP_ADAFAC_MLP_LOPT = ADAFAC_MLP_LOPT._replace(
    converted=_MULTIPLIERS | {"clip_grad": lambda clip: {"mup.clip_norm": 1.0 if clip else None}}
)
LOPT_A = ADAFAC_MLP_LOPT._replace(
    fixed=_DECAYS | _WEIGHT_LAYOUT | {"with_all_grads": False, "with_avg": True},
    ignored=frozenset({"concat_weights", "num_grads"}),
)
LAGG_A = ADAFAC_MLP_LOPT._replace(
    renamed=_MLP | {"num_grads": "num_workers"},
    fixed=_DECAYS | _WEIGHT_LAYOUT | {"with_all_grads": True, "with_avg": False},
)
NN_ADAM = Arguments(
    same(
        "output_scale",
        "initial_learning_rate",
        "initial_beta1",
        "initial_beta2",
        "initial_epsilon",
        "decay_strength",
        "lstm_hidden_size",
    )
)
RNN_MLP_LOPT = Arguments(
    same("hidden_size", "from_mlp_size", "from_lstm_size", "lstm_hidden_size")
    | {
        "step_multiplier": "step_mult",
        "magnitude_rate": "exp_mult",
        "hidden_layer": "hidden_layers",
        "lstm_to_ff": "to_mlp_size",
    },
    {"decays": (0.5, 0.9, 0.99, 0.999, 0.9999)},
)
HYPER_V2 = Arguments(
    _STACK,
    _DECAYS | _VELO_CHANNELS | _NETWORK | {"param_scale_mult": True, "precondition_output": False},
    _BUGS,
    _SUMMARIES,
)
MUP_HYPER_V2 = Arguments(
    _STACK | {"interp_mult": "interpolation"},
    {**HYPER_V2.fixed, "identity_lstm_controls": False, "identity_lr_mult": False},
    _BUGS | _MULTIPLIERS,
    _SUMMARIES,
)
CELO = Arguments(
    _STACK | {"train_phase": "phase"},
    _DECAYS | _VELO_CHANNELS | _NETWORK | {"param_scale_mult": True, "precondition_output": False},
    ignored=_SUMMARIES,
)
CELO_ADAM = Arguments(
    same("lstm_hidden_size", "step_mult") | {"initial_epsilon": "epsilon"},
    {
        **_NETWORK,
        "initial_momentum_decays": (0.9,),
        "initial_rms_decays": (0.999,),
        "mom_decay": True,
        "param_scale_mult": False,
    },
    ignored=_SUMMARIES
    | frozenset(_VELO_CHANNELS)
    | {"exp_mult", "param_inits", "ff_hidden_size", "ff_hidden_layers", "precondition_output"}
    | {"initial_adafactor_decays"},
)
_CELO2_FIXED = {
    **_CHANNELS,
    **_DECAYS,
    **_all(False, "param_scale_mult", "precondition_output", "aggregate_mag"),
    **_all(True, "normalize_input", "normalize_output"),
    "initial_rms_decays": (0.95,),
    "rmsmult": 1.0,
    "mlp_activation": "relu",
    "ns_coeffs": (3.4445, -4.775, 2.0315),
    "ns_iters": 5,
    "ns_eps": 1e-8,
}
CELO2_BASE = Arguments(
    _FF | same("learning_rate", "weight_decay", "orthogonalize", "bias_correction") | {"step_mult": "learning_rate"},
    _CELO2_FIXED,
)
CELO2_RECIPE = Arguments(
    CELO2_BASE.renamed | {"mult_1d": "adam_mult", "adamw_b1": "adam_b1", "adamw_b2": "adam_b2"},
    _CELO2_FIXED,
    ignored=frozenset({"recipe"}),
)
CELO2_META_TRAINING = Arguments(
    CELO2_BASE.renamed
    | same("adam_b1", "adam_b2", "adam_epsilon")
    | {"mult_1d": "adam_mult", "regex_1d": "adam_paths"},
    {**_CELO2_FIXED, "adam_bias_correction": False},
)
