"""What PES, NRES and truncated ES share: antithetic pairs of particles that train on from truncation to truncation.

Each pair perturbs theta by +eps and -eps and runs one truncation of its task under both; the members share every key
and batch. With L its mean loss over the rounds of the truncation, a pair's estimate of the meta-gradient is

    g_i = direction_i * (L+_i - L-_i) / (2 * variance_i)

and the estimators differ in the perturbation, the direction and the state they carry on with. Each pair's episode ends
at its own time.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from learned_opt.base import Theta
from meta_train.estimators.base import EstimatorOptions, GradientEstimator, Sent, Sigma, average, diverged
from meta_train.estimators.episodes import Episode, begin_episode, episode_shapes, renew_ended
from meta_train.estimators.particle_mesh import default_chunk, map_particles, new_particles
from meta_train.estimators.truncation import TruncationSchedule
from meta_train.estimators.unroll import InnerState, Unroll


class PairState(NamedTuple):
    """State of the pairs; every leaf has a leading [pairs] axis.

    Attributes:
      inner: inner states, [pairs, 2, ...], positive perturbation first; [pairs, 1, ...] where both members start a
        truncation from the same.
      accumulator: what is remembered of the perturbations of the episode; see the estimator.
      age: rounds since the episode began.
      unroll_length: rounds the episode lasts; 0 before the first one.
    """

    inner: InnerState
    accumulator: Any
    age: Int[Array, "pairs"]
    unroll_length: Int[Array, "pairs"]


class Perturbation(NamedTuple):
    """How a pair is perturbed for one truncation, and what its loss difference is worth.

    Attributes:
      eps: added to theta for one member, subtracted for the other.
      direction: what the loss difference over 2 * variance multiplies.
      variance: a number.
      accumulator: for the next truncation.
    """

    eps: Float[Array, "n"]
    direction: Float[Array, "n"]
    variance: Float[Array, ""] | float
    accumulator: Any


class PerturbationRule(NamedTuple):
    """What tells the estimators apart.

    Attributes:
      init: zeros [n] -> accumulator, of the right shapes.
      advance: (accumulator, fresh noise [n], its sigma, whether a new episode begins) -> Perturbation.
      carries_both: whether each member carries on with its own inner state, rather than both with the positive one's.
    """

    init: Callable[[Float[Array, "n"]], Any]
    advance: Callable[[Any, Float[Array, "n"], Any, Bool[Array, ""]], Perturbation]
    carries_both: bool


def antithetic(theta: Theta, eps: Float[Array, "n"]) -> Theta:
    """theta + eps and theta - eps, stacked; eps lists the entries of theta leaf by leaf."""
    flat, unravel = ravel_pytree(theta)
    return jax.vmap(unravel)(jnp.stack([flat + eps, flat - eps]))


def pair_keys(key: jax.Array, pair_id: Int[Array, ""], pairs_per_task: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Keys of a pair for one estimate: of its episode and of its rounds, equal for the pairs of a task, between them
    that of its noise."""
    episode_key, noise_key, step_key = jax.random.split(jax.random.fold_in(key, pair_id), 3)
    if pairs_per_task > 1:
        # The noise of task 0's key belongs to pair 0, so no key serves twice.
        episode_key, _, step_key = jax.random.split(jax.random.fold_in(key, pair_id // pairs_per_task), 3)
    return episode_key, noise_key, step_key


def sigma_at(sigma: Sigma, meta_step: Int[Array, ""]) -> Any:
    """The standard deviation at a meta-step."""
    return jnp.asarray(sigma(meta_step), jnp.float32) if callable(sigma) else sigma


def shape_difference(difference: Float[Array, ""], options: EstimatorOptions) -> Float[Array, ""]:
    """A pair's loss difference as the options want it."""
    if options.sign_scale is not None:
        return jnp.sign(difference) * options.sign_scale
    if options.max_difference is not None:
        return jnp.clip(difference, -options.max_difference, options.max_difference)
    return difference


def check_pairs(num_pairs: int, sigma: Sigma, options: EstimatorOptions) -> None:
    """Raises a ValueError that names a setting perturbations cannot work with."""
    if num_pairs < 1 or num_pairs % options.pairs_per_task:
        raise ValueError(f"num_pairs: {num_pairs} is not a multiple of pairs_per_task {options.pairs_per_task}")
    if not callable(sigma) and not sigma > 0:
        raise ValueError(f"sigma: {sigma} must be positive; backpropagation needs none")


def pair_estimator(
    rule: PerturbationRule,
    unroll: Unroll,
    schedule: TruncationSchedule,
    *,
    num_pairs: int,
    truncation_length: int,
    sigma: Sigma,
    mesh: jax.sharding.Mesh,
    options: EstimatorOptions,
) -> GradientEstimator:
    """The estimator of a rule; arguments as in `meta_train.estimators.pes.pes`."""
    check_pairs(num_pairs, sigma, options)
    num_states = 2 if rule.carries_both else 1
    begin_task = begin_episode(unroll, schedule, truncation_length)

    def begin(*arguments):
        episode = begin_task(*arguments)
        return episode._replace(inner=jax.tree.map(lambda x: jnp.stack([x] * num_states), episode.inner))

    def init(theta, key, data):
        episode = episode_shapes(begin, theta, key, data)
        accumulator = jax.eval_shape(lambda theta: rule.init(jnp.zeros_like(ravel_pytree(theta)[0])), theta)
        shapes = PairState(episode.inner, accumulator, episode.age, episode.unroll_length)
        return new_particles(shapes, num_pairs, mesh)

    def step_pair(shared, pair_id, state):
        theta, key, meta_step, data = shared
        episode_key, noise_key, step_key = pair_keys(key, pair_id, options.pairs_per_task)
        fresh = begin(theta, episode_key, meta_step, data, state.unroll_length == 0)
        inner, age, length = renew_ended(fresh, Episode(state.inner, state.age, state.unroll_length))
        # One vector of noise rather than one draw per leaf: a dozen fewer kernels to compile.
        scale = sigma_at(sigma, meta_step)
        noise = scale * jax.random.normal(noise_key, ravel_pytree(theta)[0].shape)
        perturbation = rule.advance(state.accumulator, noise, scale, age == 0)
        if not rule.carries_both:
            inner = jax.tree.map(lambda x: x[0], inner)
        inner, info = jax.vmap(unroll.step, in_axes=(0, 0 if rule.carries_both else None, None, None))(
            antithetic(theta, perturbation.eps), inner, step_key, data
        )
        inner = jax.tree.map(lambda x: x[:num_states], inner)
        difference = jnp.mean(info.losses[0] - info.losses[1])
        age = age + truncation_length
        sent = Sent(
            gradient=perturbation.direction * (shape_difference(difference, options) / (2 * perturbation.variance)),
            finite=jnp.isfinite(difference),
            loss=jnp.mean(info.losses),
            num_clamped=jnp.sum(info.num_clamped),
            num_diverged=jnp.sum(diverged(info)).astype(jnp.int32),
            age=age,
        )
        return PairState(inner, perturbation.accumulator, age, length), sent

    over_pairs = map_particles(step_pair, mesh, options.chunk or default_chunk(num_pairs))

    def estimate(theta, state, key, meta_step, data):
        state, sent = over_pairs((theta, key, meta_step, data), num_pairs, state)
        gradient, info = average(sent, options.pairs_per_task)
        return ravel_pytree(theta)[1](gradient), state, info

    return GradientEstimator(init, estimate)
