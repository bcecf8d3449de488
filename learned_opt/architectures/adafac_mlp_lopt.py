"""Per-parameter MLP optimizer with Adafactor features (`AdafacMLPLOpt`, Metz et al. 2022, arXiv 2203.11860).

x <- x - step_mult * d * exp(exp_mult * m),     (d, m) = MLP(features of gradient, parameter and accumulators)

`nominal="adam"` anchors it on Adam's step (see `per_parameter`): the learned step is a correction, zero before
meta-training, in units of Adam's learning rate.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from learned_opt.base import LearnedOptimizer, Theta
from learned_opt.per_parameter.adafac_features import LARGEST_GRADIENT, num_features
from learned_opt.per_parameter.mlp import init_mlp
from learned_opt.per_parameter.transform import per_parameter_transform

NOMINALS = ("none", "adam")
_PUBLISHED_STEP_MULT = 1e-3
_NOMINAL_STEP_MULT = 3.0


def init_theta(key: jax.Array, num_deltas: int, hidden_size: int, hidden_layers: int, zero_output: bool) -> Theta:
    """Untrained meta-parameters: decay offsets 0 and a random MLP."""
    return {
        "momentum_decays": jnp.zeros(3, jnp.float32),
        "rms_decays": jnp.zeros(1, jnp.float32),
        "adafactor_decays": jnp.zeros(3, jnp.float32),
        "mlp": init_mlp(key, num_features(num_deltas), hidden_size, hidden_layers, zero_output),
    }


def check_sizes(hidden_size: int, hidden_layers: int) -> None:
    """ValueError for an MLP without units or layers."""
    if hidden_size < 1:
        raise ValueError(f"hidden_size={hidden_size}: use at least 1 unit")
    if hidden_layers < 1:
        raise ValueError(f"hidden_layers={hidden_layers}: use at least 1 hidden layer")


def check_nominal(nominal: str, choices: tuple[str, ...]) -> None:
    """ValueError for a nominal step that is not among the choices."""
    if nominal not in choices:
        raise ValueError(f"nominal={nominal!r}: use one of {', '.join(choices)}")


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
    if step_mult is None:
        step_mult = _PUBLISHED_STEP_MULT if nominal == "none" else _NOMINAL_STEP_MULT
    config = {
        "architecture": "adafac_mlp_lopt",
        "hidden_size": hidden_size,
        "hidden_layers": hidden_layers,
        "exp_mult": exp_mult,
        "step_mult": step_mult,
    }
    adam, unit = None, 1.0
    if nominal == "adam":
        config |= {"nominal": nominal, "nominal_learning_rate": nominal_learning_rate}
        adam, unit = _adam(nominal_learning_rate), nominal_learning_rate
    return LearnedOptimizer(
        init=lambda key: init_theta(key, 1, hidden_size, hidden_layers, zero_output=adam is not None),
        transform=lambda theta, num_steps=None: per_parameter_transform(
            theta,
            num_workers=None,
            exp_mult=exp_mult,
            step_mult=step_mult * unit,
            sign=1.0,
            nominal=adam,
            grows_with_gradient=False,
        ),
        config=config,
        reads="gradient",
    )


def _adam(learning_rate: float) -> optax.GradientTransformation:
    # Squares of larger gradients would overflow and stay.
    adam = optax.chain(optax.clip(LARGEST_GRADIENT), optax.adam(learning_rate))

    def update(updates, state, params=None):
        # Its bias correction raises a float to the power of an integer.
        with jax.numpy_dtype_promotion("standard"):
            return adam.update(updates, state, params)

    return optax.GradientTransformation(adam.init, update)
