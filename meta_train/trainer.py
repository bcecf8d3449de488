"""The meta-training step as one jitted program: estimate the meta-gradient, update theta (`meta_update`).

`build_trainer` makes it from a configuration; with several components, `mixture` runs one program for each.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import learned_opt
from learned_opt.algorithms.data_parallel import data_parallel
from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.base import LearnedOptimizer, LocalAlgorithm, Theta
from learned_opt.optimizers import make_local_optimizer
from meta_train.config import TIED_TO_NUM_WORKERS, MetaTrainConfig, single_runs
from meta_train.estimators import ESTIMATORS
from meta_train.estimators.base import EstimatorOptions, GradientEstimator, Sigma
from meta_train.estimators.particle_mesh import make_particle_mesh
from meta_train.estimators.truncation import log_uniform_length
from meta_train.estimators.unroll import Unroll, make_unroll
from meta_train.meta_update import StepCounter, Trainer, TrainerInfo, TrainerState, meta_update
from meta_train.mixture import Member, mixture_trainer
from meta_train.processes.distributed import place
from tasks.base import TaskFamily
from tasks.datasets.resident_window import resident_window
from tasks.suites import make_family

__all__ = [
    "Trainer",
    "TrainerInfo",
    "TrainerState",
    "build_lopt",
    "build_trainer",
    "build_unroll",
    "meta_trainer",
    "warmup_cosine",
]


def meta_trainer(
    lopt: LearnedOptimizer,
    estimator: GradientEstimator,
    data: Any,
    *,
    data_at: Callable[[int], Any] | None = None,
    learning_rate: optax.Schedule,
    weight_decay: float,
    max_gradient_norm: float,
    average_decay: float,
    mesh: jax.sharding.Mesh,
    accumulated_steps: int = 1,
) -> Trainer:
    """Builds the trainer.

    Args:
      lopt: what is trained.
      estimator: of the meta-gradient.
      data: passed to the estimator as an argument of the compiled step.
      data_at: meta-step -> its data, on the devices and of the shapes of `data`; None: always `data`.
      learning_rate, weight_decay, max_gradient_norm, average_decay, accumulated_steps: of `meta_update`.
      mesh: the estimator's; everything but its particles is replicated over it.
    """
    update = meta_update(learning_rate, weight_decay, max_gradient_norm, average_decay, mesh, accumulated_steps)

    def init(key):
        theta_key, estimator_key, root = jax.random.split(key, 3)
        theta = lopt.init(theta_key)
        return update.init(theta, root)._replace(estimator_state=estimator.init(theta, estimator_key, data))

    def step_fn(state, data):
        gradient, estimator_state, info = estimator.estimate(
            state.theta,
            state.estimator_state,
            jax.random.fold_in(state.key, state.step),
            state.step,
            data,
        )
        return update.apply(state._replace(estimator_state=estimator_state), gradient, info)

    jitted_step = jax.jit(step_fn, donate_argnums=(0,))
    counter = StepCounter()
    if data_at is None:
        data = place(data, jax.NamedSharding(mesh, jax.P()))

    def step(state):
        if data_at is None:
            return jitted_step(state, data)
        new_state, info = jitted_step(state, data_at(counter.read(state.step)))
        counter.advance(new_state.step)
        return new_state, info

    return Trainer(init, step, lopt, lambda state: {"meta_step": jitted_step.lower(state, data)})


def warmup_cosine(config: MetaTrainConfig) -> optax.Schedule:
    """Linear warm-up to the peak, cosine to the final learning rate at the last meta-step."""
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=config.meta_learning_rate,
        warmup_steps=config.warmup_steps,
        decay_steps=max(config.meta_steps, config.warmup_steps + 1),
        end_value=config.final_meta_learning_rate,
    )


def build_lopt(config: MetaTrainConfig) -> LearnedOptimizer:
    """The learned optimizer a configuration names."""
    arguments = {
        "architecture": config.optimizer,
        "hidden_size": config.hidden_size,
        "hidden_layers": config.hidden_layers,
        "nominal": config.nominal,
    }
    if config.optimizer in TIED_TO_NUM_WORKERS:
        arguments["num_workers"] = config.num_workers
    lopt = learned_opt.from_config(arguments)
    return lopt if config.initial_theta is None else _starting_from(lopt, config.initial_theta)


def _starting_from(lopt: LearnedOptimizer, source: str) -> LearnedOptimizer:
    """The optimizer with the theta of a checkpoint in place of a random one."""
    checkpoint = learned_opt.load_checkpoint(source)
    if checkpoint.lopt.config != lopt.config:
        raise ValueError(
            f"initial_theta: {source} holds {checkpoint.lopt.config}, this run trains {lopt.config}; "
            "make the settings equal or choose another file"
        )
    theta = jax.tree.map(jnp.asarray, checkpoint.theta)
    return lopt._replace(init=lambda key: theta)


def build_algorithm(config: MetaTrainConfig, lopt: LearnedOptimizer) -> Callable[[Theta], LocalAlgorithm]:
    """theta -> the algorithm of one worker that the configuration trains in."""
    if lopt.reads == "gradient":
        return lambda theta: data_parallel(lopt.transform(theta))
    local = make_local_optimizer(config.local_optimizer, config.local_learning_rate)
    return lambda theta: local_sgd(local, lopt.transform(theta))


def build_unroll(config: MetaTrainConfig, lopt: LearnedOptimizer, family: TaskFamily) -> Unroll:
    """The inner training of a configuration."""
    return make_unroll(
        build_algorithm(config, lopt),
        family,
        num_workers=config.num_workers,
        num_local_steps=config.num_local_steps,
        batch_size=config.batch_size,
        truncation_length=config.truncation_length,
        meta_loss_split=config.meta_loss_split,
        objective=config.objective,
        rematerialise=config.estimator.endswith("backprop"),
        worker_devices=config.worker_devices,
    )


def build_estimator(
    config: MetaTrainConfig, lopt: LearnedOptimizer, family: TaskFamily, mesh: jax.sharding.Mesh
) -> GradientEstimator:
    """The meta-gradient estimator of a configuration without components."""
    backprop = config.estimator.endswith("backprop")
    options = EstimatorOptions(
        sign_scale=config.sign_scale,
        max_difference=config.max_difference,
        pairs_per_task=config.pairs_per_task,
        max_unroll_length=config.max_unroll_length,
        chunk=config.chunk,
    )
    return ESTIMATORS[config.estimator](
        build_unroll(config, lopt, family),
        log_uniform_length(config.min_unroll_length, config.max_unroll_length, config.truncation_length),
        num_pairs=config.num_tasks * config.pairs_per_task,
        truncation_length=config.truncation_length,
        sigma=0.0 if backprop else sigma_schedule(config),
        mesh=mesh,
        options=options,
    )


def _data_source(config: MetaTrainConfig, family: TaskFamily, mesh: jax.sharding.Mesh) -> Callable[[int], Any]:
    """Meta-step -> the family's data on the devices: all of them, or the window of the meta-step."""

    def put(tree):
        return place(tree, jax.NamedSharding(mesh, jax.P()))

    if config.resident_bytes:
        return resident_window(family.data, config.resident_bytes, config.swap_every, config.seed, put).at
    data = put(family.data)
    return lambda meta_step: data


