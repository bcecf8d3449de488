"""Persistent evolution strategies (Vicol, Metz & Sohl-Dickstein 2021, arXiv 2112.13835).

For each task an antithetic pair of inner states is carried from truncation to truncation; xi sums the perturbations
since the episode began:

    eps ~ N(0, sigma^2 I),   xi <- xi + eps,   gradient = mean_i xi_i * mean_t(L+_{i,t} - L-_{i,t}) / (2 sigma^2)

Both members of a pair share every key and batch; only the perturbation differs. Episodes end at truncation boundaries
only, so xi restarts exactly where a new episode does (the published code restarts it inside the scan, one loss off).
First episodes are shortened at random, so that the pairs' ages are spread from the start.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from learned_opt.base import Theta
from meta_train.gradient_estimator import EstimatorInfo, GradientEstimator
from meta_train.particle_mesh import PARTICLES, default_chunk, map_particles
from meta_train.truncation import TruncationSchedule
from meta_train.unroll import InnerState, Unroll


class PairState(NamedTuple):
    """State of the pairs; every leaf has a leading [pairs] axis.

    Attributes:
      inner: inner states, [pairs, 2, ...], positive perturbation first.
      accumulator: xi, the perturbations summed since the episode began, entries of theta leaf by leaf.
      age: rounds since the episode began.
      unroll_length: rounds the episode lasts.
    """

    inner: InnerState
    accumulator: Float[Array, "pairs n"]
    age: Int[Array, "pairs"]
    unroll_length: Int[Array, "pairs"]


def antithetic(theta: Theta, eps: Float[Array, "n"]) -> Theta:
    """theta + eps and theta - eps, stacked; eps lists the entries of theta leaf by leaf."""
    flat, unravel = ravel_pytree(theta)
    return jax.vmap(unravel)(jnp.stack([flat + eps, flat - eps]))


def pes(
    unroll: Unroll,
    schedule: TruncationSchedule,
    *,
    num_pairs: int,
    truncation_length: int,
    sigma: float,
    mesh: jax.sharding.Mesh,
) -> GradientEstimator:
    """Builds the estimator.

    Args:
      unroll: truncated inner training.
      schedule: episode lengths, rounds.
      num_pairs: tasks, each with one antithetic pair of particles.
      truncation_length: rounds per estimate, that of `unroll`.
      sigma: standard deviation of the perturbation.
      mesh: devices the pairs are spread over, from `make_particle_mesh`.
    """
    chunk = default_chunk(num_pairs)
    sharding = jax.NamedSharding(mesh, jax.P(PARTICLES))

    def new_pair(theta, key, meta_step, data):
        episode_key, length_key, stagger_key = jax.random.split(key, 3)
        inner = unroll.reset(theta, episode_key, data)
        length = schedule(length_key, meta_step)
        # The very first episodes end early, each after a random number of its truncations.
        truncations = length // truncation_length
        shortened = jax.random.randint(stagger_key, (), 1, truncations + 1)
        return PairState(
            inner=jax.tree.map(lambda x: jnp.stack([x, x]), inner),
            accumulator=jnp.zeros_like(ravel_pytree(theta)[0]),
            age=jnp.int32(0),
            unroll_length=jnp.where(meta_step == 0, shortened * truncation_length, length),
        )

    def init(theta, key, data):
        # Episodes of length 0: the first step begins new ones, so nothing is compiled here.
        shapes = jax.eval_shape(new_pair, theta, key, jnp.int32(0), data)
        return jax.tree.map(lambda x: jnp.zeros((num_pairs, *x.shape), x.dtype, device=sharding), shapes)

    def step_pair(shared: Any, particle: Any):
        theta, key, meta_step, data = shared
        pair_id, state = particle
        episode_key, noise_key, step_key = jax.random.split(jax.random.fold_in(key, pair_id), 3)
        ended = state.age >= state.unroll_length
        fresh = new_pair(theta, episode_key, meta_step, data)
        state = jax.tree.map(lambda new, old: jnp.where(ended, new, old), fresh, state)
        # One vector of noise rather than one draw per leaf: a dozen fewer kernels to compile.
        eps = sigma * jax.random.normal(noise_key, state.accumulator.shape)
        inner, info = jax.vmap(unroll.step, in_axes=(0, 0, None, None))(
            antithetic(theta, eps), state.inner, step_key, data
        )
        accumulator = state.accumulator + eps
        difference = jnp.mean(info.losses[0] - info.losses[1])
        gradient = accumulator * (difference / (2 * sigma**2))
        age = state.age + truncation_length
        new_state = PairState(inner, accumulator, age, state.unroll_length)
        sent = (gradient, jnp.mean(info.losses), jnp.sum(info.num_clamped), age)
        return new_state, sent

    over_pairs = map_particles(step_pair, mesh, chunk)

    def estimate(theta, state, key, meta_step, data):
        state, (gradients, losses, num_clamped, ages) = over_pairs(
            (theta, key, meta_step, data), (jnp.arange(num_pairs), state)
        )
        gradient = ravel_pytree(theta)[1](jnp.mean(gradients, axis=0))
        info = EstimatorInfo(
            meta_loss=jnp.mean(losses),
            num_clamped=jnp.sum(num_clamped),
            mean_age=jnp.mean(ages.astype(jnp.float32)),
        )
        return gradient, state, info

    return GradientEstimator(init, estimate)
