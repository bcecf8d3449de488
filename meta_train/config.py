"""Settings of one meta-training run, and the check that names the odd one; `config_rules` holds its tables.

No JAX here: `python -m meta_train --help` and every usage error answer without importing it.
"""

import dataclasses
import importlib
from typing import Any

from meta_train.component import Component, check_component, component_from_values, overrides
from meta_train.config_rules import CHOICES, NOMINALS_OF, RULES, check_choice, check_type, flag

TIED_TO_NUM_WORKERS = ("lagg_a",)
"""Optimizers that serve one number of workers only."""
SINGLE_MACHINE = ("adafac_mlp_lopt",)
"""As in learned_opt.architectures, which needs JAX."""
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
    """Learning rate of the local steps."""
    local_optimizer: str = "sgd"
    """Local optimizer: sgd, adam, adamw, adam_b1_0 (no momentum), relative_rmsprop or normalized_sgd."""

    components: tuple[Component, ...] = ()
    """Mixture to meta-train on, each TASK[,FIELD=VALUE]...; a field left out is that of the run; none: its task."""
    components_per_step: int = 0
    """Components that a meta-step draws; 0 takes all."""
    component_gradients: str = "mean"
    """How their meta-gradients meet: mean (weighted), or clipped (each to max_gradient_norm first)."""

    optimizer: str = "lagg_a"
    """Learned optimizer: lagg_a (server; reads the K workers' updates), lopt_a (their mean) or adafac_mlp_lopt (no
    workers: a gradient)."""
    nominal: str = "momentum"
    """Hand-made step it is anchored on: none, average (Local SGD), momentum (DiLoCo) or adam (adafac_mlp_lopt only)."""
    hidden_size: int = 32
    """Units per hidden layer of its MLP."""
    hidden_layers: int = 2
    """Hidden layers of its MLP."""

    initial_theta: str | None = None
    """Exported optimizer, or name of a pretrained one, whose theta the run starts from; None draws it."""

    meta_steps: int = 1000
    """Meta-steps: updates of theta."""
    num_tasks: int = 8
    """Tasks per meta-step, each with antithetic pairs of particles."""
    estimator: str = "pes"
    """Estimator of the meta-gradient: pes, es, nres, full_es, truncated_backprop or full_backprop."""
    sigma: float = 0.03
    """Standard deviation of the perturbations of theta."""
    final_sigma: float | None = None
    """Sigma at the last meta-step, approached geometrically; None keeps sigma."""
    pairs_per_task: int = 1
    """Antithetic pairs that share a task."""
    sign_scale: float | None = None
    """Replaces a pair's loss difference by its sign times this; None keeps the difference."""
    max_difference: float | None = None
    """Clips a pair's loss difference to plus or minus this; None keeps it."""
    accumulated_steps: int = 1
    """Meta-steps whose meta-gradients are averaged into one step of theta."""
    truncation_length: int = 50
    """Rounds per meta-step."""
    min_unroll_length: int = 100
    """Shortest episode in rounds, a multiple of truncation_length."""
    max_unroll_length: int = 1000
    """Longest episode in rounds, a multiple of truncation_length."""
    meta_loss_split: str = "train"
    """Meta-loss: train (mean of the local minibatch losses) or outer_valid (held-out examples)."""
    objective: str = "mean"
    """What of the truncation's losses counts: mean, final (the last round's), or linear (weights rising from 0)."""

    chunk: int = 0
    """Antithetic pairs computed at once on a device; 0: one on CPUs, all of a device's on accelerators."""
    worker_devices: int = 1
    """Devices that the workers of each particle are spread over."""
    resident_bytes: int = 0
    """Device memory for the training data, of which a window that moves on is resident; 0 holds all of it."""
    swap_every: int = 20
    """Meta-steps after which that window moves on."""

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


