"""From a meta-gradient to the next theta: an AdamW step, and a running average of theta.

The gradient is clipped by global norm before AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101), because PES
gradients are heavy-tailed and one outlier would otherwise sit in both moments; the exported meta-parameters are an
exponential moving average (Polyak & Juditsky 1992), which removes most of what the noise of single steps leaves in
theta. A gradient with a non-finite entry never reaches theta: the step is skipped and counted.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from learned_opt.base import LearnedOptimizer, Theta
from meta_train.estimators.base import EstimatorInfo
from meta_train.processes.distributed import place


class TrainerState(NamedTuple):
    """Everything a meta-training run carries; arrays and typed keys only.

    Attributes:
      step: meta-steps taken.
      key: root key of the run; step t uses fold_in(key, t).
      theta: meta-parameters.
      theta_average: their exponential moving average, which is what a run exports.
      opt_state: state of the meta-optimizer.
      estimator_state: the particles.
      num_skipped_in_row: meta-gradients in a row that were not finite.
    """

    step: Int[Array, ""]
    key: jax.Array
    theta: Theta
    theta_average: Theta
    opt_state: Any
    estimator_state: Any
    num_skipped_in_row: Int[Array, ""]


class TrainerInfo(NamedTuple):
    """Diagnostics of one meta-step.

    Attributes:
      meta_loss: mean normalised loss over particles and rounds (1 = a constant guess).
      gradient_norm: global norm of the meta-gradient before clipping.
      num_clamped: rounds whose loss was clipped or not finite.
      num_skipped: 1 if the meta-gradient was not finite and theta stayed.
      num_skipped_in_row: such steps in a row.
      mean_age: mean age of the particles, rounds.
      learning_rate: of this step.
      details: scalars by name: what else the estimator reports, and in a mixture "meta_loss/NAME" and
        "gradient_norm/NAME" of the components that took part.
    """

    meta_loss: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    num_clamped: Int[Array, ""]
    num_skipped: Int[Array, ""]
    num_skipped_in_row: Int[Array, ""]
    mean_age: Float[Array, ""]
    learning_rate: Float[Array, ""]
    details: dict[str, Array] | None = None


class Trainer(NamedTuple):
    """A meta-trainer.

    Attributes:
      init: key -> TrainerState.
      step: state -> (state, TrainerInfo); compiled once (a mixture: once a component), donates its argument.
      lopt: the learned optimizer being trained.
      lower: state, or its shapes -> the programs of a meta-step by name, lowered but not compiled.
    """

    init: Callable[[jax.Array], TrainerState]
    step: Callable[[TrainerState], tuple[TrainerState, TrainerInfo]]
    lopt: LearnedOptimizer
    lower: Callable[[Any], dict[str, jax.stages.Lowered]] | None = None


class StepCounter:
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


class MetaUpdate(NamedTuple):
    """The update of theta.

    Attributes:
      init: (theta, root key) -> TrainerState without particles, replicated over the mesh.
      apply: (state, meta-gradient, EstimatorInfo) -> (state, TrainerInfo); the particles stay as they are.
    """

    init: Callable[[Theta, jax.Array], TrainerState]
    apply: Callable[[TrainerState, Theta, EstimatorInfo], tuple[TrainerState, TrainerInfo]]


def meta_update(
    learning_rate: optax.Schedule,
    weight_decay: float,
    max_gradient_norm: float,
    average_decay: float,
    mesh: jax.sharding.Mesh,
    accumulated_steps: int = 1,
) -> MetaUpdate:
    """Builds the update.

    Args:
      learning_rate: schedule over meta-steps.
      weight_decay: of AdamW.
      max_gradient_norm: the meta-gradient is clipped to it.
      average_decay: of the running average of theta; it starts smaller, at (1 + t) / (10 + t).
      mesh: of the particles; everything else is replicated over it.
      accumulated_steps: meta-steps whose meta-gradients are averaged into one step of theta.
    """

    # Flattened to one vector: every operation is elementwise or a norm, and compiles once instead of once per leaf.
    def rate(updates_done):
        return learning_rate(updates_done if accumulated_steps == 1 else updates_done * accumulated_steps)

    optimizer = optax.chain(
        optax.clip_by_global_norm(max_gradient_norm),
        optax.adamw(rate, weight_decay=weight_decay),
    )
    if accumulated_steps > 1:
        optimizer = optax.MultiSteps(optimizer, accumulated_steps).gradient_transformation()
    optimizer = optax.flatten(optimizer)

    def init(theta, root):
        state = TrainerState(
            step=jnp.int32(0),
            key=root,
            theta=theta,
            theta_average=jax.tree.map(jnp.copy, theta),
            opt_state=optimizer.init(theta),
            estimator_state=None,
            num_skipped_in_row=jnp.int32(0),
        )
        # Placed as a step returns it, or the second step would compile again.
        return place(state, jax.NamedSharding(mesh, jax.P()))

    def apply(state, gradient, info):
        norm = optax.tree.norm(gradient)
        finite = jnp.isfinite(norm)
        safe = jax.tree.map(lambda g: jnp.where(finite, g, 0), gradient)
        updates, opt_state = optimizer.update(safe, state.opt_state, state.theta)
        theta = optax.apply_updates(state.theta, updates)
        decay = jnp.minimum(average_decay, (1 + state.step) / (10 + state.step))
        average = jax.tree.map(lambda a, t: decay * a + (1 - decay) * t, state.theta_average, theta)
        theta, average, opt_state = _select(
            finite,
            (theta, average, opt_state),
            (state.theta, state.theta_average, state.opt_state),
        )
        skipped_in_row = jnp.where(finite, 0, state.num_skipped_in_row + 1).astype(jnp.int32)
        new_state = state._replace(
            step=state.step + 1,
            theta=theta,
            theta_average=average,
            opt_state=opt_state,
            num_skipped_in_row=skipped_in_row,
        )
        return new_state, TrainerInfo(
            meta_loss=info.meta_loss,
            gradient_norm=norm,
            num_clamped=info.num_clamped,
            num_skipped=(~finite).astype(jnp.int32),
            num_skipped_in_row=skipped_in_row,
            mean_age=info.mean_age,
            learning_rate=jnp.asarray(learning_rate(state.step), jnp.float32),
            details=_details(info),
        )

    return MetaUpdate(init, apply)


def _details(info: EstimatorInfo) -> dict[str, Array]:
    """What a TrainerInfo has no field for; `num_skipped` means something else of a meta-step."""
    values = info._asdict()
    for name in ("meta_loss", "num_clamped", "mean_age"):
        del values[name]
    values["num_skipped_estimates"] = values.pop("num_skipped")
    return values


def _select(condition: Bool[Array, ""], new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)
