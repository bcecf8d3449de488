"""What PES, NRES and truncated ES share: antithetic pairs of particles that train on from truncation to truncation.

Each pair perturbs theta by +eps and -eps and runs one truncation of its task under both; the two signs share every key
and batch. With L their mean loss over the rounds of the truncation, a pair's estimate of the meta-gradient is

    g_i = direction_i * (L+_i - L-_i) / (2 sigma^2)

and the estimators differ in the perturbation, the direction and the state they carry on with. Each pair's episode ends
at its own time.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from meta_train.estimators.averaging import ParticleEstimate, average, diverged
from meta_train.estimators.base import Estimator, GradientEstimator, Particles
from meta_train.estimators.episodes import Episode, begin_episode, choose, episode_shapes, restart_if_ended
from meta_train.estimators.particle_mesh import map_particles, new_particles
from meta_train.estimators.resume_buffer import Slot, draw_slot, empty_buffer, store
from meta_train.estimators.truncation import TruncationSchedule
from meta_train.estimators.unroll import InnerState, Unroll
from meta_train.flat_theta import FlatTheta


class PairState(NamedTuple):
    """State of the pairs; every leaf has a leading [pairs] axis.

    Attributes:
      inner: inner states, [pairs, 2, ...], positive sign first; [pairs, 1, ...] where both signs start a truncation
        from the same.
      accumulator: what is remembered of the perturbations of the episode; see the rule.
      age: rounds since the episode began.
      unroll_length: rounds the episode lasts; 0 before the first one.
      buffer: a `ResumeBuffer`; () where episodes are not resumed.
    """

    inner: InnerState
    accumulator: Any
    age: Int[Array, "pairs"]
    unroll_length: Int[Array, "pairs"]
    buffer: Any = ()


class Perturbation(NamedTuple):
    """How a pair is perturbed for one truncation, and what its loss difference is worth.

    Attributes:
      eps: added to theta for one sign, subtracted for the other.
      direction: what the loss difference over 2 sigma^2 multiplies.
      accumulator: for the next truncation.
    """

    eps: FlatTheta
    direction: FlatTheta
    accumulator: Any


class PerturbationRule(NamedTuple):
    """What tells the estimators apart.

    Attributes:
      init: zeros [n] -> accumulator, of the right shapes.
      advance: (accumulator, fresh noise [n] of standard deviation sigma, whether an episode begins) -> Perturbation.
      carries_both: whether each sign carries on with its own inner state, rather than both with the positive one's.
    """

    init: Callable[[FlatTheta], Any]
    advance: Callable[[Any, FlatTheta, Bool[Array, ""]], Perturbation]
    carries_both: bool


def by_truncation(rule: PerturbationRule) -> Estimator:
    """The estimator of a rule."""
    return Estimator(functools.partial(pair_estimator, rule), differentiates=False, whole_episodes=False)


def antithetic(theta: FlatTheta, eps: FlatTheta) -> Float[Array, "2 n"]:
    """theta + eps and theta - eps."""
    return jnp.stack([theta + eps, theta - eps])


def pair_keys(key: jax.Array, pair_id: Int[Array, ""], pairs_per_task: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Keys of a pair for one estimate: of its episode and of its rounds, equal for the pairs of a task, between them
    that of its noise."""
    episode_key, noise_key, step_key = jax.random.split(jax.random.fold_in(key, pair_id), 3)
    if pairs_per_task > 1:
        # The noise of task 0's key belongs to pair 0, so no key serves twice.
        episode_key, _, step_key = jax.random.split(jax.random.fold_in(key, pair_id // pairs_per_task), 3)
    return episode_key, noise_key, step_key


def check_perturbed(particles: Particles) -> None:
    """ValueError that names a setting perturbations cannot work with."""
    for name in ("num_tasks", "pairs_per_task"):
        if getattr(particles, name) < 1:
            raise ValueError(f"{name}={getattr(particles, name)}: use at least 1")
    if not particles.sigma > 0:
        raise ValueError(f"sigma={particles.sigma}: use a positive number; only backpropagation needs none")


def pair_estimator(
    rule: PerturbationRule, unroll: Unroll, schedule: TruncationSchedule, particles: Particles
) -> GradientEstimator:
    """Builds the estimator of a rule; its state is a `PairState`.

    Args:
      rule: which one.
      unroll: truncated inner training.
      schedule: episode lengths, and how often episodes are resumed.
      particles: see there; sigma is needed.

    Raises:
      ValueError: fewer than one task or pair, a sigma that is not positive, or several pairs a task whose episodes are
        resumed.
    """
    check_perturbed(particles)
    resume = schedule.resume
    if resume is not None and particles.pairs_per_task > 1:
        raise ValueError(
            f"pairs_per_task={particles.pairs_per_task}: use 1 where episodes are resumed, each from its own states"
        )
    sigma, num_states = particles.sigma, 2 if rule.carries_both else 1
    begin_task = begin_episode(unroll, schedule)

    def begin(*arguments):
        episode = begin_task(*arguments)
        return episode._replace(inner=jax.tree.map(lambda x: jnp.stack([x] * num_states), episode.inner))

    def init(theta, key, data):
        episode = episode_shapes(begin, theta, key, data)
        accumulator = jax.eval_shape(lambda theta: rule.init(jnp.zeros_like(theta)), theta)
        shapes = PairState(episode.inner, accumulator, episode.age, episode.unroll_length)
        if resume is not None:
            slot = Slot(episode.inner, accumulator, episode.age)
            buffer = jax.eval_shape(functools.partial(empty_buffer, num_slots=resume.num_slots), slot)
            shapes = shapes._replace(buffer=buffer)
        return new_particles(shapes, particles.num_pairs, particles.mesh)

    def step_pair(shared, pair_id, state):
        theta, key, meta_step, data = shared
        episode_key, noise_key, step_key = pair_keys(key, pair_id, particles.pairs_per_task)
        fresh = begin(theta, episode_key, meta_step, data, state.unroll_length == 0)
        accumulator, begins = state.accumulator, state.age >= state.unroll_length
        if resume is not None:
            resumes, slot = draw_slot(state.buffer, resume, episode_key)
            fresh = choose(resumes, _resumed(unroll, slot, fresh.unroll_length), fresh)
            accumulator = choose(begins & resumes, slot.accumulator, accumulator)
        inner, age, length = restart_if_ended(fresh, Episode(state.inner, state.age, state.unroll_length))
        before = Slot(inner, accumulator, age)
        noise = particles.only_trained(sigma * jax.random.normal(noise_key, theta.shape))
        perturbation = rule.advance(accumulator, noise, age == 0)
        if not rule.carries_both:
            inner = jax.tree.map(lambda x: x[0], inner)
        inner, info = jax.vmap(unroll.step, in_axes=(0, 0 if rule.carries_both else None, None, None))(
            antithetic(theta, perturbation.eps), inner, step_key, data
        )
        inner = jax.tree.map(lambda x: x[:num_states], inner)
        difference = jnp.mean(info.losses[0] - info.losses[1])
        age = age + unroll.truncation_length
        estimate = ParticleEstimate(
            gradient=perturbation.direction * (difference / (2 * sigma**2)),
            finite=jnp.isfinite(difference),
            loss=jnp.mean(info.losses),
            num_clamped=jnp.sum(info.num_clamped),
            num_diverged=jnp.sum(diverged(info)).astype(jnp.int32),
            age=age,
        )
        buffer = state.buffer
        if resume is not None:
            losses = jnp.mean(info.losses, axis=0)
            buffer = store(buffer, before, losses, begins, age >= length, jnp.any(diverged(info)))
        return PairState(inner, perturbation.accumulator, age, length, buffer), estimate

    over_pairs = map_particles(step_pair, particles.mesh)

    def estimate(theta, state, key, meta_step, data):
        state, estimates = over_pairs((theta, key, meta_step, data), particles.num_pairs, state)
        gradient, info = average(estimates, particles.pairs_per_task)
        return gradient, state, info

    return GradientEstimator(init, estimate)


def _resumed(unroll: Unroll, slot: Slot, num_rounds: Int[Array, ""]) -> Episode:
    """The episode that goes on from a stored state for so many rounds."""
    length = slot.age + num_rounds
    return Episode(jax.vmap(unroll.lengthen, in_axes=(0, None))(slot.inner, length), slot.age, length)
