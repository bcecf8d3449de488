"""Inner training as meta-training sees it: a truncation of rounds under given meta-parameters, and the losses it met.

Meta-losses are divided by the loss of a constant guess, so that task families are commensurable, and clipped to
[0, LOSS_CEILING]; a non-finite loss counts as the ceiling. A diverged particle therefore has the same loss under both
signs of a perturbation, and adds nothing to the meta-gradient. `objective` says how they are weighted.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from learned_opt.algorithms.data_parallel import data_parallel
from learned_opt.algorithms.local_sgd import RoundState, local_sgd
from learned_opt.algorithms.worker_mesh import WORKERS
from learned_opt.base import LearnedOptimizer, Theta
from learned_opt.optimizers import make_local_optimizer
from meta_train.estimators.objective import counted_losses
from tasks.base import TaskFamily


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
      losses: normalised, clipped meta-losses, weighted so that their mean is the objective.
      num_clamped: how many of them were clipped or not finite.
    """

    losses: Float[Array, "counted"]
    num_clamped: Int[Array, ""]


class Unroll(NamedTuple):
    """Truncated inner training.

    Attributes:
      reset: (theta, key, data) -> InnerState of a newly sampled task.
      step: (theta, state, key, data) -> (state, UnrollInfo) after `truncation_length` rounds.
    """

    reset: Callable[[Theta, jax.Array, Any], InnerState]
    step: Callable[[Theta, InnerState, jax.Array, Any], tuple[InnerState, UnrollInfo]]


def local_sgd_unroll(
    lopt: LearnedOptimizer,
    family: TaskFamily,
    *,
    num_workers: int,
    num_local_steps: int,
    batch_size: int,
    local_learning_rate: float | None,
    truncation_length: int,
    meta_loss_split: str,
    local_optimizer: str = "sgd",
    objective: str = "mean",
    rematerialise: bool = False,
    worker_devices: int = 1,
) -> Unroll:
    """Rounds of local SGD whose server step is `lopt`, or single-machine steps of it.

    Args:
      lopt: the learned optimizer being meta-trained.
      family: where tasks come from; its `data` is passed to `reset` and `step`, not closed over.
      num_workers: K.
      num_local_steps: H.
      batch_size: examples per local step and worker.
      local_learning_rate: of the local optimizer; None: no local steps, `lopt` is given one gradient a round, of all
        its batches.
      truncation_length: rounds per step.
      meta_loss_split: "train" (mean of the round's local minibatch losses, as published) or another split, on
        which the new global parameters are evaluated with one batch of K * batch_size examples.
      local_optimizer: a name in learned_opt.optimizers.
      objective: "mean", "final" or "linear", see `meta_train.estimators.objective`.
      rematerialise: under differentiation keep one inner state a round and compute the rest again.
      worker_devices: devices of a mesh axis "workers" that share the K workers; with more than one, `reset` and
        `step` run inside shard_map, and an InnerState holds the local optimizer states of this device's workers.

    Raises:
      ValueError: an unknown local optimizer, workers that cannot be shared out; by `step`, an unknown objective.
    """
    if num_workers % worker_devices:
        raise ValueError(f"worker_devices: {worker_devices} do not divide the {num_workers} workers")
    if local_learning_rate is None and worker_devices > 1:
        raise ValueError(f"worker_devices: {worker_devices} cannot share a gradient without local steps")
    local = None if local_learning_rate is None else make_local_optimizer(local_optimizer, local_learning_rate)
    axis_name, on_device = (None if worker_devices == 1 else WORKERS), num_workers // worker_devices

    def algorithm(theta):
        if local is None:
            return data_parallel(lopt.transform(theta), num_workers, num_local_steps)
        return local_sgd(local, lopt.transform(theta), num_workers, num_local_steps, axis_name)

    def reset(theta, key, data):
        config_key, init_key = jax.random.split(key)
        task_config = family.sample(config_key)
        params = family.task(task_config, data).init(init_key)
        round_state = algorithm(theta).init(params)
        # All workers begin alike.
        local_state = jax.tree.map(lambda x: x[:on_device], round_state.local_state)
        return InnerState(task_config, round_state._replace(local_state=local_state))

    def step(theta, state, key, data):
        task = family.task(state.task_config, data)
        rounds = algorithm(theta)

        def one_round(round_state, index):
            batch_key, round_key, loss_key = jax.random.split(jax.random.fold_in(key, index), 3)
            batches = task.sample_batch(batch_key, "train", (num_workers, num_local_steps, batch_size))
            if axis_name is not None:
                # Every device draws for all workers, so that a worker's batches do not depend on the layout.
                first = jax.lax.axis_index(axis_name) * on_device
                batches = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, first, on_device), batches)
            round_state, info = rounds.round(task.loss, round_state, round_key, batches)
            if meta_loss_split == "train":
                return round_state, jnp.mean(info.losses)
            return round_state, loss_key if objective == "final" else held_out(round_state.params, loss_key)

        def held_out(params, loss_key):
            batch_key, dropout_key = jax.random.split(loss_key)
            batch = task.sample_batch(batch_key, meta_loss_split, (num_workers * batch_size,))
            return task.loss(params, dropout_key, batch)

        body = jax.checkpoint(one_round) if rematerialise else one_round
        round_state, losses = jax.lax.scan(body, state.round_state, jnp.arange(truncation_length))
        if meta_loss_split != "train" and objective == "final":
            losses = held_out(round_state.params, losses[-1])[None]
        losses, num_clamped = counted_losses(objective, losses, family.uninformed_loss)
        return InnerState(state.task_config, round_state), UnrollInfo(losses, num_clamped)

    return Unroll(reset, step)
