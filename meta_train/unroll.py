"""Inner training as meta-training sees it: a truncation of rounds under given meta-parameters, and the losses it met.

Meta-losses are divided by the loss of a constant guess, so that task families are commensurable, and clipped to
[0, LOSS_CEILING]; a non-finite loss counts as the ceiling. A diverged particle therefore has the same loss under both
signs of a perturbation, and adds nothing to the meta-gradient.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from learned_opt.base import LearnedOptimizer, Theta
from learned_opt.local_sgd import RoundState, local_sgd
from tasks.base import TaskFamily

LOSS_CEILING = 1.5


class InnerState(NamedTuple):
    """One task in training.

    Attributes:
      task_config: arrays describing the task.
      round_state: parameters and optimizer states.
    """

    task_config: Any
    round_state: RoundState


class UnrollInfo(NamedTuple):
    """What a truncation met.

    Attributes:
      losses: normalised, clipped meta-loss of each round.
      num_clamped: rounds whose loss was clipped or not finite.
    """

    losses: Float[Array, "rounds"]
    num_clamped: Int[Array, ""]


class Unroll(NamedTuple):
    """Truncated inner training.

    Attributes:
      reset: (theta, key, data) -> InnerState of a newly sampled task.
      step: (theta, state, key, data) -> (state, UnrollInfo) after `truncation_length` rounds.
    """

    reset: Callable[[Theta, jax.Array, Any], InnerState]
    step: Callable[[Theta, InnerState, jax.Array, Any], tuple[InnerState, UnrollInfo]]


def clip_loss(loss: Float[Array, "*n"]) -> tuple[Float[Array, "*n"], Int[Array, ""]]:
    """The loss in [0, LOSS_CEILING], the ceiling where it is not finite, and how many entries changed."""
    inside = (loss >= 0) & (loss <= LOSS_CEILING)
    clipped = jnp.where(jnp.isfinite(loss), jnp.clip(loss, 0, LOSS_CEILING), LOSS_CEILING)
    return clipped, jnp.sum(~inside).astype(jnp.int32)


def local_sgd_unroll(
    lopt: LearnedOptimizer,
    family: TaskFamily,
    *,
    num_workers: int,
    num_local_steps: int,
    batch_size: int,
    local_learning_rate: float,
    truncation_length: int,
    meta_loss_split: str,
) -> Unroll:
    """Rounds of local SGD whose server step is `lopt`.

    Args:
      lopt: the learned optimizer being meta-trained.
      family: where tasks come from; its `data` is passed to `reset` and `step`, not closed over.
      num_workers: K.
      num_local_steps: H.
      batch_size: examples per local step and worker.
      local_learning_rate: of plain SGD on the workers.
      truncation_length: rounds per step.
      meta_loss_split: "train" (mean of the round's local minibatch losses, as published) or another split, on
        which the new global parameters are evaluated with one batch of K * batch_size examples.
    """

    def algorithm(theta):
        return local_sgd(optax.sgd(local_learning_rate), lopt.transform(theta), num_workers, num_local_steps)

    def reset(theta, key, data):
        config_key, init_key = jax.random.split(key)
        task_config = family.sample(config_key)
        params = family.task(task_config, data).init(init_key)
        return InnerState(task_config, algorithm(theta).init(params))

    def step(theta, state, key, data):
        task = family.task(state.task_config, data)
        rounds = algorithm(theta)

        def one_round(round_state, index):
            batch_key, round_key, loss_key = jax.random.split(jax.random.fold_in(key, index), 3)
            batches = task.sample_batch(batch_key, "train", (num_workers, num_local_steps, batch_size))
            round_state, info = rounds.round(task.loss, round_state, round_key, batches)
            if meta_loss_split == "train":
                return round_state, jnp.mean(info.losses)
            held_out_key, dropout_key = jax.random.split(loss_key)
            batch = task.sample_batch(held_out_key, meta_loss_split, (num_workers * batch_size,))
            return round_state, task.loss(round_state.params, dropout_key, batch)

        round_state, losses = jax.lax.scan(one_round, state.round_state, jnp.arange(truncation_length))
        losses, num_clamped = clip_loss(losses / family.uninformed_loss)
        return InnerState(state.task_config, round_state), UnrollInfo(losses, num_clamped)

    return Unroll(reset, step)
