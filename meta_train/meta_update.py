"""From a meta-gradient to the next theta: a step of the meta-optimizer, and a running average of theta.

The meta-optimizers are in meta_optimizers.py. The exported meta-parameters are an exponential moving average (Polyak &
Juditsky 1992), which removes most of what the noise of single steps leaves in theta. A gradient with a non-finite entry
never reaches theta: the step is skipped and counted.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from meta_train.estimators.base import EstimatorInfo
from meta_train.flat_theta import FlatForm, FlatTheta
from meta_train.processes.distributed import place


class MetaTrainState(NamedTuple):
    """Everything a meta-training run carries; arrays and typed keys only.

    Attributes:
      step: meta-steps taken.
      key: root key of the run; step t uses fold_in(key, t).
      theta: meta-parameters.
      theta_average: their exponential moving average, which is what a run exports.
      opt_state: state of the meta-optimizer.
      particles: states of the estimators, by component.
      num_skipped_in_row: meta-gradients in a row that were not finite.
    """

    step: Int[Array, ""]
    key: jax.Array
    theta: FlatTheta
    theta_average: FlatTheta
    opt_state: Any
    particles: Any
    num_skipped_in_row: Int[Array, ""]


class MetaStepInfo(NamedTuple):
    """Diagnostics of one meta-step.

    Attributes:
      estimate: of the meta-gradient; of a mixture, over the components that took part.
      gradient_norm: global norm of the meta-gradient before clipping.
      num_skipped: 1 if the meta-gradient was not finite and theta stayed.
      num_skipped_in_row: such steps in a row.
      learning_rate: of this step.
      by_component: "meta_loss/NAME" and "gradient_norm/NAME" of the components of a mixture that took part.
    """

    estimate: EstimatorInfo
    gradient_norm: Float[Array, ""]
    num_skipped: Int[Array, ""]
    num_skipped_in_row: Int[Array, ""]
    learning_rate: Float[Array, ""]
    by_component: dict[str, Array]


class MetaUpdate(NamedTuple):
    """The update of theta.

    Attributes:
      init: (theta, root key) -> MetaTrainState without particles, replicated over the mesh.
      apply: (state, meta-gradient, EstimatorInfo) -> (state, MetaStepInfo); the particles stay as they are.
    """

    init: Callable[[FlatTheta, jax.Array], MetaTrainState]
    apply: Callable[[MetaTrainState, FlatTheta, EstimatorInfo], tuple[MetaTrainState, MetaStepInfo]]


def meta_update(
    optimizer: optax.GradientTransformation,
    learning_rate: optax.Schedule,
    average_decay: float,
    form: FlatForm,
    mesh: jax.sharding.Mesh,
    trained: Bool[np.ndarray, "n"] | None = None,
) -> MetaUpdate:
    """Builds the update.

    Args:
      optimizer: of theta, one of META_OPTIMIZERS; it is given a vector.
      learning_rate: its schedule over meta-steps, reported only.
      average_decay: of the running average of theta; it starts smaller, at (1 + t) / (10 + t).
      form: of theta.
      mesh: of the particles; everything else is replicated over it.
      trained: which entries of theta move; the others keep their bits. None: all.
    """

    def init(theta, root):
        state = MetaTrainState(
            step=jnp.int32(0),
            key=root,
            theta=theta,
            theta_average=jnp.copy(theta),
            opt_state=optimizer.init(theta),
            particles=None,
            num_skipped_in_row=jnp.int32(0),
        )
        # Placed as a step returns it, or the second step would compile again.
        return place(state, jax.NamedSharding(mesh, jax.P()))

    def apply(state, gradient, estimate):
        # Tensor by tensor: in this order the norm was always summed, and another has other last bits.
        by_tensor = form.unravel(gradient)
        norm = optax.tree.norm(by_tensor)
        finite = jnp.isfinite(norm)
        safe = form.ravel(jax.tree.map(lambda g: jnp.where(finite, g, 0), by_tensor))
        updates, opt_state = optimizer.update(safe, state.opt_state, state.theta)
        theta: Any = optax.apply_updates(state.theta, updates)
        decay = jnp.minimum(average_decay, (1 + state.step) / (10 + state.step))
        average = decay * state.theta_average + (1 - decay) * theta
        if trained is not None:
            theta, average = _select(jnp.asarray(trained), (theta, average), (state.theta, state.theta_average))
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
        return new_state, MetaStepInfo(
            estimate=estimate,
            gradient_norm=norm,
            num_skipped=(~finite).astype(jnp.int32),
            num_skipped_in_row=skipped_in_row,
            learning_rate=jnp.asarray(learning_rate(state.step), jnp.float32),
            by_component={},
        )

    return MetaUpdate(init, apply)


def _select(condition: Bool[Array, "*n"], new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)
