"""From a configuration to what it describes: inner training, estimators, and the meta-trainer of the mixture."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from learned_opt.algorithms.data_parallel import data_parallel
from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.base import LearnedOptimizer, LocalAlgorithm
from learned_opt.checkpoint import load_checkpoint
from meta_train.card import card_of, local_recipe
from meta_train.component import Component
from meta_train.config import MetaTrainConfig, component_runs
from meta_train.estimators.base import GradientEstimator, Particles
from meta_train.estimators.particle_mesh import make_particle_mesh
from meta_train.estimators.truncation import ResumeRule, log_uniform_length
from meta_train.estimators.unroll import Unroll, make_unroll
from meta_train.expert import SUPERVISION, annealed, supervised, with_expert
from meta_train.flat_theta import FlatTheta, flat_form, trained_entries
from meta_train.meta_optimizers import META_OPTIMIZERS
from meta_train.meta_update import meta_update
from meta_train.mixture import BuiltComponent, MetaTrainer, mixture_trainer
from meta_train.processes.distributed import place
from meta_train.references import (
    NOTHING,
    Given,
    find_estimator,
    find_expert,
    find_family,
    find_local_optimizer,
    find_optimizer,
    own_architecture,
)
from tasks.base import TaskFamily
from tasks.datasets.resident_window import resident_window


def warmup_cosine(config: MetaTrainConfig) -> optax.Schedule:
    """Linear warm-up to the peak, cosine to the final learning rate at the last meta-step."""
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=config.meta_learning_rate,
        warmup_steps=config.warmup_steps,
        decay_steps=max(config.meta_steps, config.warmup_steps + 1),
        end_value=config.final_meta_learning_rate,
    )


def build_lopt(config: MetaTrainConfig, given: Given = NOTHING) -> LearnedOptimizer:
    """The learned optimizer of a configuration, which starts from `initial_theta` if there is one.

    Raises:
      ValueError: as in `find_optimizer`, or an initial theta of another optimizer.
    """
    lopt = find_optimizer(config, given)
    return lopt if config.initial_theta is None else _starting_from(lopt, config.initial_theta)


def _starting_from(lopt: LearnedOptimizer, source: str) -> LearnedOptimizer:
    """The optimizer with the theta of a checkpoint in place of a random one."""
    checkpoint = load_checkpoint(source, own_architecture(lopt))
    if _of_theta(checkpoint.lopt) != _of_theta(lopt):
        raise ValueError(
            f"initial_theta={source!r}: it holds {checkpoint.lopt.config}, this run trains {lopt.config}; "
            "make the settings equal or choose another file"
        )
    theta = jax.tree.map(jnp.asarray, checkpoint.theta)
    return lopt._replace(init=lambda key: theta)


def _of_theta(lopt: LearnedOptimizer) -> dict[str, Any]:
    """The arguments of an optimizer, but for the phase of its meta-training."""
    return {name: value for name, value in lopt.config.items() if name != "phase"}


def build_algorithm(
    config: MetaTrainConfig, lopt: LearnedOptimizer
) -> Callable[[FlatTheta, Int[Array, ""]], LocalAlgorithm]:
    """(theta, rounds that the whole training lasts) -> the algorithm of one worker that the configuration trains in."""
    unravel = flat_form(lopt).unravel
    # An update a round, so the rounds of the episode are the updates of the training.
    return lambda theta, num_rounds: _around(config, lopt, lopt.transform(unravel(theta), num_steps=num_rounds))


def _around(config: MetaTrainConfig, lopt: LearnedOptimizer, transform: optax.GradientTransformation) -> LocalAlgorithm:
    """Training in which this transform takes the step of the learned optimizer."""
    if lopt.reads == "gradient":
        return data_parallel(transform)
    return local_sgd(find_local_optimizer(config.local_optimizer), transform)


def _supervised_algorithm(config: MetaTrainConfig, lopt: LearnedOptimizer, reference: str) -> Callable[..., Any]:
    """((theta, share of the expert), rounds) -> the algorithm of one worker."""
    unravel, expert = flat_form(lopt).unravel, find_expert(reference)

    def algorithm(theta_and_share, num_rounds):
        theta, share = theta_and_share
        learned = lopt.transform(unravel(theta), num_steps=num_rounds)
        return _around(config, lopt, with_expert(learned, expert, share))

    return algorithm


def build_unroll(config: MetaTrainConfig, lopt: LearnedOptimizer, family: TaskFamily) -> Unroll:
    """The inner training of a configuration without components; with an expert, its data are (share, data)."""
    unroll = make_unroll(
        build_algorithm(config, lopt) if config.expert is None else _supervised_algorithm(config, lopt, config.expert),
        family,
        num_workers=config.num_workers,
        num_local_steps=config.num_local_steps,
        batch_size=config.batch_size,
        truncation_length=config.truncation_length,
        meta_loss_split=config.meta_loss_split,
        objective=config.objective,
        rematerialise=find_estimator(config.estimator).differentiates,
        worker_devices=config.worker_devices,
        supervision=None if config.expert is None else SUPERVISION,
    )
    return unroll if config.expert is None else supervised(unroll)


def build_mesh(config: MetaTrainConfig) -> jax.sharding.Mesh:
    """One mesh for all components, so that theta lies on the devices of each."""
    pairs = [run.num_tasks * run.pairs_per_task for run in component_runs(config).values()]
    return make_particle_mesh(math.gcd(*pairs), config.worker_devices)


def build_estimator(
    config: MetaTrainConfig, lopt: LearnedOptimizer, family: TaskFamily, mesh: jax.sharding.Mesh
) -> GradientEstimator:
    """The meta-gradient estimator of a configuration without components."""
    schedule = log_uniform_length(config.min_unroll_length, config.max_unroll_length, config.truncation_length)
    if config.resume_probability:
        schedule = schedule._replace(resume=ResumeRule(config.resume_probability, config.resume_slots))
    trained = trained_entries(lopt, config.train_only)
    particles = Particles(config.num_tasks, mesh, config.sigma, config.pairs_per_task, trained)
    estimator = find_estimator(config.estimator).build(build_unroll(config, lopt, family), schedule, particles)
    if config.expert is None:
        return estimator
    return annealed(estimator, config.expert_whole_steps, config.expert_last_step)


def _data_source(config: MetaTrainConfig, family: TaskFamily, mesh: jax.sharding.Mesh) -> Callable[[int], Any]:
    """Meta-step -> the family's data on the devices: all of them, or the window of the meta-step."""

    def put(tree):
        return place(tree, jax.NamedSharding(mesh, jax.P()))

    if config.resident_bytes:
        return resident_window(family.data, config.resident_bytes, config.swap_every, config.seed, put).at
    data = put(family.data)
    return lambda meta_step: data