def sigma_schedule(config: MetaTrainConfig) -> Sigma:
    """Geometric from sigma to final_sigma over the run; the number where it does not change."""
    if config.final_sigma is None:
        return config.sigma
    ratio = config.final_sigma / config.sigma

    def schedule(meta_step):
        done = jnp.minimum(meta_step.astype(jnp.float32) / max(1, config.meta_steps - 1), 1)
        return config.sigma * jnp.power(jnp.float32(ratio), done)

    return schedule


def build_trainer(config: MetaTrainConfig) -> Trainer:
    """Task families, learned optimizer, estimators and trainer of a configuration."""
    lopt = build_lopt(config)
    settings = {
        "learning_rate": warmup_cosine(config),
        "weight_decay": config.weight_decay,
        "max_gradient_norm": config.max_gradient_norm,
        "average_decay": config.theta_average_decay,
        "accumulated_steps": config.accumulated_steps,
    }
    runs = single_runs(config)
    # One mesh for all, so that theta lies on the devices of each.
    pairs = math.gcd(*(run.num_tasks * run.pairs_per_task for run in runs.values()))
    mesh = make_particle_mesh(pairs, config.worker_devices)
    families = {task: make_family(task) for task in dict.fromkeys(run.task for run in runs.values())}
    estimators = {name: build_estimator(run, lopt, families[run.task], mesh) for name, run in runs.items()}
    # Components of one family share its data.
    data_at = {task: _data_source(config, family, mesh) for task, family in families.items()}
    if not config.components:
        windows = {"data_at": data_at[config.task]} if config.resident_bytes else {}
        return meta_trainer(lopt, estimators[config.task], data_at[config.task](0), mesh=mesh, **windows, **settings)
    members = {
        name: Member(estimators[name], data_at[run.task], component.weight)
        for (name, run), component in zip(runs.items(), config.components, strict=True)
    }
    return mixture_trainer(
        lopt,
        members,
        members_per_step=config.components_per_step,
        clip_members=config.component_gradients == "clipped",
        seed=config.seed,
        mesh=mesh,
        **settings,
    )
