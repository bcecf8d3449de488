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

from learned_opt.algorithms.round import all_losses, own_part, simulate
from learned_opt.base import LocalAlgorithm, RoundState
from meta_train.estimators.objective import check_objective, counted_losses
from meta_train.flat_theta import FlatTheta
from tasks.base import TaskFamily


class InnerState(NamedTuple):
    """One task in training.

    Attributes:
      task_config: arrays describing the task.
      round_state: parameters and optimizer states.
      num_rounds: that the whole training lasts.
    """

    task_config: Any
    round_state: RoundState
    num_rounds: Int[Array, ""]


class UnrollInfo(NamedTuple):
    """What a truncation met.

    Attributes:
      losses: normalised, clipped meta-losses, weighted so that their mean is the objective.
      num_clamped: how many of them were clipped or not finite.
    """

    losses: Float[Array, "counted"]
    num_clamped: Int[Array, ""]


class Supervision(NamedTuple):
    """An expert that the optimizer imitates (`meta_train.expert`).

    Attributes:
      share: theta -> of the imitation in the meta-loss, 0 to 1.
      imitation: state after a round -> how far that step was from the expert's.
    """

    share: Callable[[Any], Float[Array, ""]]
    imitation: Callable[[RoundState], Float[Array, ""]]


class Unroll(NamedTuple):
    """Truncated inner training.

    Attributes:
      reset: (theta, key, data, rounds that the whole training lasts) -> InnerState of a newly sampled task.
      step: (theta, state, key, data) -> (state, UnrollInfo) after a truncation.
      truncation_length: rounds of it.
      lengthen: (state, rounds that the whole training lasts from now on) -> state.
    """

    reset: Callable[[FlatTheta, jax.Array, Any, Int[Array, ""]], InnerState]
    step: Callable[[FlatTheta, InnerState, jax.Array, Any], tuple[InnerState, UnrollInfo]]
    truncation_length: int
    lengthen: Callable[[Any, Int[Array, ""]], Any] = lambda state, num_rounds: state


def make_unroll(
    algorithm: Callable[[FlatTheta, Int[Array, ""]], LocalAlgorithm],
    family: TaskFamily,
    *,
    num_workers: int,
    num_local_steps: int,
    batch_size: int,
    truncation_length: int,
    meta_loss_split: str,
    objective: str = "mean",
    rematerialise: bool = False,
    worker_devices: int = 1,
    supervision: Supervision | None = None,
) -> Unroll:
    """Rounds of a distributed training algorithm that theta takes part in.

    Args:
      algorithm: (theta, rounds that the whole training lasts) -> the algorithm of one worker, e.g. local SGD with a
        learned server optimizer.
      family: where tasks come from; its `data` is passed to `reset` and `step`, not closed over.
      num_workers: K.
      num_local_steps: H.
      batch_size: examples per local step and worker.
      truncation_length: rounds per step.
      meta_loss_split: "train" (mean of the round's local minibatch losses, as published) or another split, on
        which the new global parameters are evaluated with one batch of K * batch_size examples.
      objective: a name in `meta_train.estimators.objective.OBJECTIVES`.
      rematerialise: under differentiation keep one inner state a round and compute the rest again.
      worker_devices: devices of the mesh axis "worker_devices" that share the K workers; with more than one, `reset`
        and `step` run inside shard_map, and an InnerState holds what this device's workers keep.
      supervision: what of the meta-loss is imitation; None for nothing.

    Raises:
      ValueError: workers that cannot be shared out, or an unknown objective.
    """
    if num_workers % worker_devices:
        raise ValueError(f"worker_devices={worker_devices}: use a divisor of num_workers={num_workers}")
    check_objective(objective)
    is_held_out = meta_loss_split != "train"
    only_last_counts = objective == "final"

    def all_workers(theta, num_rounds):
        return simulate(algorithm(theta, num_rounds), num_workers // worker_devices)

    def reset(theta, key, data, num_rounds):
        config_key, init_key = jax.random.split(key)
        task_config = family.sample(config_key)
        params = family.task(task_config, data).init(init_key)
        return InnerState(task_config, all_workers(theta, num_rounds).init(params), jnp.asarray(num_rounds, jnp.int32))

    def step(theta, state, key, data):
        task = family.task(state.task_config, data)
        workers = all_workers(theta, state.num_rounds)

        def keys_of(index):
            """Of a round: for its batches, for itself, for its held-out loss."""
            return jax.random.split(jax.random.fold_in(key, index), 3)

        def held_out_loss(round_state, loss_key):
            batch_key, dropout_key = jax.random.split(loss_key)
            batch = task.sample_batch(batch_key, meta_loss_split, (num_workers * batch_size,))
            return task.loss(workers.params(round_state), dropout_key, batch)

        def one_round(round_state, index):
            batch_key, round_key, loss_key = keys_of(index)
            # Every device draws for all workers, so that a worker's batches do not depend on the layout.
            batches = own_part(task.sample_batch(batch_key, "train", (num_workers, num_local_steps, batch_size)))
            round_state, info = workers.round(task.loss, round_state, round_key, batches)
            if not is_held_out:
                return round_state, jnp.mean(all_losses(info.losses))
            return round_state, None if only_last_counts else held_out_loss(round_state, loss_key)

        def supervised_round(round_state, index):
            round_state, loss = one_round(round_state, index)
            return round_state, (loss, None if supervision is None else supervision.imitation(round_state))

        body = jax.checkpoint(supervised_round) if rematerialise else supervised_round
        round_state, (losses, imitation) = jax.lax.scan(body, state.round_state, jnp.arange(truncation_length))
        if is_held_out and only_last_counts:
            losses = held_out_loss(round_state, keys_of(truncation_length - 1)[2])[None]
        assert losses is not None
        losses, num_clamped = counted_losses(objective, losses, family.uninformed_loss)
        if supervision is not None:
            share = supervision.share(theta)
            assert imitation is not None
            losses = (1 - share) * losses + share * jnp.mean(imitation)
        return state._replace(round_state=round_state), UnrollInfo(losses, num_clamped)

    def lengthen(state, num_rounds):
        return state._replace(num_rounds=jnp.asarray(num_rounds, jnp.int32))

    return Unroll(reset, step, truncation_length, lengthen)