def build_trainer(config: MetaTrainConfig, given: Given = NOTHING) -> MetaTrainer:
    """Task families, learned optimizer, estimators and meta-trainer of a configuration.

    Args:
      config: the settings.
      given: what they name that was made in Python.

    Raises:
      ValueError, FileNotFoundError: as in `meta_train.references`.
    """
    lopt, mesh, runs = build_lopt(config, given), build_mesh(config), component_runs(config)
    families = {task: find_family(task, given) for task in dict.fromkeys(run.task for run in runs.values())}
    # Components of one family share its data.
    data_at = {task: _data_source(config, family, mesh) for task, family in families.items()}
    components = config.components or (Component(config.task),)
    built = {
        name: BuiltComponent(build_estimator(run, lopt, families[run.task], mesh), data_at[run.task], component.weight)
        for (name, run), component in zip(runs.items(), components, strict=True)
    }
    rate = warmup_cosine(config)
    optimizer = META_OPTIMIZERS[config.meta_optimizer](rate, config.weight_decay, config.max_gradient_norm)
    trained = trained_entries(lopt, config.train_only)
    update = meta_update(optimizer, rate, config.theta_average_decay, flat_form(lopt), mesh, trained)
    trainer = mixture_trainer(lopt, built, update, components_per_step=config.components_per_step, seed=config.seed)
    return trainer._replace(card=card_of(config, lopt), local_opt=local_recipe(config, lopt))
