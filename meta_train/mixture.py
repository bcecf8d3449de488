"""The meta-trainer: one learned optimizer on one task family, or on a mixture of several families and (K, H).

Every component has its own compiled estimate (its unroll has shapes of its own) and its own particles; a meta-step runs
all of them, or k of the n drawn without replacement, and takes one step on theta along

    g = n/k * sum_{c drawn} w_c g_c / sum_c w_c,        E[g] = sum_c w_c g_c / sum_c w_c

Losses are normalised per family (see `unroll`), which makes the components' meta-gradients commensurable. Which
components are drawn depends on the seed and the meta-step alone, so a resumed run draws the same. A single family is a
mixture of one, whose estimate and update are one program.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from learned_opt.base import LearnedOptimizer, Theta
from meta_train.estimators.averaging import merge_infos
from meta_train.estimators.base import GradientEstimator
from meta_train.flat_theta import FlatTheta, flat_form
from meta_train.meta_update import MetaStepInfo, MetaTrainState, MetaUpdate


class BuiltComponent(NamedTuple):
    """One component of a mixture, built.

    Attributes:
      estimator: of its meta-gradient.
      data_at: meta-step -> the data of its family, on the devices, always of the same shapes.
      weight: of its meta-gradient, positive.
    """

    estimator: GradientEstimator
    data_at: Callable[[int], Any]
    weight: float = 1.0


class MetaTrainer(NamedTuple):
    """A meta-trainer.

    Attributes:
      init: key -> MetaTrainState.
      step: state -> (state, MetaStepInfo); compiled once for each component, donates its argument.
      lower: state, or its shapes -> the programs of a meta-step by name, lowered but not compiled.
      lopt: the learned optimizer being trained.
      unravel: vector -> theta in the tree of `lopt`.
      card: what an exported optimizer says it was trained on, JSON values.
      local_opt: what its workers ran, for `learned_opt.save`; None where there is no one recipe.
    """

    init: Callable[[jax.Array], MetaTrainState]
    step: Callable[[MetaTrainState], tuple[MetaTrainState, MetaStepInfo]]
    lower: Callable[[Any], dict[str, jax.stages.Lowered]]
    lopt: LearnedOptimizer
    unravel: Callable[[FlatTheta], Theta]
    card: Mapping[str, Any] = {}
    local_opt: Mapping[str, Any] | None = None


def draw_components(seed: int, meta_step: int, num_components: int, num_drawn: int) -> list[int]:
    """Which components a meta-step runs, in ascending order.

    The raw output of Philox (Salmon et al. 2011) for this key and counter: NumPy promises it for all versions, which
    it does not for `Generator`'s methods.
    """
    words = np.random.Philox(key=seed, counter=meta_step).random_raw(num_components)
    return sorted(np.argsort(words, kind="stable")[:num_drawn].tolist())


def mixture_trainer(
    lopt: LearnedOptimizer,
    components: Mapping[str, BuiltComponent],
    update: MetaUpdate,
    *,
    components_per_step: int = 0,
    seed: int = 0,
) -> MetaTrainer:
    """Builds the trainer; the particles' state is a dict with one entry a component.

    Args:
      lopt: what is trained.
      components: by name, at least one.
      update: of theta, over the mesh of all the estimators.
      components_per_step: how many a meta-step draws; 0 takes all.
      seed: of the draw.
    """
    names = list(components)
    num_drawn = components_per_step or len(names)
    total = sum(component.weight for component in components.values())
    scales = np.asarray([c.weight * len(names) / (num_drawn * total) for c in components.values()], np.float32)
    form = flat_form(lopt)

    def init(key):
        theta_key, particles_key, root = jax.random.split(key, 3)
        theta = form.ravel(lopt.init(theta_key))
        particles = {
            name: component.estimator.init(theta, jax.random.fold_in(particles_key, index), component.data_at(0))
            for index, (name, component) in enumerate(components.items())
        }
        return update.init(theta, root)._replace(particles=particles)

    def estimate_of(index, component):
        def estimate(theta, particles, root, meta_step, data):
            key = jax.random.fold_in(root, meta_step)
            if len(names) > 1:
                key = jax.random.fold_in(key, index)
            return component.estimator.estimate(theta, particles, key, meta_step, data)

        return estimate

    def apply(state, gradients, infos, scales):
        stacked = jnp.stack(gradients)
        state, info = update.apply(state, jnp.sum(stacked * scales[:, None], axis=0), merge_infos(infos))
        return state, info, jnp.linalg.norm(stacked, axis=1)

    estimates = [estimate_of(index, component) for index, component in enumerate(components.values())]
    if len(names) == 1:
        programs = _one_program(names[0], estimates[0], update)
    else:
        programs = _program_each(names, estimates, apply, scales)
    counter = _StepCounter()

    def step(state):
        meta_step = counter.read(state.step)
        drawn = draw_components(seed, meta_step, len(names), num_drawn)
        state, info = programs.run(state, drawn, [components[names[index]].data_at(meta_step) for index in drawn])
        counter.advance(state.step)
        return state, info

    def lower(state):
        return programs.lower(state, num_drawn, [component.data_at(0) for component in components.values()])

    return MetaTrainer(init, step, lower, lopt, form.unravel)


class _Programs(NamedTuple):
    """The compiled programs of a meta-step.

    Attributes:
      run: (state, components drawn, the data of each of them) -> (state, MetaStepInfo).
      lower: (state or its shapes, number of components drawn, the data of every component) -> the programs by name.
    """

    run: Callable[[MetaTrainState, list[int], list[Any]], tuple[MetaTrainState, MetaStepInfo]]
    lower: Callable[[Any, int, list[Any]], dict[str, jax.stages.Lowered]]


def _one_program(name: str, estimate: Callable[..., Any], update: MetaUpdate) -> _Programs:
    """Estimate and update compiled together."""

    def meta_step(state, data):
        gradient, particles, info = estimate(state.theta, state.particles[name], state.key, state.step, data)
        return update.apply(state._replace(particles={name: particles}), gradient, info)

    program = jax.jit(meta_step, donate_argnums=(0,))
    return _Programs(
        run=lambda state, drawn, data: program(state, data[0]),
        lower=lambda state, num_drawn, data: {"meta_step": program.lower(state, data[0])},
    )


def _program_each(
    names: list[str], estimates: list[Callable[..., Any]], apply: Callable[..., Any], scales: np.ndarray
) -> _Programs:
    """A program for the estimate of each component, and one for the update."""
    compiled = [jax.jit(estimate, donate_argnums=(1,)) for estimate in estimates]
    compiled_apply = jax.jit(apply, donate_argnums=(0,))

    def run(state, drawn, data):
        particles = dict(state.particles)
        gradients, infos = [], []
        for index, own_data in zip(drawn, data, strict=True):
            name = names[index]
            gradient, particles[name], info = compiled[index](
                state.theta, particles[name], state.key, state.step, own_data
            )
            gradients.append(gradient)
            infos.append(info)
        state, info, norms = compiled_apply(state._replace(particles=None), gradients, infos, scales[drawn])
        by_component = {}
        for position, index in enumerate(drawn):
            by_component[f"meta_loss/{names[index]}"] = infos[position].meta_loss
            by_component[f"gradient_norm/{names[index]}"] = norms[position]
        return state._replace(particles=particles), info._replace(by_component=by_component)

    def lower(state, num_drawn, data):
        programs, gradients, infos = {}, [], []
        for name, estimate, own_data in zip(names, compiled, data, strict=True):
            programs[name] = estimate.lower(state.theta, state.particles[name], state.key, state.step, own_data)
            gradient, _, info = programs[name].out_info
            gradients.append(gradient)
            infos.append(info)
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (gradients, infos))
        drawn_shapes = [part[:num_drawn] for part in shapes]
        programs["update"] = compiled_apply.lower(state._replace(particles=None), *drawn_shapes, scales[:num_drawn])
        return programs

    return _Programs(run, lower)


class _StepCounter:
    """Meta-steps done, on the host. To read them from the device would wait for the meta-step that still runs there,
    so the number is remembered with the array that a step returned, and any other array is read."""

    def __init__(self) -> None:
        self._array: Any = None
        self._step = 0

    def read(self, step: Int[Array, ""]) -> int:
        """The meta-step of a state about to be stepped, given its `step`."""
        if step is not self._array:
            self._array, self._step = step, int(step)
        return self._step

    def advance(self, step: Int[Array, ""]) -> None:
        """Remembers the `step` of the state that came out of the one last read."""
        self._array, self._step = step, self._step + 1
