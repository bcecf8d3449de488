"""What the fields of a configuration may hold, as literal tables: types, ranges and choices; no JAX here."""

import difflib
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

NOMINALS_OF = {
    "lagg_a": ("none", "average", "momentum"),
    "lopt_a": ("none", "average", "momentum"),
    "adafac_mlp_lopt": ("none", "adam"),
}
"""Learned optimizers, and the hand-made steps that each may be anchored on."""
NOMINALS = tuple(dict.fromkeys(nominal for nominals in NOMINALS_OF.values() for nominal in nominals))
META_LOSS_SPLITS = ("train", "outer_valid")
LOCAL_OPTIMIZERS = ("sgd", "adam", "adamw", "adam_b1_0", "relative_rmsprop", "normalized_sgd")
OBJECTIVES = ("mean", "final", "linear")
ESTIMATORS = ("pes", "es", "nres", "full_es", "truncated_backprop", "full_backprop")
COMPONENT_GRADIENTS = ("mean", "clipped")


class Rule(NamedTuple):
    holds: Callable[[Any], bool]
    requirement: str
    example: Any


def _at_least(bound: int, example: int) -> Rule:
    return Rule(lambda value: value >= bound, f"must be at least {bound}", example)


def _positive(example: float) -> Rule:
    return Rule(lambda value: 0 < value < math.inf, "must be positive and finite", example)


def _not_negative(example: float) -> Rule:
    return Rule(lambda value: 0 <= value < math.inf, "must be finite and at least 0", example)


def _optional(rule: Rule) -> Rule:
    return rule._replace(holds=lambda value: value is None or rule.holds(value))


RULES = {
    "seed": Rule(lambda value: 0 <= value < 2**32, "must lie in 0 .. 2^32 - 1", 0),
    "components_per_step": _at_least(0, 2),
    "num_workers": _at_least(1, 8),
    "num_local_steps": _at_least(1, 4),
    "batch_size": _at_least(1, 128),
    "local_learning_rate": _positive(0.5),
    "hidden_size": _at_least(1, 32),
    "hidden_layers": _at_least(1, 2),
    "meta_steps": _at_least(1, 400),
    "num_tasks": _at_least(1, 8),
    "sigma": _positive(0.03),
    "final_sigma": _optional(_positive(0.01)),
    "pairs_per_task": _at_least(1, 1),
    "sign_scale": _optional(_positive(0.001)),
    "max_difference": _optional(_positive(0.1)),
    "accumulated_steps": _at_least(1, 1),
    "truncation_length": _at_least(1, 50),
    "min_unroll_length": _at_least(1, 100),
    "max_unroll_length": _at_least(1, 1000),
    "chunk": _at_least(0, 0),
    "worker_devices": _at_least(1, 1),
    "resident_bytes": _at_least(0, 0),
    "swap_every": _at_least(1, 20),
    "meta_learning_rate": _positive(3e-3),
    "final_meta_learning_rate": _not_negative(3e-4),
    "warmup_steps": _at_least(0, 50),
    "weight_decay": _not_negative(1e-4),
    "max_gradient_norm": _positive(1.0),
    "theta_average_decay": Rule(lambda value: 0 <= value < 1, "must lie in [0, 1)", 0.98),
    "max_consecutive_skips": _at_least(1, 20),
    "checkpoint_every": _at_least(1, 50),
    "keep_checkpoints": _at_least(1, 3),
    "export_every": _at_least(0, 100),
}

CHOICES = {
    "optimizer": tuple(NOMINALS_OF),
    "nominal": NOMINALS,
    "meta_loss_split": META_LOSS_SPLITS,
    "local_optimizer": LOCAL_OPTIMIZERS,
    "objective": OBJECTIVES,
    "estimator": ESTIMATORS,
    "component_gradients": COMPONENT_GRADIENTS,
}


def flag(field: str) -> str:
    """The command-line flag of a field."""
    return "--" + field.replace("_", "-")


def check_choice(field: str, value: str, choices: Sequence[str]) -> None:
    """Raises a ValueError with the closest match and the list when `value` is not one of
    `choices`."""
    if value in choices:
        return
    close = difflib.get_close_matches(str(value), choices, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ValueError(f"{field}: {value!r} is unknown; {hint}use one of {', '.join(choices)}")


_ALLOWED: dict[Any, tuple[type, ...]] = {
    int: (int,),
    float: (int, float),
    bool: (bool,),
    str: (str,),
    int | None: (int, type(None)),
    float | None: (int, float, type(None)),
    str | None: (str, type(None)),
}


def check_type(name: str, annotation: Any, value: Any) -> None:
    """Raises a ValueError when `value` is not of the type a field is annotated with; an int serves for a float."""
    allowed = _ALLOWED[annotation]
    if not isinstance(value, allowed) or (isinstance(value, bool) and annotation is not bool):
        wanted = getattr(annotation, "__name__", str(annotation))
        raise ValueError(f"{name}: {value!r} is not of type {wanted}")
