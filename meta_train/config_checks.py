"""The check of a configuration, which names the first setting that is wrong and what to use instead.

Ranges of numbers are those of the table below; a name is checked by the function that owns it, which is asked for by
its reference (`references`). Nothing is loaded or compiled.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from learned_opt.names import hint
from meta_train.component import Component, check_component, check_type, overrides
from meta_train.config import MIXTURES, MetaTrainConfig, component_runs
from meta_train.estimators.base import Estimator
from meta_train.estimators.objective import check_objective
from meta_train.expert import sets_workers
from meta_train.flat_theta import trained_entries
from meta_train.meta_optimizers import check_meta_optimizer
from meta_train.references import (
    NOTHING,
    Given,
    check_task,
    find_estimator,
    find_expert,
    find_local_optimizer,
    find_optimizer,
    find_protocol,
)
from meta_train.runs.trackers import tracker_names
from meta_train.validation import validation_runs

META_LOSS_SPLITS = ("train", "outer_valid")


class Range(NamedTuple):
    """Which numbers a field may hold, and that in words."""

    holds: Callable[[Any], bool]
    words: str


def _at_least(bound: int) -> Range:
    return Range(lambda value: value >= bound, f"at least {bound}")


_POSITIVE = Range(lambda value: 0 < value < math.inf, "a positive finite number")
_NOT_NEGATIVE = Range(lambda value: 0 <= value < math.inf, "a finite number of at least 0")

RANGES = {
    "seed": Range(lambda value: 0 <= value < 2**32, "0 to 2^32 - 1"),
    "num_workers": _at_least(1),
    "num_local_steps": _at_least(1),
    "batch_size": _at_least(1),
    "components_per_step": _at_least(0),
    "meta_steps": _at_least(1),
    "num_tasks": _at_least(1),
    "sigma": _POSITIVE,
    "pairs_per_task": _at_least(1),
    "truncation_length": _at_least(1),
    "min_unroll_length": _at_least(1),
    "max_unroll_length": _at_least(1),
    "resume_probability": Range(lambda value: 0 <= value < 1, "a number in [0, 1)"),
    "expert_whole_steps": _at_least(0),
    "expert_last_step": _at_least(0),
    "resume_slots": Range(lambda value: 1 <= value <= 16, "1 to 16"),
    "worker_devices": _at_least(1),
    "resident_bytes": _at_least(0),
    "swap_every": _at_least(1),
    "meta_learning_rate": _POSITIVE,
    "final_meta_learning_rate": _NOT_NEGATIVE,
    "warmup_steps": _at_least(0),
    "weight_decay": _NOT_NEGATIVE,
    "max_gradient_norm": _POSITIVE,
    "theta_average_decay": Range(lambda value: 0 <= value < 1, "a number in [0, 1)"),
    "max_consecutive_skips": _at_least(1),
    "checkpoint_every": _at_least(1),
    "keep_checkpoints": _at_least(1),
    "export_every": _at_least(0),
    "validate_every": _at_least(0),
}


def validate(config: MetaTrainConfig, given: Given = NOTHING) -> None:
    """Checks every setting.

    Args:
      config: the settings.
      given: what they name that was made in Python.

    Raises:
      ValueError: "field=value: use ..." for the first field that is wrong.
    """
    _check_numbers(config)
    _check_names(config, given)
    _check_lengths(config)
    _check_components(config, given)
    _check_optimizer(config, given)


def _check_numbers(config: MetaTrainConfig) -> None:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name not in MIXTURES:
            check_type(field.name, field.type, value)
        elif not isinstance(value, tuple) or not all(isinstance(c, Component) for c in value):
            raise ValueError(f"{field.name}={value!r}: use a tuple of Component")
    for name, allowed in RANGES.items():
        value = getattr(config, name)
        if not allowed.holds(value):
            raise ValueError(f"{name}={value}: use {allowed.words}")
    if not config.run_dir:
        raise ValueError("run_dir='': use a folder, e.g. runs/mine")
    if config.final_meta_learning_rate > config.meta_learning_rate:
        raise ValueError(
            f"final_meta_learning_rate={config.final_meta_learning_rate}: use at most "
            f"meta_learning_rate={config.meta_learning_rate}"
        )
    if config.num_workers % config.worker_devices:
        raise ValueError(f"worker_devices={config.worker_devices}: use a divisor of num_workers={config.num_workers}")


def _check_names(config: MetaTrainConfig, given: Given) -> None:
    check_objective(config.objective)
    check_meta_optimizer(config.meta_optimizer)
    if config.meta_loss_split not in META_LOSS_SPLITS:
        raise ValueError(
            f"meta_loss_split={config.meta_loss_split!r}: {hint(config.meta_loss_split, META_LOSS_SPLITS)}"
        )
    find_local_optimizer(config.local_optimizer)
    estimator = find_estimator(config.estimator)
    if estimator.differentiates:
        for name in ("pairs_per_task", "worker_devices"):
            if getattr(config, name) != 1:
                raise ValueError(f"{name}={getattr(config, name)}: use 1 with estimator={config.estimator!r}")
    if config.resume_probability:
        _check_resume(config, estimator)
    if config.expert is not None:
        _check_expert(config, config.expert)
    check_task(config.task, given)
    tracker_names(config.log)


def _check_expert(config: MetaTrainConfig, reference: str) -> None:
    if sets_workers(find_expert(reference)):
        raise ValueError(f"expert={reference!r}: use one that leaves the workers' rates alone, such as diloco")
    if config.expert_last_step <= config.expert_whole_steps:
        raise ValueError(
            f"expert_last_step={config.expert_last_step}: use a meta-step after "
            f"expert_whole_steps={config.expert_whole_steps}, e.g. {config.expert_whole_steps + config.meta_steps // 2}"
        )


def _check_resume(config: MetaTrainConfig, estimator: Estimator) -> None:
    if estimator.differentiates or estimator.whole_episodes:
        raise ValueError(
            f"resume_probability={config.resume_probability}: use 0 with estimator={config.estimator!r}, or an "
            "estimator of pairs by truncation: pes, nres or es"
        )
    if config.pairs_per_task != 1:
        raise ValueError(
            f"pairs_per_task={config.pairs_per_task}: use 1 with resume_probability={config.resume_probability}, each "
            "pair goes on from states of its own"
        )
    if config.objective == "linear":
        raise ValueError("objective='linear': use mean or final with a resume buffer, which reads unweighted losses")


def _check_lengths(config: MetaTrainConfig) -> None:
    truncation = config.truncation_length
    for name in ("min_unroll_length", "max_unroll_length"):
        length = getattr(config, name)
        if length % truncation:
            multiple = truncation * max(1, round(length / truncation))
            raise ValueError(f"{name}={length}: use a multiple of truncation_length={truncation}, e.g. {multiple}")
    if config.max_unroll_length < config.min_unroll_length:
        raise ValueError(
            f"max_unroll_length={config.max_unroll_length}: use at least min_unroll_length={config.min_unroll_length}"
        )


def _check_components(config: MetaTrainConfig, given: Given) -> None:
    named = [(name, index, c) for name in MIXTURES for index, c in enumerate(getattr(config, name))]
    for name, index, component in named:
        try:
            check_component(component)
            run = dataclasses.replace(config, components=(), **overrides(component))
            _check_numbers(run)
            _check_names(run, given)
            _check_lengths(run)
        except ValueError as error:
            raise ValueError(f"{name}[{index}] {component.task}: {error}") from None
    runs = component_runs(config).values()
    if config.expert_last_step and all(run.expert is None for run in runs):
        raise ValueError(f"expert_last_step={config.expert_last_step}: name an expert, e.g. adam,learning_rate=0.003")
    if config.components_per_step > len(component_runs(config)):
        raise ValueError(
            f"components_per_step={config.components_per_step}: use at most {len(component_runs(config))}, the number "
            "of components, or 0 for all"
        )


def _check_optimizer(config: MetaTrainConfig, given: Given) -> None:
    lopt = find_optimizer(config, given)
    name = lopt.config["architecture"]
    trained_entries(lopt, config.train_only)
    trained = {f"components: {name}: ": run for name, run in component_runs(config).items()}
    validated = {f"validation: {name}: ": run for name, run in validation_runs(config).items()}
    for where, run in (trained | validated).items():
        where = where if config.components or where not in trained else ""
        if lopt.num_workers not in (None, run.num_workers):
            raise ValueError(
                f"{where}num_workers={run.num_workers}: use {lopt.num_workers}, which this {name} is tied to, or an "
                "optimizer for any number of workers, such as lopt_a"
            )
        for field in ("num_workers", "num_local_steps"):
            if lopt.reads == "gradient" and getattr(run, field) != 1:
                raise ValueError(
                    f"{where}{field}={getattr(run, field)}: use 1, {name} reads gradients on a single machine; "
                    "or an optimizer for local SGD, such as lopt_a"
                )
    if config.eval_protocol is not None:
        num_workers = find_protocol(config.eval_protocol).num_workers
        if lopt.num_workers not in (None, num_workers):
            raise ValueError(
                f"eval_protocol={config.eval_protocol!r}: use one with {lopt.num_workers} workers (it has "
                f"{num_workers}), which this {name} is tied to; or None"
            )
