"""Per-parameter MLP optimizer with Adafactor features (`AdafacMLPLOpt`, Metz et al. 2022, arXiv 2203.11860).

x <- x - step_mult * d * exp(exp_mult * m),     (d, m) = MLP(features of gradient, parameter and accumulators)

`nominal="adam"` anchors it on Adam's step (see `per_parameter`): the learned step is a correction, zero before
meta-training, in units of Adam's learning rate.
"""

from __future__ import annotations

import jax
import optax

from learned_opt.base import LearnedOptimizer
from learned_opt.per_parameter.adafac_features import LARGEST_GRADIENT
from learned_opt.per_parameter.output_rule import (
    check_nominal,
    default_step_mult,
    exponential_step,
    unscaled_exponential_step,
)
from learned_opt.per_parameter.theta import check_sizes, init_theta
from learned_opt.per_parameter.transform import Given, Inputs, per_parameter_transform

NOMINALS = ("none", "adam")


def adafac_mlp_lopt(
    hidden_size: int = 32,
    hidden_layers: int = 2,
    exp_mult: float = 1e-3,
    step_mult: float | jax.Array | None = None,
    nominal: str = "none",
    nominal_learning_rate: float = 0.01,
) -> LearnedOptimizer:
    """A single-machine learned optimizer reading gradients.

    Args:
      hidden_size: units per hidden layer (the published one has 4).
      hidden_layers: hidden layers of the MLP.
      exp_mult: multiplies the log magnitude.
      step_mult: multiplies the step; 1e-3 in the published form, 3 (times Adam's learning rate) with a nominal step.
      nominal: "none" (the published form) or "adam".
      nominal_learning_rate: of "adam".

    Returns:
      The optimizer; its state holds 4 floats per parameter plus factored moments, and Adam's 2.

    Raises:
      ValueError: for an unknown nominal step or an empty MLP.
    """
    check_sizes(hidden_size, hidden_layers)
    check_nominal(nominal, NOMINALS)
    step_mult = default_step_mult(nominal) if step_mult is None else step_mult
    config = {
        "architecture": "adafac_mlp_lopt",
        "hidden_size": hidden_size,
        "hidden_layers": hidden_layers,
        "exp_mult": exp_mult,
        "step_mult": step_mult,
    }
    adam = None
    if nominal == "adam":
        config |= {"nominal": nominal, "nominal_learning_rate": nominal_learning_rate}
        adam = _adam(nominal_learning_rate)
        # Adam's step does not grow with the gradient, nor does the correction to it.
        step = unscaled_exponential_step(step_mult * nominal_learning_rate, exp_mult)
    else:
        step = exponential_step(step_mult, exp_mult)
    return LearnedOptimizer(
        init=lambda key: init_theta(key, 1, hidden_size, hidden_layers, zero_output=nominal != "none"),
        transform=lambda theta, num_steps=None: per_parameter_transform(
            theta, inputs=_gradient, step=step, nominal=adam
        ),
        config=config,
        reads="gradient",
    )


def _gradient(given: Given) -> Inputs:
    return Inputs(averaged=given.updates, deltas=[given.updates])


def _adam(learning_rate: float) -> optax.GradientTransformation:
    # Squares of larger gradients would overflow and stay.
    adam = optax.chain(optax.clip(LARGEST_GRADIENT), optax.adam(learning_rate))

    def update(updates, state, params=None):
        # Its bias correction raises a float to the power of an integer.
        with jax.numpy_dtype_promotion("standard"):
            return adam.update(updates, state, params)

    return optax.GradientTransformation(adam.init, update)
