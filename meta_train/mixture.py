"""Meta-training on several task families, or several (K, H), at once.

Every member has its own compiled estimate (its unroll has shapes of its own) and its own particles; a meta-step runs
all of them, or k of the n drawn without replacement, and takes one step on theta along

    g = n/k * sum_{c drawn} w_c g_c / sum_c w_c,        E[g] = sum_c w_c g_c / sum_c w_c

Losses are normalised per family (see `unroll`), which makes the members' meta-gradients commensurable; "clipped"
bounds each one's norm in addition, so that no member's outlier takes over the step. Which members are drawn depends on
the seed and the meta-step alone, so a resumed run draws the same.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from learned_opt.base import LearnedOptimizer
from meta_train.estimators.base import EstimatorInfo, GradientEstimator
from meta_train.meta_update import StepCounter, Trainer, TrainerState, meta_update


class Member(NamedTuple):
    """One component of a mixture, built.

    Attributes:
      estimator: of its meta-gradient.
      data_at: meta-step -> the data of its family, on the devices, always of the same shapes.
      weight: of its meta-gradient, positive.
    """

    estimator: GradientEstimator
    data_at: Callable[[int], Any]
    weight: float


def draw_members(seed: int, meta_step: int, num_members: int, num_drawn: int) -> list[int]:
    """Which members a meta-step runs, in ascending order.

    The raw output of Philox (Salmon et al. 2011) for this key and counter: NumPy promises it for all versions, which
    it does not for `Generator`'s methods.
    """
    words = np.random.Philox(key=seed, counter=meta_step).random_raw(num_members)
    return sorted(np.argsort(words, kind="stable")[:num_drawn].tolist())


def mixture_trainer(
    lopt: LearnedOptimizer,
    members: Mapping[str, Member],
    *,
    members_per_step: int,
    clip_members: bool,
    seed: int,
    learning_rate: optax.Schedule,
    weight_decay: float,
    max_gradient_norm: float,
    average_decay: float,
    mesh: jax.sharding.Mesh,
    accumulated_steps: int = 1,
) -> Trainer:
    """Builds the trainer; the particles' state is a dict with one entry a member.

    Args:
      lopt: what is trained.
      members: by name, at least one.
      members_per_step: how many a meta-step draws; 0 takes all.
      clip_members: clip each member's meta-gradient to `max_gradient_norm` before they are averaged.
      seed: of the draw.
      learning_rate, weight_decay, max_gradient_norm, average_decay, accumulated_steps: of `meta_update`.
      mesh: of all the estimators.
    """
    names = list(members)
    num_drawn = members_per_step or len(names)
    total = sum(member.weight for member in members.values())
    scales = np.asarray([m.weight * len(names) / (num_drawn * total) for m in members.values()], np.float32)
    update = meta_update(learning_rate, weight_decay, max_gradient_norm, average_decay, mesh, accumulated_steps)
    counter = StepCounter()

    def init(key):
        theta_key, estimator_key, root = jax.random.split(key, 3)
        theta = lopt.init(theta_key)
        particles = {
            name: member.estimator.init(theta, jax.random.fold_in(estimator_key, index), member.data_at(0))
            for index, (name, member) in enumerate(members.items())
        }
        return update.init(theta, root)._replace(estimator_state=particles)

    def estimate_of(index, member):
        def estimate(theta, particles, root, meta_step, data):
            key = jax.random.fold_in(jax.random.fold_in(root, meta_step), index)
            gradient, particles, info = member.estimator.estimate(theta, particles, key, meta_step, data)
            return ravel_pytree(gradient)[0], particles, info

        return jax.jit(estimate, donate_argnums=(1,))

    estimates = [estimate_of(index, member) for index, member in enumerate(members.values())]

    def apply_fn(state, gradients, infos, scales):
        stacked = jnp.stack(gradients)
        norms = jnp.linalg.norm(stacked, axis=1)
        if clip_members:
            # A norm that is not finite must reach the check in `update`.
            scales = scales * jnp.where(norms > max_gradient_norm, max_gradient_norm / norms, 1)
        gradient = ravel_pytree(state.theta)[1](jnp.sum(stacked * scales[:, None], axis=0))
        state, info = update.apply(state, gradient, _merged(infos))
        return state, info, norms

    apply = jax.jit(apply_fn, donate_argnums=(0,))

    def step(state: TrainerState):
        meta_step = counter.read(state.step)
        drawn = draw_members(seed, meta_step, len(names), num_drawn)
        particles = dict(state.estimator_state)
        gradients, infos = [], []
        for index in drawn:
            name = names[index]
            gradient, particles[name], info = estimates[index](
                state.theta, particles[name], state.key, state.step, members[name].data_at(meta_step)
            )
            gradients.append(gradient)
            infos.append(info)
        state, info, norms = apply(state._replace(estimator_state=None), gradients, infos, scales[list(drawn)])
        counter.advance(state.step)
        details = dict(info.details)
        for position, (index, member_info) in enumerate(zip(drawn, infos, strict=True)):
            details[f"meta_loss/{names[index]}"] = member_info.meta_loss
            details[f"gradient_norm/{names[index]}"] = norms[position]
        return state._replace(estimator_state=particles), info._replace(details=details)

    def lower(state):
        programs, gradients, infos = {}, [], []
        for name, estimate in zip(names, estimates, strict=True):
            arguments = (state.theta, state.estimator_state[name], state.key, state.step, members[name].data_at(0))
            programs[name] = estimate.lower(*arguments)
            gradient, _, info = programs[name].out_info
            gradients.append(gradient)
            infos.append(info)
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (gradients, infos))
        drawn_shapes = [part[:num_drawn] for part in shapes]
        programs["update"] = apply.lower(state._replace(estimator_state=None), *drawn_shapes, scales[:num_drawn])
        return programs

    return Trainer(init, step, lopt, lower)


def _merged(infos: Sequence[EstimatorInfo]) -> EstimatorInfo:
    """Sums of what counts, the largest of what is a maximum, means of the rest."""

    def merged(name):
        values = jnp.stack([getattr(info, name) for info in infos])
        if name.startswith("num_"):
            return jnp.sum(values)
        return jnp.max(values) if name.startswith("max_") else jnp.mean(values)

    return EstimatorInfo(**{name: merged(name) for name in EstimatorInfo._fields})
