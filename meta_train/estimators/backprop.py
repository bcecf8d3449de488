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

from meta_train.estimators.averaging import ParticleEstimate, average, diverged
from meta_train.estimators.base import Estimator, GradientEstimator, Particles
from meta_train.estimators.episodes import Episode, begin_episode, episode_shapes, restart_if_ended
from meta_train.estimators.particle_mesh import PARTICLES, map_particles
from meta_train.estimators.truncation import TruncationSchedule
from meta_train.estimators.unroll import Unroll
from meta_train.flat_theta import FlatTheta


def truncated_backprop(unroll: Unroll, schedule: TruncationSchedule, particles: Particles) -> GradientEstimator:
    """Builds the truncated form; its state is the tasks' `Episode`s.

    Args:
      unroll: truncated inner training.
      schedule: episode lengths.
      particles: see there; one particle a task, and no sigma.

    Raises:
      ValueError: pairs, which there are none of, or a mesh that spreads a task over devices.
    """
    _check(particles)
    sharding = jax.NamedSharding(particles.mesh, jax.P(PARTICLES))
    begin = begin_episode(unroll, schedule)

    def init(theta, key, data):
        shapes = episode_shapes(begin, theta, key, data)
        return jax.tree.map(lambda x: jnp.zeros((particles.num_tasks, *x.shape), x.dtype, device=sharding), shapes)

    def step_task(shared, task_id, episode):
        theta, key, meta_step, data = shared
        episode_key, step_key = jax.random.split(jax.random.fold_in(key, task_id))
        episode = restart_if_ended(begin(theta, episode_key, meta_step, data, episode.unroll_length == 0), episode)

        def truncation_loss(theta):
            inner, info = unroll.step(theta, episode.inner, step_key, data)
            return jnp.mean(info.losses), (inner, (info.num_clamped, diverged(info)))

        (loss, (inner, counts)), gradient = jax.value_and_grad(truncation_loss, has_aux=True)(theta)
        age = episode.age + unroll.truncation_length
        gradient = particles.only_trained(gradient)
        return Episode(inner, age, episode.unroll_length), _estimate(gradient, loss, counts, age)

    over_tasks = map_particles(step_task, particles.mesh)

    def estimate(theta, state, key, meta_step, data):
        state, estimates = over_tasks((theta, key, meta_step, data), particles.num_tasks, state)
        gradient, info = average(estimates, pairs_per_task=1)
        return gradient, state, info

    return GradientEstimator(init, estimate)


def full_backprop(unroll: Unroll, schedule: TruncationSchedule, particles: Particles) -> GradientEstimator:
    """Builds the form over whole episodes; it has no state, and ages are the episode's length.

    As in `meta_train.estimators.full_es`, all tasks of an estimate share a length. Memory is reserved for the longest
    episode of the schedule. Arguments and errors are those of `truncated_backprop`.
    """
    _check(particles)
    truncation_length = unroll.truncation_length

    def run_task(shared, task_id, state):
        theta, key, num_truncations, data = shared
        episode_key, step_key = jax.random.split(jax.random.fold_in(key, task_id))
        length = num_truncations * truncation_length

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

            inner = unroll.reset(theta, episode_key, data, length)
            indices = jnp.arange(schedule.longest // truncation_length)
            _, (losses, num_clamped, kept) = jax.lax.scan(until_the_end, inner, indices)
            return jnp.sum(losses) / num_truncations.astype(losses.dtype), (jnp.sum(num_clamped), ~jnp.any(kept))

        (loss, counts), gradient = jax.value_and_grad(episode_loss, has_aux=True)(theta)
        return state, _estimate(particles.only_trained(gradient), loss, counts, length)

    over_tasks = map_particles(run_task, particles.mesh)

    def estimate(theta, state, key, meta_step, data):
        length_key, tasks_key = jax.random.split(key)
        num_truncations = schedule.length(length_key, meta_step) // truncation_length
        state, estimates = over_tasks((theta, tasks_key, num_truncations, data), particles.num_tasks, state)
        gradient, info = average(estimates, pairs_per_task=1)
        return gradient, state, info

    return GradientEstimator(lambda theta, key, data: (), estimate)


TRUNCATED_BACKPROP = Estimator(truncated_backprop, differentiates=True, whole_episodes=False)
FULL_BACKPROP = Estimator(full_backprop, differentiates=True, whole_episodes=True)


def _estimate(gradient: FlatTheta, loss: Any, counts: tuple[Any, Any], age: Any) -> ParticleEstimate:
    num_clamped, lost = counts
    return ParticleEstimate(gradient, jnp.all(jnp.isfinite(gradient)), loss, num_clamped, lost.astype(jnp.int32), age)


def _check(particles: Particles) -> None:
    if particles.num_tasks < 1:
        raise ValueError(f"num_tasks={particles.num_tasks}: use at least 1")
    if particles.pairs_per_task != 1:
        raise ValueError(f"pairs_per_task={particles.pairs_per_task}: use 1, backpropagation has no pairs")
    if particles.mesh.size != particles.mesh.shape[PARTICLES]:
        raise ValueError(
            f"mesh={dict(particles.mesh.shape)}: use one device a task, backpropagation does not spread workers"
        )
