"""How well the optimizer that would be exported now trains tasks that it is not meta-trained on, every few meta-steps.

For every family of the validation mixture a few tasks are trained from new parameters for `max_unroll_length` rounds
with the averaged theta, nothing perturbed:

    valid_loss/NAME = mean over tasks and rounds of the held-out loss over that of a constant guess, clipped as usual
    valid_loss      = mean over families

Tasks, initial parameters and batches are the same every time, so that differences are those of theta.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt.base import LearnedOptimizer
from meta_train.component import Component
from meta_train.config import MetaTrainConfig, component_runs
from meta_train.estimators.particle_mesh import make_particle_mesh, map_particles
from meta_train.estimators.unroll import make_unroll
from meta_train.processes.distributed import place
from meta_train.references import NOTHING, Given, find_family
from meta_train.trainer import build_algorithm
from tasks.base import TaskFamily

CHEAP_FAMILIES = (Component("fmnist8_mlp128"), Component("fmnist8_autoencoder"))
"""What is validated on where the settings name nothing: small families of META_VALID."""
TOTAL = "valid_loss"
_KEY = 1_986_622_572
"""Keeps the keys of validation apart from those of the run; no meta-step has this number."""

Measure = Callable[[np.ndarray], Mapping[str, float]]
"""theta -> "valid_loss/NAME" of every family, and "valid_loss"."""


class _Program(NamedTuple):
    """One family's: (theta, data) -> loss, compiled, and its data."""

    run: Callable[[Any, Any], jax.Array]
    data: Any


def validation_runs(config: MetaTrainConfig) -> dict[str, MetaTrainConfig]:
    """The families to validate on, each as the configuration of a run of its own, by name; none where it is off."""
    return component_runs(config, config.validation or CHEAP_FAMILIES) if config.validate_every else {}


def build_validation(config: MetaTrainConfig, lopt: LearnedOptimizer, given: Given = NOTHING) -> Measure:
    """Builds the measurement, which compiles when it is called for the first time.

    Args:
      config: of the run.
      lopt: whose theta is measured.
      given: what the configuration names that was made in Python.

    Raises:
      ValueError, FileNotFoundError: as in `meta_train.references`, or tasks that cannot be shared out over processes.
    """
    runs = validation_runs(config)
    mesh = make_particle_mesh(math.gcd(*(run.num_tasks for run in runs.values())))
    everywhere = jax.NamedSharding(mesh, jax.P())
    programs = {}
    for index, (name, run) in enumerate(runs.items()):
        family = find_family(run.task, given)
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(config.seed), _KEY), index)
        programs[name] = _Program(_program(run, lopt, family, mesh, key), place(family.data, everywhere))

    def measure(theta):
        on_devices = place(theta, everywhere)
        losses = {name: program.run(on_devices, program.data) for name, program in programs.items()}
        found = {f"{TOTAL}/{name}": float(loss) for name, loss in losses.items()}
        return found | {TOTAL: sum(found.values()) / len(found)}

    return measure


def _program(
    run: MetaTrainConfig, lopt: LearnedOptimizer, family: TaskFamily, mesh: jax.sharding.Mesh, key: jax.Array
) -> Callable[[Any, Any], jax.Array]:
    unroll = make_unroll(
        build_algorithm(run, lopt),
        family,
        num_workers=run.num_workers,
        num_local_steps=run.num_local_steps,
        batch_size=run.batch_size,
        truncation_length=run.truncation_length,
        meta_loss_split="outer_valid",
    )

    def train(shared, number, nothing):
        theta, data = shared
        reset_key, step_key = jax.random.split(jax.random.fold_in(key, number))

        def one_truncation(inner, index):
            inner, info = unroll.step(theta, inner, jax.random.fold_in(step_key, index), data)
            return inner, jnp.mean(info.losses)

        indices = jnp.arange(run.max_unroll_length // run.truncation_length)
        _, losses = jax.lax.scan(one_truncation, unroll.reset(theta, reset_key, data), indices)
        return nothing, jnp.mean(losses)

    over_tasks = map_particles(train, mesh)
    return jax.jit(lambda theta, data: jnp.mean(over_tasks((theta, data), run.num_tasks, ())[1]))
