"""Meta-parameters of the per-parameter MLP optimizers: decay offsets and the MLP."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from learned_opt.base import Theta
from learned_opt.per_parameter.adafac_features import num_features
from learned_opt.per_parameter.mlp import init_mlp


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