def validate(config: MetaTrainConfig) -> None:
    """Checks every field; reads the tasks' and protocols' names, builds and compiles nothing.

    Raises:
      ValueError: "field: value ... fix" for the first field that is wrong.
    """
    for field in dataclasses.fields(config):
        if field.name != "components":
            check_type(field.name, field.type, getattr(config, field.name))
    if not isinstance(config.components, tuple) or not all(isinstance(c, Component) for c in config.components):
        raise ValueError(f"components: {config.components!r} is not a tuple of Component")
    for name, rule in RULES.items():
        value = getattr(config, name)
        if not rule.holds(value):
            raise ValueError(f"{name}: {value} {rule.requirement}; e.g. {flag(name)} {rule.example}")
    for name, choices in CHOICES.items():
        check_choice(name, getattr(config, name), choices)
    _check_optimizer(config)
    if not config.run_dir:
        raise ValueError("run_dir: '' is empty; e.g. --run-dir runs/mine")
    if config.final_meta_learning_rate > config.meta_learning_rate:
        raise ValueError(
            f"final_meta_learning_rate: {config.final_meta_learning_rate} exceeds "
            f"meta_learning_rate {config.meta_learning_rate}; lower --final-meta-learning-rate"
        )
    if config.sign_scale is not None and config.max_difference is not None:
        raise ValueError(f"max_difference: {config.max_difference} does nothing beside sign_scale; drop one of them")
    if config.num_workers % config.worker_devices:
        raise ValueError(
            f"worker_devices: {config.worker_devices} do not divide num_workers {config.num_workers}; "
            "e.g. --worker-devices 1"
        )
    _check_lengths(config)
    check_choice("task", config.task, list(_names("tasks.suites", "FAMILIES")))
    if config.components:
        _check_components(config)
    if config.eval_protocol is not None:
        _check_protocol(config, config.eval_protocol)


def to_json(config: MetaTrainConfig) -> dict[str, Any]:
    """JSON values of a configuration, as `from_json` reads them."""
    values = dataclasses.asdict(config)
    return values | {"components": list(values["components"])}


def single_runs(config: MetaTrainConfig) -> dict[str, MetaTrainConfig]:
    """Each component as the configuration of a run of its own, by name; a run without components is its task.

    Raises:
      ValueError: two components of one name.
    """
    if not config.components:
        return {config.task: config}
    singles = [dataclasses.replace(config, components=(), **overrides(component)) for component in config.components]
    tasks = [single.task for single in singles]
    runs = {}
    for component, single in zip(config.components, singles, strict=True):
        several = tasks.count(single.task) > 1
        plain = f"{single.task}_k{single.num_workers}_h{single.num_local_steps}" if several else single.task
        name = component.name or plain
        if name in runs:
            raise ValueError(f"components: two are called {name!r}; add name=... to one of them")
        runs[name] = single
    return runs


def from_json(values: dict[str, Any], source: str) -> MetaTrainConfig:
    """The config that `to_json` gave these values; `source` is named in errors.

    Raises:
      ValueError: a field this version does not know, or an odd value.
    """
    known = {field.name for field in dataclasses.fields(MetaTrainConfig)}
    for name in values:
        if name not in known:
            raise ValueError(f"{source}: field {name!r} is unknown; use the version the run began with")
    try:
        components = values.get("components", ())
        if not isinstance(components, list | tuple) or not all(isinstance(c, dict) for c in components):
            raise ValueError(f"components: {components!r} is not a list of objects")
        values = values | {"components": tuple(component_from_values(c) for c in components)}
        config = MetaTrainConfig(**values)
        validate(config)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    return config


def _check_optimizer(config: MetaTrainConfig) -> None:
    nominals = NOMINALS_OF[config.optimizer]
    if config.nominal not in nominals:
        raise ValueError(
            f"nominal: {config.nominal!r} does not go with optimizer {config.optimizer}; use {' or '.join(nominals)}, "
            f"e.g. --nominal {nominals[-1]}"
        )
    if config.optimizer in SINGLE_MACHINE:
        for name in ("num_workers", "num_local_steps"):
            if getattr(config, name) != 1:
                raise ValueError(
                    f"{name}: {getattr(config, name)} does not go with {config.optimizer}, which has one "
                    f"machine and no local steps; use {flag(name)} 1, or --optimizer lopt_a"
                )


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


def _check_components(config: MetaTrainConfig) -> None:
    for index, component in enumerate(config.components):
        try:
            check_component(component)
            single = dataclasses.replace(config, components=(), components_per_step=0, eval_protocol=None)
            validate(dataclasses.replace(single, **overrides(component)))
        except ValueError as error:
            raise ValueError(f"components[{index}] {component.task}: {error}") from None
    runs = single_runs(config)
    if config.components_per_step > len(runs):
        raise ValueError(
            f"components_per_step: {config.components_per_step} exceeds the {len(runs)} components; "
            "e.g. --components-per-step 0 for all"
        )
    if config.optimizer in TIED_TO_NUM_WORKERS:
        for name, single in runs.items():
            if single.num_workers != config.num_workers:
                raise ValueError(
                    f"components: {name} has {single.num_workers} workers, a {config.optimizer} for "
                    f"{config.num_workers} cannot serve them; use --optimizer lopt_a or make num_workers equal"
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
