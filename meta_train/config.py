"""Settings of one meta-training run, and the check that names the odd one.

No JAX here: `python -m meta_train --help` and every usage error answer without importing it.
"""

import dataclasses
import difflib
import importlib
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

OPTIMIZERS = ("lagg_a", "lopt_a")
NOMINALS = ("none", "average", "momentum")
META_LOSS_SPLITS = ("train", "outer_valid")
FREE_FIELDS = (
    "run_dir",
    "reuse_run_dir",
    "checkpoint_every",
    "keep_checkpoints",
    "export_every",
    "eval_protocol",
)
"""Fields that change nothing about the optimizer that comes out."""


@dataclasses.dataclass(frozen=True)
class MetaTrainConfig:
    """One meta-training run. Lengths are communication rounds; `meta_*` fields are of the meta
    level."""

    preset: str = "custom"
    """Preset these settings started from; recorded only."""
    run_dir: str = "runs/custom"
    """Run folder to create."""
    reuse_run_dir: bool = False
    """Resume (or, when finished, only evaluate) a run of the same settings found in run_dir."""
    seed: int = 0
    """Seed of every random draw, 0 to 2^32 - 1."""

    task: str = "fmnist8_mlp32"
    """Task family to meta-train on, a name in tasks.suites."""
    num_workers: int = 8
    """Workers per task, K."""
    num_local_steps: int = 4
    """Local SGD steps between two rounds, H."""
    batch_size: int = 128
    """Examples per worker and local step, B."""
    local_learning_rate: float = 0.5
    """Learning rate of the local SGD steps."""

    optimizer: str = "lagg_a"
    """Learned server optimizer: lagg_a (reads the K workers' updates) or lopt_a (their mean)."""
    nominal: str = "momentum"
    """Hand-made step it is anchored on: none, average (Local SGD) or momentum (DiLoCo)."""
    hidden_size: int = 32
    """Units per hidden layer of its MLP."""
    hidden_layers: int = 2
    """Hidden layers of its MLP."""

    initial_theta: str | None = None
    """Exported optimizer, or name of a pretrained one, whose theta the run starts from; None draws it."""

    meta_steps: int = 1000
    """Meta-steps: updates of theta."""
    num_tasks: int = 8
    """Antithetic pairs of particles per meta-step, each pair on its own task."""
    sigma: float = 0.03
    """Standard deviation of the perturbations of theta."""
    truncation_length: int = 50
    """Rounds per meta-step."""
    min_unroll_length: int = 100
    """Shortest episode in rounds, a multiple of truncation_length."""
    max_unroll_length: int = 1000
    """Longest episode in rounds, a multiple of truncation_length."""
    meta_loss_split: str = "train"
    """Meta-loss: train (mean of the local minibatch losses) or outer_valid (held-out examples)."""

    meta_learning_rate: float = 3e-3
    """Peak learning rate of AdamW on theta."""
    final_meta_learning_rate: float = 3e-4
    """Learning rate at the end of the cosine decay."""
    warmup_steps: int = 50
    """Meta-steps of linear warm-up."""
    weight_decay: float = 1e-4
    """AdamW's decoupled weight decay of theta."""
    max_gradient_norm: float = 1.0
    """Ceiling of the meta-gradient's global norm; larger ones are scaled down to it."""
    theta_average_decay: float = 0.98
    """Decay per meta-step of the average of theta that is exported; 0 exports the last theta."""
    max_consecutive_skips: int = 20
    """Meta-steps in a row with a non-finite meta-gradient after which the run stops."""

    checkpoint_every: int = 50
    """Meta-steps between checkpoints."""
    keep_checkpoints: int = 3
    """Newest checkpoints that are kept."""
    export_every: int = 0
    """Meta-steps between optimizers kept in the folder `exports`; 0 keeps the newest only."""
    eval_protocol: str | None = None
    """Protocol in eval.protocol to run on the result; None skips the evaluation."""


class _Rule(NamedTuple):
    holds: Callable[[Any], bool]
    requirement: str
    example: Any


def _at_least(bound: int, example: int) -> _Rule:
    return _Rule(lambda value: value >= bound, f"must be at least {bound}", example)


def _positive(example: float) -> _Rule:
    return _Rule(lambda value: 0 < value < math.inf, "must be positive and finite", example)


def _not_negative(example: float) -> _Rule:
    return _Rule(lambda value: 0 <= value < math.inf, "must be finite and at least 0", example)


