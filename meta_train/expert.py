"""Expert supervision: a learned optimizer that at first follows a hand-made one, and imitates its steps.

With a, the share of the expert, the step u and the loss of a round are

    u = a u_expert + (1 - a) u_learned,        L = a I + (1 - a) L_task,
    I = 0.7 (1 - cos(u_learned, u_expert)) + 0.3 min(|log(|u_learned| / |u_expert|)|, 5) / 5,     mean over tensors

and a falls from 1 to 0 over the meta-steps. Both see the same gradients and parameters, each with a state of its own,
so the inner trainings are from the start those of an optimizer that works, where a random theta would diverge and teach
nothing (ELO, July 2026; imitation with a curriculum: Chen et al. 2020, arXiv 2010.09906).

Deviations from ELO: expert and learned optimizer share no accumulators, so that any optax transform can be the expert;
the magnitude is a ratio of norms; both terms are in [0, 2] as they are instead of divided by their spread; and the
share of the imitation in the loss is that of the expert in the step.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from meta_train.estimators.base import GradientEstimator
from meta_train.estimators.unroll import Supervision, Unroll

_DIRECTION, _MAGNITUDE, _LARGEST_LOG_RATIO = 0.7, 0.3, 5.0
_TINY = 1e-30


class SupervisedState(NamedTuple):
    """State of `with_expert`.

    Attributes:
      learned: of the learned optimizer.
      expert: of the expert.
      imitation: I of the last step, scalar.
    """

    learned: Any
    expert: Any
    imitation: Float[Array, ""]


def with_expert(
    learned: optax.GradientTransformation, expert: optax.GradientTransformation, share: Float[Array, ""]
) -> optax.GradientTransformationExtraArgs:
    """Both steps, mixed; extra arguments go to both."""
    learned, expert = optax.with_extra_args_support(learned), optax.with_extra_args_support(expert)

    def init(params):
        return SupervisedState(learned.init(params), expert.init(params), jnp.float32(0))

    def update(updates, state, params=None, **extra):
        own, learned_state = learned.update(updates, state.learned, params, **extra)
        right, expert_state = expert.update(updates, state.expert, params, **extra)
        # Without a share the expert must not matter, however it fares.
        mixed = jax.tree.map(
            lambda u, e: jnp.where(share > 0, share.astype(u.dtype) * e + (1 - share).astype(u.dtype) * u, u),
            own,
            right,
        )
        return mixed, SupervisedState(learned_state, expert_state, imitation_loss(own, right))

    return optax.GradientTransformationExtraArgs(init, update)


def imitation_loss(learned: Any, expert: Any) -> Float[Array, ""]:
    """I above, of two trees of steps; in [0, 1.7], that where it is not finite."""

    def of_tensor(u, e):
        u, e = u.astype(jnp.float32), e.astype(jnp.float32)
        # Scaled first: squares of small steps would underflow.
        size_u, size_e = (jnp.maximum(jnp.max(jnp.abs(x)), _TINY) for x in (u, e))
        u, e = u / size_u, e / size_e
        norm_u, norm_e = (jnp.sqrt(jnp.maximum(jnp.sum(jnp.square(x)), _TINY)) for x in (u, e))
        direction = 1 - jnp.sum(u * e) / (norm_u * norm_e)
        log_ratio = jnp.log(norm_u) + jnp.log(size_u) - jnp.log(norm_e) - jnp.log(size_e)
        magnitude = jnp.minimum(jnp.abs(log_ratio), _LARGEST_LOG_RATIO) / _LARGEST_LOG_RATIO
        return _DIRECTION * direction + _MAGNITUDE * magnitude

    losses = jnp.stack([of_tensor(*pair) for pair in zip(*map(jax.tree.leaves, (learned, expert)), strict=True)])
    most = 2 * _DIRECTION + _MAGNITUDE
    return jnp.mean(jnp.where(jnp.isfinite(losses), jnp.clip(losses, 0, most), most))


def expert_share(meta_step: Int[Array, ""], whole_steps: int, last_step: int) -> Float[Array, ""]:
    """a: 1 up to meta-step `whole_steps`, from there linear to 0 at `last_step`."""
    done = (meta_step.astype(jnp.float32) - whole_steps) / max(last_step - whole_steps, 1)
    return 1 - jnp.clip(done, 0, 1)


SUPERVISION = Supervision(
    share=lambda theta: theta[1],
    imitation=lambda state: optax.tree.get(state, "imitation"),
)
"""For an unroll whose theta is (theta, a) and whose server steps by `with_expert`."""


def supervised(unroll: Unroll) -> Unroll:
    """An unroll whose theta is (theta, a) as one whose data are (a, data), which estimators hand on as they are."""

    def reset(theta, key, share_and_data, num_rounds):
        share, data = share_and_data
        return unroll.reset((theta, share), key, data, num_rounds)  # pyright: ignore[reportArgumentType]

    def step(theta, state, key, share_and_data):
        share, data = share_and_data
        return unroll.step((theta, share), state, key, data)  # pyright: ignore[reportArgumentType]

    return unroll._replace(reset=reset, step=step)


def annealed(estimator: GradientEstimator, whole_steps: int, last_step: int) -> GradientEstimator:
    """An estimator over a `supervised` unroll, with the share that the meta-step has."""

    def init(theta, key, data):
        return estimator.init(theta, key, (jnp.float32(1), data))

    def estimate(theta, state, key, meta_step, data):
        share = expert_share(meta_step, whole_steps, last_step)
        return estimator.estimate(theta, state, key, meta_step, (share, data))

    return GradientEstimator(init, estimate)


def sets_workers(expert: optax.GradientTransformation) -> bool:
    """Whether a transform says how its workers go on, or what is evaluated, which an expert must leave alone."""
    state = jax.eval_shape(expert.init, {"w": jax.ShapeDtypeStruct((2, 2), jnp.float32)})
    fields = ("local_rates", "averaged_params")
    return any(optax.tree.get(state, field, None) is not None for field in fields)
