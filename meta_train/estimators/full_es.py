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
from meta_train.estimators.pairs import antithetic, check_pairs, pair_keys, shape_difference, sigma_at
from meta_train.estimators.particle_mesh import default_chunk, map_particles
from meta_train.estimators.truncation import TruncationSchedule
from meta_train.estimators.unroll import Unroll


def full_es(
    unroll: Unroll,
    schedule: TruncationSchedule,
    *,
    num_pairs: int,
    truncation_length: int,
    sigma: Sigma,
    mesh: jax.sharding.Mesh,
    options: EstimatorOptions = PLAIN,
) -> GradientEstimator:
    """Builds the estimator; it has no state, and ages are the episode's length. Arguments and errors as in
    `meta_train.estimators.pes.pes`."""
    check_pairs(num_pairs, sigma, options)

    def run_pair(shared, pair_id, state):
        theta, key, meta_step, num_truncations, data = shared
        episode_key, noise_key, step_key = pair_keys(key, pair_id, options.pairs_per_task)
        scale = sigma_at(sigma, meta_step)
        eps = scale * jax.random.normal(noise_key, ravel_pytree(theta)[0].shape)
        members = antithetic(theta, eps)
        inner = unroll.reset(theta, episode_key, data)

        def one_truncation(index, carry):
            inner, losses, num_clamped, lost = carry
            inner, info = jax.vmap(unroll.step, in_axes=(0, 0, None, None))(
                members, inner, jax.random.fold_in(step_key, index), data
            )
            return inner, losses + jnp.mean(info.losses, axis=1), num_clamped + info.num_clamped, lost & diverged(info)

        inner = jax.tree.map(lambda x: jnp.stack([x, x]), inner)
        start = (inner, jnp.zeros(2), jnp.zeros(2, jnp.int32), jnp.ones(2, bool))
        _, losses, num_clamped, lost = jax.lax.fori_loop(0, num_truncations, one_truncation, start)
        losses = losses / num_truncations.astype(losses.dtype)
        difference = losses[0] - losses[1]
        length = num_truncations * truncation_length
        sent = Sent(
            gradient=eps * (shape_difference(difference, options) / (2 * scale**2)),
            finite=jnp.isfinite(difference),
            loss=jnp.mean(losses),
            num_clamped=jnp.sum(num_clamped),
            num_diverged=jnp.sum(lost).astype(jnp.int32),
            age=length,
        )
        return state, sent

    over_pairs = map_particles(run_pair, mesh, options.chunk or default_chunk(num_pairs))

    def estimate(theta, state, key, meta_step, data):
        length_key, pairs_key = jax.random.split(key)
        num_truncations = schedule(length_key, meta_step) // truncation_length
        state, sent = over_pairs((theta, pairs_key, meta_step, num_truncations, data), num_pairs, state)
        gradient, info = average(sent, options.pairs_per_task)
        return ravel_pytree(theta)[1](gradient), state, info

    return GradientEstimator(lambda theta, key, data: (), estimate)
