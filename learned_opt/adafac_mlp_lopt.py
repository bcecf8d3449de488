"""Per-parameter MLP optimizer with Adafactor features (`AdafacMLPLOpt`, Metz et al. 2022, arXiv 2203.11860).

x <- x - step_mult * d * exp(exp_mult * m),     (d, m) = MLP(features of gradient, parameter and accumulators)
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from learned_opt.base import LearnedOptimizer, Theta
from learned_opt.features import num_features
from learned_opt.mlp import init_mlp
from learned_opt.per_parameter import per_parameter_transform


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


def adafac_mlp_lopt(
    hidden_size: int = 32,
    hidden_layers: int = 2,
    exp_mult: float = 1e-3,
    step_mult: float = 1e-3,
) -> LearnedOptimizer:
    """A single-machine learned optimizer reading gradients.

    Args:
      hidden_size: units per hidden layer (the published one has 4).
      hidden_layers: hidden layers of the MLP.
      exp_mult: multiplies the log magnitude.
      step_mult: multiplies the step.

    Returns:
      The optimizer; its state holds 4 floats per parameter plus factored moments.
    """
    check_sizes(hidden_size, hidden_layers)
    config = {
        "architecture": "adafac_mlp_lopt",
        "hidden_size": hidden_size,
        "hidden_layers": hidden_layers,
        "exp_mult": exp_mult,
        "step_mult": step_mult,
    }
    return LearnedOptimizer(
        init=lambda key: init_theta(key, 1, hidden_size, hidden_layers, zero_output=False),
        transform=lambda theta: per_parameter_transform(
            theta, num_workers=None, exp_mult=exp_mult, step_mult=step_mult, sign=1.0, nominal=None
        ),
        config=config,
    )
