"""The meta-training step: estimate the meta-gradient, take an AdamW step on theta, keep a running average of theta.

The gradient is clipped by global norm before AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101), because PES
gradients are heavy-tailed and one outlier would otherwise sit in both moments; the exported meta-parameters are an
exponential moving average (Polyak & Juditsky 1992), which removes most of what the noise of single steps leaves in
theta. A gradient with a non-finite entry never reaches theta: the step is skipped and counted.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

import learned_opt
from learned_opt.base import LearnedOptimizer, Theta
from meta_train.config import MetaTrainConfig
from meta_train.gradient_estimator import GradientEstimator
from meta_train.particle_mesh import make_particle_mesh
from meta_train.pes import pes
from meta_train.truncation import log_uniform_length
from meta_train.unroll import Unroll, local_sgd_unroll
from tasks.base import TaskFamily
from tasks.suites import make_family


class TrainerState(NamedTuple):
    """Everything a meta-training run carries; arrays and typed keys only.

    Attributes:
      step: meta-steps taken.
      key: root key of the run; step t uses fold_in(key, t).
      theta: meta-parameters.
      theta_average: their exponential moving average, which is what a run exports.
      opt_state: state of the meta-optimizer.
      estimator_state: the particles.
      num_skipped_in_row: meta-gradients in a row that were not finite.
    """

    step: Int[Array, ""]
    key: jax.Array
    theta: Theta
    theta_average: Theta
    opt_state: Any
    estimator_state: Any
    num_skipped_in_row: Int[Array, ""]


class TrainerInfo(NamedTuple):
    """Diagnostics of one meta-step.

    Attributes:
      meta_loss: mean normalised loss over particles and rounds (1 = a constant guess).
      gradient_norm: global norm of the meta-gradient before clipping.
      num_clamped: rounds whose loss was clipped or not finite.
      num_skipped: 1 if the meta-gradient was not finite and theta stayed.
      num_skipped_in_row: such steps in a row.
      mean_age: mean age of the particles, rounds.
      learning_rate: of this step.
    """

    meta_loss: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    num_clamped: Int[Array, ""]
    num_skipped: Int[Array, ""]
    num_skipped_in_row: Int[Array, ""]
    mean_age: Float[Array, ""]
    learning_rate: Float[Array, ""]


class Trainer(NamedTuple):
    """A meta-trainer.

    Attributes:
      init: key -> TrainerState.
      step: state -> (state, TrainerInfo); compiled once, donates its argument.
      lopt: the learned optimizer being trained.
    """

    init: Callable[[jax.Array], TrainerState]
    step: Callable[[TrainerState], tuple[TrainerState, TrainerInfo]]
    lopt: LearnedOptimizer


def meta_trainer(
    lopt: LearnedOptimizer,
    estimator: GradientEstimator,
    data: Any,
    *,
    learning_rate: optax.Schedule,
    weight_decay: float,
    max_gradient_norm: float,
    average_decay: float,
    mesh: jax.sharding.Mesh,
) -> Trainer:
    """Builds the trainer.

    Args:
      lopt: what is trained.
      estimator: of the meta-gradient.
      data: passed to the estimator as an argument of the compiled step.
      learning_rate: schedule over meta-steps.
      weight_decay: of AdamW.
      max_gradient_norm: the meta-gradient is clipped to it.
      average_decay: of the running average of theta; it starts smaller, at (1 + t) / (10 + t).
      mesh: the estimator's; everything but its particles is replicated over it.
    """
    # Flattened to one vector: every operation is elementwise or a norm, and compiles once instead of once per leaf.
    optimizer = optax.flatten(
        optax.chain(
            optax.clip_by_global_norm(max_gradient_norm),
            optax.adamw(learning_rate, weight_decay=weight_decay),
        )
    )

    def init(key):
        theta_key, estimator_key, root = jax.random.split(key, 3)
        theta = lopt.init(theta_key)
        replicated = (
            jnp.int32(0),
            root,
            theta,
            jax.tree.map(jnp.copy, theta),
            optimizer.init(theta),
            jnp.int32(0),
        )
        # Placed as the step returns them, or the second step would compile again.
        step, root, theta, average, opt_state, skipped = jax.device_put(replicated, jax.NamedSharding(mesh, jax.P()))
        return TrainerState(
            step=step,
            key=root,
            theta=theta,
            theta_average=average,
            opt_state=opt_state,
            estimator_state=estimator.init(theta, estimator_key, data),
            num_skipped_in_row=skipped,
        )

    def step_fn(state, data):
        gradient, estimator_state, info = estimator.estimate(
            state.theta,
            state.estimator_state,
            jax.random.fold_in(state.key, state.step),
            state.step,
            data,
        )
        norm = optax.tree.norm(gradient)
        finite = jnp.isfinite(norm)
        safe = jax.tree.map(lambda g: jnp.where(finite, g, 0), gradient)
        updates, opt_state = optimizer.update(safe, state.opt_state, state.theta)
        theta = optax.apply_updates(state.theta, updates)
        decay = jnp.minimum(average_decay, (1 + state.step) / (10 + state.step))
        average = jax.tree.map(lambda a, t: decay * a + (1 - decay) * t, state.theta_average, theta)
        theta, average, opt_state = _select(
            finite,
            (theta, average, opt_state),
            (state.theta, state.theta_average, state.opt_state),
        )
        skipped_in_row = jnp.where(finite, 0, state.num_skipped_in_row + 1).astype(jnp.int32)
        new_state = TrainerState(
            step=state.step + 1,
            key=state.key,
            theta=theta,
            theta_average=average,
            opt_state=opt_state,
            estimator_state=estimator_state,
            num_skipped_in_row=skipped_in_row,
        )
        return new_state, TrainerInfo(
            meta_loss=info.meta_loss,
            gradient_norm=norm,
            num_clamped=info.num_clamped,
            num_skipped=(~finite).astype(jnp.int32),
            num_skipped_in_row=skipped_in_row,
            mean_age=info.mean_age,
            learning_rate=jnp.asarray(learning_rate(state.step), jnp.float32),
        )

    data = jax.device_put(data, jax.NamedSharding(mesh, jax.P()))
    jitted_step = jax.jit(step_fn, donate_argnums=(0,))
    return Trainer(init, lambda state: jitted_step(state, data), lopt)


def _select(condition: Bool[Array, ""], new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


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
        "hidden_size": config.hidden_size,
        "hidden_layers": config.hidden_layers,
        "nominal": config.nominal,
    }
    if config.optimizer == "lagg_a":
        lopt = learned_opt.lagg_a(num_workers=config.num_workers, **arguments)
    else:
        lopt = learned_opt.lopt_a(**arguments)
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


def build_unroll(config: MetaTrainConfig, lopt: LearnedOptimizer, family: TaskFamily) -> Unroll:
    """The inner training of a configuration."""
    return local_sgd_unroll(
        lopt,
        family,
        num_workers=config.num_workers,
        num_local_steps=config.num_local_steps,
        batch_size=config.batch_size,
        local_learning_rate=config.local_learning_rate,
        truncation_length=config.truncation_length,
        meta_loss_split=config.meta_loss_split,
    )


def build_trainer(config: MetaTrainConfig) -> Trainer:
    """Task family, learned optimizer, unroll, PES and trainer of a configuration."""
    family: TaskFamily = make_family(config.task)
    lopt = build_lopt(config)
    unroll = build_unroll(config, lopt, family)
    mesh = make_particle_mesh(config.num_tasks)
    estimator = pes(
        unroll,
        log_uniform_length(config.min_unroll_length, config.max_unroll_length, config.truncation_length),
        num_pairs=config.num_tasks,
        truncation_length=config.truncation_length,
        sigma=config.sigma,
        mesh=mesh,
    )
    return meta_trainer(
        lopt,
        estimator,
        family.data,
        learning_rate=warmup_cosine(config),
        weight_decay=config.weight_decay,
        max_gradient_norm=config.max_gradient_norm,
        average_decay=config.theta_average_decay,
        mesh=mesh,
    )
