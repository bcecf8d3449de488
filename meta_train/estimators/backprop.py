"""Backpropagation through the unroll (Maclaurin, Duvenaud & Adams 2015, arXiv 1502.03492), truncated (Andrychowicz et
al. 2016, arXiv 1606.04474) or over whole episodes.

    truncated:  gradient = mean_i d/dtheta mean_t L_{i,t}, t in one truncation, the inner state it begins from given
    full:       gradient = mean_i d/dtheta mean_{t < T} L_{i,t}, from the initial parameters on

No smoothing and no noise but that of tasks and batches; the truncated form is biased as truncated ES is, and both
explode where inner training is chaotic (Metz et al. 2021, arXiv 2111.05803). Forward values are rematerialised in the
backward pass (Chen et al. 2016, arXiv 1604.06174): over a whole episode one inner state is kept per truncation, and
within a truncation one per round, the unroll's own doing.

A task whose gradient is not finite counts as zero. Spread and skips are counted in tasks, and there is one particle
each.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from meta_train.estimators.base import (
    PLAIN,
    EstimatorOptions,
    GradientEstimator,
    Sent,
    Sigma,
    average,
    diverged,
)
from meta_train.estimators.episodes import Episode, begin_episode, episode_shapes, renew_ended
from meta_train.estimators.particle_mesh import PARTICLES, default_chunk, map_particles
from meta_train.estimators.truncation import TruncationSchedule
from meta_train.estimators.unroll import Unroll


def truncated_backprop(
    unroll: Unroll,
    schedule: TruncationSchedule,
    *,
    num_pairs: int,
    truncation_length: int,
    sigma: Sigma = 0.0,
    mesh: jax.sharding.Mesh,
    options: EstimatorOptions = PLAIN,
) -> GradientEstimator:
    """Builds the truncated form; its state is the tasks' `Episode`s.

    Args:
      unroll: truncated inner training.
      schedule: episode lengths, rounds.
      num_pairs: tasks; nothing comes in pairs here.
      truncation_length: rounds per estimate, that of `unroll`.
      sigma: unused, since nothing is perturbed.
      mesh: devices the tasks are spread over, from `make_particle_mesh`.
      options: none of those about perturbations applies.

    Raises:
      ValueError: an option that does not apply, or a mesh that spreads a task over devices.
    """
    del sigma
    _check(num_pairs, mesh, options)
    sharding = jax.NamedSharding(mesh, jax.P(PARTICLES))
    begin = begin_episode(unroll, schedule, truncation_length)

    def init(theta, key, data):
        shapes = episode_shapes(begin, theta, key, data)
        return jax.tree.map(lambda x: jnp.zeros((num_pairs, *x.shape), x.dtype, device=sharding), shapes)

    def step_task(shared, task_id, episode):
        theta, key, meta_step, data = shared
        episode_key, step_key = jax.random.split(jax.random.fold_in(key, task_id))
        episode = renew_ended(begin(theta, episode_key, meta_step, data, episode.unroll_length == 0), episode)

        def truncation_loss(theta):
            inner, info = unroll.step(theta, episode.inner, step_key, data)
            return jnp.mean(info.losses), (inner, (info.num_clamped, diverged(info)))

        (loss, (inner, counts)), gradient = jax.value_and_grad(truncation_loss, has_aux=True)(theta)
        age = episode.age + truncation_length
        return Episode(inner, age, episode.unroll_length), _sent(gradient, loss, counts, age)

    over_tasks = map_particles(step_task, mesh, options.chunk or default_chunk(num_pairs))

    def estimate(theta, state, key, meta_step, data):
        state, sent = over_tasks((theta, key, meta_step, data), num_pairs, state)
        gradient, info = average(sent, pairs_per_task=1)
        return ravel_pytree(theta)[1](gradient), state, info

    return GradientEstimator(init, estimate)


def full_backprop(
    unroll: Unroll,
    schedule: TruncationSchedule,
    *,
    num_pairs: int,
    truncation_length: int,
    sigma: Sigma = 0.0,
    mesh: jax.sharding.Mesh,
    options: EstimatorOptions,
) -> GradientEstimator:
    """Builds the form over whole episodes; it has no state, and ages are the episode's length.

    As in `meta_train.estimators.full_es`, all tasks of an estimate share a length. Arguments and errors are those of
    `truncated_backprop`, except that `options.max_unroll_length` must be the schedule's longest episode, in rounds, a
    multiple of `truncation_length`: memory is reserved for it, and longer episodes would be cut there.
    """
    del sigma
    _check(num_pairs, mesh, options)
    longest = options.max_unroll_length
    if longest is None or longest < 1 or longest % truncation_length:
        raise ValueError(
            f"max_unroll_length: {longest} must be the schedule's longest episode, a multiple of truncation_length "
            f"{truncation_length}"
        )

    def run_task(shared, task_id, state):
        theta, key, num_truncations, data = shared
        episode_key, step_key = jax.random.split(jax.random.fold_in(key, task_id))

        def episode_loss(theta):
            @jax.checkpoint
            def one_truncation(inner, index):
                inner, info = unroll.step(theta, inner, jax.random.fold_in(step_key, index), data)
                return inner, (jnp.mean(info.losses), info.num_clamped, ~diverged(info))

            def until_the_end(inner, index):
                # All tasks of a device end together, so this stays a branch and the rest costs nothing.
                nothing = jax.tree.map(jnp.zeros_like, jax.eval_shape(one_truncation, inner, index)[1])
                return jax.lax.cond(
                    index < num_truncations, one_truncation, lambda inner, index: (inner, nothing), inner, index
                )

            inner = unroll.reset(theta, episode_key, data)
            indices = jnp.arange(longest // truncation_length)
            _, (losses, num_clamped, kept) = jax.lax.scan(until_the_end, inner, indices)
            return jnp.sum(losses) / num_truncations.astype(losses.dtype), (jnp.sum(num_clamped), ~jnp.any(kept))

        (loss, counts), gradient = jax.value_and_grad(episode_loss, has_aux=True)(theta)
        length = num_truncations * truncation_length
        return state, _sent(gradient, loss, counts, length)

    over_tasks = map_particles(run_task, mesh, options.chunk or default_chunk(num_pairs))

    def estimate(theta, state, key, meta_step, data):
        length_key, tasks_key = jax.random.split(key)
        num_truncations = jnp.minimum(schedule(length_key, meta_step), longest) // truncation_length
        state, sent = over_tasks((theta, tasks_key, num_truncations, data), num_pairs, state)
        gradient, info = average(sent, pairs_per_task=1)
        return ravel_pytree(theta)[1](gradient), state, info

    return GradientEstimator(lambda theta, key, data: (), estimate)


def _sent(gradient: Any, loss: Any, counts: tuple[Any, Any], age: Any) -> Sent:
    num_clamped, lost = counts
    flat, _ = ravel_pytree(gradient)
    return Sent(flat, jnp.all(jnp.isfinite(flat)), loss, num_clamped, lost.astype(jnp.int32), age)


def _check(num_pairs: int, mesh: jax.sharding.Mesh, options: EstimatorOptions) -> None:
    if num_pairs < 1:
        raise ValueError(f"num_pairs: {num_pairs} must be at least 1")
    for name in ("sign_scale", "max_difference", "pairs_per_task"):
        value = getattr(options, name)
        if value != getattr(PLAIN, name):
            raise ValueError(f"{name}: {value} is about perturbations, which backpropagation has none of; drop it")
    if mesh.size != mesh.shape[PARTICLES]:
        raise ValueError(f"mesh: {dict(mesh.shape)} spreads a task over devices; backpropagation needs it on one")