_RULES = {
    "seed": _Rule(lambda value: 0 <= value < 2**32, "must lie in 0 .. 2^32 - 1", 0),
    "num_workers": _at_least(1, 8),
    "num_local_steps": _at_least(1, 4),
    "batch_size": _at_least(1, 128),
    "local_learning_rate": _positive(0.5),
    "hidden_size": _at_least(1, 32),
    "hidden_layers": _at_least(1, 2),
    "meta_steps": _at_least(1, 400),
    "num_tasks": _at_least(1, 8),
    "sigma": _positive(0.03),
    "truncation_length": _at_least(1, 50),
    "min_unroll_length": _at_least(1, 100),
    "max_unroll_length": _at_least(1, 1000),
    "meta_learning_rate": _positive(3e-3),
    "final_meta_learning_rate": _not_negative(3e-4),
    "warmup_steps": _at_least(0, 50),
    "weight_decay": _not_negative(1e-4),
    "max_gradient_norm": _positive(1.0),
    "theta_average_decay": _Rule(lambda value: 0 <= value < 1, "must lie in [0, 1)", 0.98),
    "max_consecutive_skips": _at_least(1, 20),
    "checkpoint_every": _at_least(1, 50),
    "keep_checkpoints": _at_least(1, 3),
    "export_every": _at_least(0, 100),
}

_CHOICES = {
    "optimizer": OPTIMIZERS,
    "nominal": NOMINALS,
    "meta_loss_split": META_LOSS_SPLITS,
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


def validate(config: MetaTrainConfig) -> None:
    """Checks every field; reads the tasks' and protocols' names, builds and compiles nothing.

    Raises:
      ValueError: "field: value ... fix" for the first field that is wrong.
    """
    for field in dataclasses.fields(config):
        _check_type(field.name, field.type, getattr(config, field.name))
    for name, rule in _RULES.items():
        value = getattr(config, name)
        if not rule.holds(value):
            raise ValueError(f"{name}: {value} {rule.requirement}; e.g. {flag(name)} {rule.example}")
    for name, choices in _CHOICES.items():
        check_choice(name, getattr(config, name), choices)
    if not config.run_dir:
        raise ValueError("run_dir: '' is empty; e.g. --run-dir runs/mine")
    if config.final_meta_learning_rate > config.meta_learning_rate:
        raise ValueError(
            f"final_meta_learning_rate: {config.final_meta_learning_rate} exceeds "
            f"meta_learning_rate {config.meta_learning_rate}; lower --final-meta-learning-rate"
        )
    _check_lengths(config)
    check_choice("task", config.task, list(_names("tasks.suites", "FAMILIES")))
    if config.eval_protocol is not None:
        _check_protocol(config, config.eval_protocol)


def from_json(values: dict[str, Any], source: str) -> MetaTrainConfig:
    """The config that `dataclasses.asdict` was written from; `source` is named in errors.

    Raises:
      ValueError: a field this version does not know, or an odd value.
    """
    known = {field.name for field in dataclasses.fields(MetaTrainConfig)}
    for name in values:
        if name not in known:
            raise ValueError(f"{source}: field {name!r} is unknown; use the version the run began with")
    try:
        config = MetaTrainConfig(**values)
        validate(config)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    return config


def _check_type(name: str, annotation: Any, value: Any) -> None:
    allowed = {
        int: (int,),
        float: (int, float),
        bool: (bool,),
        str: (str,),
    }.get(annotation, (str, type(None)))
    if not isinstance(value, allowed) or (isinstance(value, bool) and annotation is not bool):
        wanted = getattr(annotation, "__name__", str(annotation))
        raise ValueError(f"{name}: {value!r} is not of type {wanted}")


def _check_lengths(config: MetaTrainConfig) -> None:
    truncation = config.truncation_length
    for name in ("min_unroll_length", "max_unroll_length"):
        length = getattr(config, name)
        if length % truncation:
            multiple = truncation * max(1, round(length / truncation))
            raise ValueError(
                f"{name}: {length} is not a multiple of truncation_length {truncation}; e.g. {flag(name)} {multiple}"
            )
    if config.max_unroll_length < config.min_unroll_length:
        raise ValueError(
            f"max_unroll_length: {config.max_unroll_length} is below min_unroll_length "
            f"{config.min_unroll_length}; e.g. --max-unroll-length {config.min_unroll_length}"
        )


def _check_protocol(config: MetaTrainConfig, name: str) -> None:
    protocols = _names("eval.protocol", "PROTOCOLS")
    check_choice("eval_protocol", name, list(protocols))
    num_workers = protocols[name].num_workers
    if config.optimizer == "lagg_a" and config.num_workers != num_workers:
        raise ValueError(
            f"eval_protocol: {name!r} has {num_workers} workers, a lagg_a for {config.num_workers} "
            "cannot serve them; add --eval-protocol None"
        )


def _names(module: str, table: str) -> dict[str, Any]:
    # Imported late: these modules import JAX.
    return getattr(importlib.import_module(module), table)
