"""Evolution strategies on whole episodes (Salimans et al. 2017, arXiv 1703.03864): each estimate trains new tasks from
their initial parameters to the end.

    eps ~ N(0, sigma^2 I),   gradient = mean_i eps_i * mean_{t < T}(L+_{i,t} - L-_{i,t}) / (2 sigma^2)

This is the gradient of the smoothed loss of an episode, and the yardstick of the estimators that see a truncation at a
time; it costs an episode per meta-step. The length T is drawn once per estimate and shared by all pairs, as in the code
published with PES, so that no particle waits for another. Episodes count equally here, whereas estimators by truncation
weigh rounds equally, i.e. an episode by its length.
"""

import jax
import jax.numpy as jnp

from meta_train.estimators.averaging import ParticleEstimate, average, diverged
from meta_train.estimators.base import Estimator, GradientEstimator, Particles
from meta_train.estimators.pairs import antithetic, check_perturbed, pair_keys
from meta_train.estimators.particle_mesh import map_particles
from meta_train.estimators.truncation import TruncationSchedule
from meta_train.estimators.unroll import Unroll


def full_es(unroll: Unroll, schedule: TruncationSchedule, particles: Particles) -> GradientEstimator:
    """Builds the estimator; it has no state, and ages are the episode's length. Arguments and errors as in
    `meta_train.estimators.pairs.pair_estimator`."""
    check_perturbed(particles)
    sigma = particles.sigma

    def run_pair(shared, pair_id, state):
        theta, key, num_truncations, data = shared
        episode_key, noise_key, step_key = pair_keys(key, pair_id, particles.pairs_per_task)
        eps = particles.only_trained(sigma * jax.random.normal(noise_key, theta.shape))
        signs = antithetic(theta, eps)
        length = num_truncations * unroll.truncation_length
        inner = unroll.reset(theta, episode_key, data, length)

        def one_truncation(index, carry):
            inner, losses, num_clamped, lost = carry
            inner, info = jax.vmap(unroll.step, in_axes=(0, 0, None, None))(
                signs, inner, jax.random.fold_in(step_key, index), data
            )
            return inner, losses + jnp.mean(info.losses, axis=1), num_clamped + info.num_clamped, lost & diverged(info)

        inner = jax.tree.map(lambda x: jnp.stack([x, x]), inner)
        start = (inner, jnp.zeros(2), jnp.zeros(2, jnp.int32), jnp.ones(2, bool))
        _, losses, num_clamped, lost = jax.lax.fori_loop(0, num_truncations, one_truncation, start)
        losses = losses / num_truncations.astype(losses.dtype)
        difference = losses[0] - losses[1]
        return state, ParticleEstimate(
            gradient=eps * (difference / (2 * sigma**2)),
            finite=jnp.isfinite(difference),
            loss=jnp.mean(losses),
            num_clamped=jnp.sum(num_clamped),
            num_diverged=jnp.sum(lost).astype(jnp.int32),
            age=length,
        )

    over_pairs = map_particles(run_pair, particles.mesh)

    def estimate(theta, state, key, meta_step, data):
        length_key, pairs_key = jax.random.split(key)
        num_truncations = schedule.length(length_key, meta_step) // unroll.truncation_length
        state, estimates = over_pairs((theta, pairs_key, num_truncations, data), particles.num_pairs, state)
        gradient, info = average(estimates, particles.pairs_per_task)
        return gradient, state, info

    return GradientEstimator(lambda theta, key, data: (), estimate)


FULL_ES = Estimator(full_es, differentiates=False, whole_episodes=True)
